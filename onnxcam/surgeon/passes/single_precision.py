"""Everything that a gradient flows through as float32: a pass.

Gradients underflow in half precision, and pixels that are cast from bytes have none; the numbers that the model
computes stay what they were but for rounding.
"""

from collections.abc import Mapping

import numpy as np
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model, Value, edit

WHOLE = frozenset({"DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"})
"""Operators that take integers only."""
OTHERS = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE)
TYPED_BY = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype"}
"""Attributes that name the type of an operator's output."""


def in_single_precision(model: Model, image: str) -> Model:
    """The model with every real tensor in float32, and the input `image` too where it takes bytes."""
    copy = edit(model)
    held: Mapping[str, Value] = dict(copy.graph.initializers)
    real = (*OTHERS, onnx_ir.DataType.UINT8)
    touched = any(v.dtype in OTHERS for v in (*held.values(), *copy.graph.inputs)) or any(
        v.name == image and v.dtype in real for v in copy.graph.inputs
    )
    entry = next((v for v in copy.graph.inputs if v.name == image), None)
    if entry is not None and entry.dtype == onnx_ir.DataType.UINT8:
        integers = [u.node for u in entry.uses() if u.node.op_type in WHOLE]
        if integers:
            raise MissingGradient(
                f"the picture enters {integers[0].op_type} (node {integers[0].name!r}) as bytes, and no gradient leads "
                f"through that"
            )
    if not touched and not any(_named_type(n) in OTHERS for n in copy.graph):
        return copy
    for name, value in held.items():
        array = ir.constant(value)
        if value.dtype in OTHERS and array is not None:
            tensor = onnx_ir.tensor(array.astype(np.float32), name=name)
            stored = onnx_ir.Value(
                name=name, type=onnx_ir.TensorType(tensor.dtype), shape=value.shape, const_value=tensor
            )
            del copy.graph.initializers[name]
            onnx_ir.convenience.replace_all_uses_with(value, stored, replace_graph_outputs=True)
            copy.graph.register_initializer(stored)
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.dtype in OTHERS or (value.name == image and value.dtype in real):
            value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    for node in copy.graph:
        attribute = TYPED_BY.get(node.op_type)
        if attribute is not None and _named_type(node) in OTHERS:
            node.attributes[attribute] = onnx_ir.AttrInt64(attribute, int(onnx_ir.DataType.FLOAT))
        filled = node.attributes.get("value") if node.op_type == "ConstantOfShape" else None
        if filled is not None and filled.as_tensor().dtype in OTHERS:
            node.attributes["value"] = onnx_ir.AttrTensor(
                "value", onnx_ir.tensor(filled.as_tensor().numpy().astype(np.float32))
            )
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None
    return copy


def _named_type(node: ir.Node) -> onnx_ir.DataType | None:
    attribute = TYPED_BY.get(node.op_type)
    if attribute is None or attribute not in node.attributes:
        return None
    return onnx_ir.DataType(ir.integer(node, attribute, 1))
