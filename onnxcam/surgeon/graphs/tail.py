"""The tail: the part of the model behind its feature tensor, as a separate graph, for methods that change features.

features (N,...) -> LOGIT, PROBABILITY (N,T). Built from the model as the scoring graph is, with the same score head.
"""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_heads import add_score_head
from onnxcam.surgeon.graphs.tensor_names import TAIL_FEATURES as TAIL_FEATURES
from onnxcam.surgeon.ir import Model, edit, find_value, new_input, recorded_type, tidy
from onnxcam.surgeon.passes.quantised import scale_of


def tail_model(
    model: Model, anatomy: Anatomy, size: tuple[int, ...], *, batch: int | None, extra: Mapping[str, bool]
) -> Model:
    """The graph from the feature tensor to the scores.

    Inputs: TAIL_FEATURES (N,...) float32, in the feature tensor's axis order; the score head's TARGETS, REGIONS or
    REFERENCES; IMAGE (N,...) if the image also reaches the score by another path; extra inputs that are still read,
    with N samples where they have a batch axis. Outputs: LOGIT, PROBABILITY (N,T) float32. batch, extra: as for
    scoring_model().
    """
    copy = edit(model)
    b = Builder(copy, "onnxcam")
    features = masked_score.tensor_named(copy, anatomy.features.tensor)
    network_input = masked_score.tensor_named(copy, anatomy.image.name)
    count: int | str = batch or "masks"
    recorded = recorded_type(model, anatomy.features.tensor)
    dtype = recorded.dtype if isinstance(recorded, onnx_ir.TensorType) else onnx_ir.DataType.FLOAT
    tail_features = new_input(
        copy, TAIL_FEATURES, onnx_ir.DataType.FLOAT, [count, *(int(d or 0) for d in anatomy.features.shape[1:])]
    )
    quantised = scale_of(features)
    if quantised is not None:
        scale, zero = quantised
        stand_in = b("QuantizeLinear", tail_features, scale, *([zero] if zero is not None else []))
    else:
        stand_in = b.cast(tail_features, dtype)
    head = masked_score.tensor_named(copy, anatomy.logits.tensor)
    is_empty = head is features  # the model's output is the feature tensor itself
    masked_score.rewire(features, stand_in)
    image = new_input(copy, masked_score.IMAGE, onnx_ir.DataType.FLOAT, [count, *anatomy.image.shape(size)[1:]])
    masked_score.rewire(network_input, masked_score.as_input_type(b, image, network_input))
    for name in [n for n, batched in extra.items() if batched]:
        value = find_value(copy, name)
        if value is not None and value.shape is not None:
            value.shape = onnx_ir.Shape([count, *list(value.shape)[1:]])
    copy.graph.outputs.clear()
    scores = add_score_head(copy, b, masked_score.as_float(b, stand_in if is_empty else head), anatomy.logits)
    for value in (scores.logit, scores.probability):
        publish(copy, value, onnx_ir.DataType.FLOAT, [count, "targets"])
    return ir.in_order(tidy(copy))
