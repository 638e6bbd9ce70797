"""Expose a tensor inside the graph as one more output, and nothing else."""

import onnx_ir as ir

from onnxcam.errors import ModelError, UnknownLayer
from onnxcam.surgeon.graph import Model, Shape, find_value, without_recorded_shapes


def expose(model: Model, tensor: str, shape: Shape) -> Model:
    """A model that returns `tensor` after its own outputs, under its own name.

    shape is for one picture: the batch axis is taken as dynamic where the model's first input has a dynamic one.
    """
    original = find_value(model, tensor)
    if original is None:
        raise UnknownLayer(f"no tensor is called {tensor!r}")
    copy = without_recorded_shapes(model)
    value = find_value(copy, tensor)
    assert value is not None
    if value.is_graph_output():
        return copy
    value.type = original.type or ir.TensorType(_float_type(copy))
    batch = _batch_of(copy)
    value.shape = ir.Shape([batch, *shape[1:]])
    copy.graph.outputs.append(value)
    return copy


def _float_type(model: Model) -> ir.DataType:
    types = [v.dtype for v in model.graph.outputs if v.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)]
    if not types or types[0] is None:
        raise ModelError("the feature tensor's number type cannot be told; export the model with shape inference")
    return types[0]


def _batch_of(model: Model) -> int | str | None:
    for value in model.graph.inputs:
        if value.shape is not None and len(value.shape) > 0:
            first = value.shape[0]
            return first if isinstance(first, int) else first.value
    return None
