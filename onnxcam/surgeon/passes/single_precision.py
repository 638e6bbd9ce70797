"""A pass that converts everything that a gradient flows through to float32.

network/gradients.py applies it before the gradient is built: gradients underflow in half precision, and integer tensors
(an image of bytes) have no gradient. The numbers that the model computes change by rounding only.
"""

from collections.abc import Iterable

import numpy as np
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model, Node, Value, edit

INTEGER_ONLY = frozenset({"DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"})
"""Operators that read integers only."""
OTHER_FLOATS = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE)
"""The float types that become float32."""
TYPED_BY = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype"}
"""The attribute that names the type of an operator's output."""


def convert_to_single_precision(model: Model, image: str) -> Model:
    """Converts every float tensor to float32, and the input `image` too where it takes bytes.

    Raises MissingGradient where an integer operator reads the image's bytes.
    """
    copy = edit(model)
    entry = next((v for v in copy.graph.inputs if v.name == image), None)
    takes_bytes = entry is not None and entry.dtype == onnx_ir.DataType.UINT8
    if entry is not None and takes_bytes:
        _check_readers(entry)
    tensors = (*copy.graph.initializers.values(), *copy.graph.inputs)
    is_affected = takes_bytes or any(v.dtype in OTHER_FLOATS for v in tensors)
    if not is_affected and not any(_named_type(n) in OTHER_FLOATS for n in copy.graph):
        return copy
    _convert_weights(copy)
    for value in (*copy.graph.inputs, *copy.graph.outputs):
        if value.dtype in OTHER_FLOATS or (value.name == image and value.dtype == onnx_ir.DataType.UINT8):
            value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    _convert_nodes(copy.graph)
    return copy


def _check_readers(image: Value) -> None:
    """Raises MissingGradient where an integer operator reads the image."""
    readers = [u.node for u in image.uses() if u.node.op_type in INTEGER_ONLY]
    if readers:
        raise MissingGradient(
            f"the image enters {readers[0].op_type} (node {readers[0].name!r}) as bytes, and no gradient leads through "
            f"that; explain the float export, or use a method without gradients"
        )


def _convert_weights(model: Model) -> None:
    weights = dict(model.graph.initializers)
    for name, value in weights.items():
        array = ir.constant(value)
        if value.dtype not in OTHER_FLOATS or array is None:
            continue
        tensor = onnx_ir.tensor(array.astype(np.float32), name=name)
        stored = onnx_ir.Value(name=name, type=onnx_ir.TensorType(tensor.dtype), shape=value.shape, const_value=tensor)
        del model.graph.initializers[name]
        onnx_ir.convenience.replace_all_uses_with(value, stored, replace_graph_outputs=True)
        model.graph.register_initializer(stored)


def _convert_nodes(nodes: Iterable[Node]) -> None:
    """Changes the types that attributes name, and drops the recorded types of inner tensors."""
    for node in nodes:
        attribute = TYPED_BY.get(node.op_type)
        if attribute is not None and _named_type(node) in OTHER_FLOATS:
            node.attributes[attribute] = onnx_ir.AttrInt64(attribute, int(onnx_ir.DataType.FLOAT))
        fill = node.attributes.get("value") if node.op_type == "ConstantOfShape" else None
        if fill is not None and fill.as_tensor().dtype in OTHER_FLOATS:
            tensor = onnx_ir.tensor(fill.as_tensor().numpy().astype(np.float32))
            node.attributes["value"] = onnx_ir.AttrTensor("value", tensor)
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None


def _named_type(node: Node) -> onnx_ir.DataType | None:
    """The type that an attribute of the node names for its output; None where there is no such attribute."""
    attribute = TYPED_BY.get(node.op_type)
    if attribute is None or attribute not in node.attributes:
        return None
    return onnx_ir.DataType(ir.integer(node, attribute, 1))
