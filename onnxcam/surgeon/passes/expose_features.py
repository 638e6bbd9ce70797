"""A pass that returns the feature tensor as one more output of the model.

`onnxcam rewrite` writes its result (network/export.py).
"""

import onnx_ir

from onnxcam.errors import ModelError, UnknownLayer
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Shape, find_value, recorded_type, without_recorded_shapes
from onnxcam.surgeon.passes.quantised import dequantise, scale_of

DEQUANTISED = "/dequantised"
"""Suffix of the output's name where the tensor is quantised and returned as real numbers."""


def expose_features(model: Model, tensor: str, shape: Shape, image: str | None = None) -> Model:
    """Adds `tensor` to the model's outputs under its name; a quantised tensor is returned as real numbers.

    shape is for one image. The batch axis is that of the input `image`, or of the first input if None. Raises
    UnknownLayer where no tensor has this name, and ModelError where its element type is unknown.
    """
    original = find_value(model, tensor)
    if original is None:
        raise UnknownLayer(f"no tensor is called {tensor!r}")
    copy = without_recorded_shapes(model)
    value = find_value(copy, tensor)
    assert value is not None
    if value.is_graph_output():
        return copy
    if scale_of(value) is not None:
        value = dequantise(Builder(copy, "onnxcam"), value)
        value.name = f"{tensor}{DEQUANTISED}"
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    else:
        value.type = original.type or recorded_type(model, tensor) or onnx_ir.TensorType(_float_type(copy))
    value.shape = onnx_ir.Shape([_batch_of(copy, image), *shape[1:]])
    copy.graph.outputs.append(value)
    return copy


def _float_type(model: Model) -> onnx_ir.DataType:
    """The first float type among the outputs. Raises ModelError where there is none."""
    types = [v.dtype for v in model.graph.outputs if v.dtype in (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16)]
    if not types or types[0] is None:
        raise ModelError("the feature tensor's element type is unknown; export the model with shape inference")
    return types[0]


def _batch_of(model: Model, image: str | None) -> int | str | None:
    """The batch axis of the image input: its size, its name, or None."""
    for value in model.graph.inputs:
        if image in (None, value.name) and value.shape is not None and len(value.shape) > 0:
            first = value.shape[0]
            return first if isinstance(first, int) else first.value
    return None
