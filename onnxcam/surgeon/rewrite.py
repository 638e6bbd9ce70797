"""The rewriting tool: an exported graph in, the same graph that also returns its feature tensor out."""

import onnx

from onnxcam.errors import ModelError
from onnxcam.surgeon import graph
from onnxcam.surgeon.anatomy import Anatomy
from onnxcam.surgeon.features import expose
from onnxcam.surgeon.loading import ModelSource, read_model
from onnxcam.surgeon.locate import locate


def rewrite(
    source: ModelSource,
    *,
    layer: str = "auto",
    layout: str | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[bytes, Anatomy]:
    """The file's bytes, checked with full shape inference, and what was found in the graph.

    Inputs, outputs and their values stay; the feature tensor is one more output under its own name. Local functions
    are inlined, weights listed as inputs become plain weights, external data comes inside. Raises ModelError.
    """
    model = graph.from_proto(read_model(source).proto)
    anatomy = locate(model, layer=layer, layout=layout, size=size)
    proto = graph.to_proto(expose(model, anatomy.features.tensor, anatomy.features.shape))
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"the rewritten graph does not pass onnx's checker ({reason})") from None
    return proto.SerializeToString(deterministic=True), anatomy
