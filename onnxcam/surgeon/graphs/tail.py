"""The part of a network behind its feature tensor, as a graph of its own."""

from collections.abc import Mapping

import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_heads import scored
from onnxcam.surgeon.ir import Model, edit, find_value, new_input, recorded_type, tidy
from onnxcam.surgeon.passes.quantised import scale_of

GIVEN = "onnxcam/given_features"


def tail_model(
    model: Model, anatomy: Anatomy, size: tuple[int, ...], *, batch: int | None, extra: Mapping[str, bool]
) -> Model:
    """Takes GIVEN (N,...), the feature tensor as real numbers in its own axes, and gives LOGIT and PROBABILITY (N,T).

    Where the picture reaches the score past the feature tensor too, IMAGE (N,...) is an input as well, as are further
    inputs that are still read, with a row for each N where they have a batch.
    """
    copy = edit(model)
    b = Builder(copy, "onnxcam")
    features = masked_score.value_of(copy, anatomy.features.tensor)
    picture = masked_score.value_of(copy, anatomy.image.name)
    count: int | str = batch or "masks"
    found = recorded_type(model, anatomy.features.tensor)
    dtype = found.dtype if isinstance(found, onnx_ir.TensorType) else onnx_ir.DataType.FLOAT
    given = new_input(copy, GIVEN, onnx_ir.DataType.FLOAT, [count, *(int(d or 0) for d in anatomy.features.shape[1:])])
    quantised = scale_of(features)
    if quantised is not None:
        scale, zero = quantised
        stand_in = b("QuantizeLinear", given, scale, *([zero] if zero is not None else []))
    else:
        stand_in = b.cast(given, dtype)
    head = masked_score.value_of(copy, anatomy.logits.tensor)
    same = head is features
    masked_score.rewire(features, stand_in)
    image = new_input(copy, masked_score.IMAGE, onnx_ir.DataType.FLOAT, [count, *anatomy.image.shape(size)[1:]])
    masked_score.rewire(picture, masked_score.as_input_type(b, image, picture))
    for name in [n for n, batched in extra.items() if batched]:
        value = find_value(copy, name)
        if value is not None and value.shape is not None:
            value.shape = onnx_ir.Shape([count, *list(value.shape)[1:]])
    copy.graph.outputs.clear()
    numbers = scored(copy, b, masked_score.real(b, stand_in if same else head), anatomy.logits)
    for value in (numbers.logit, numbers.probability):
        value.type, value.shape = onnx_ir.TensorType(onnx_ir.DataType.FLOAT), onnx_ir.Shape([count, "targets"])
        copy.graph.outputs.append(value)
    return ir.in_order(tidy(copy))
