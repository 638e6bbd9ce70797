"""Passes that convert a graph's numbers to float32; what the model computes changes by rounding only.

network/gradient_graphs.py applies convert_to_single_precision() before a gradient is built: gradients underflow in half
precision, and integer tensors (an image of bytes) have no gradient. preparation.py applies convert_to_float32() to a
model in a type whose layers onnxruntime's CPU lacks.
"""

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Graph, Model, Node, Value, edit

INTEGER_ONLY = frozenset({"DequantizeLinear", "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger"})
"""Operators that read integers only."""
OTHER_FLOATS = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE)
"""The float types that become float32."""
TYPED_BY = {"Cast": "to", "EyeLike": "dtype", "RandomNormalLike": "dtype", "RandomUniformLike": "dtype"}
"""The attribute that names the type of an operator's output."""


def convert_to_single_precision(model: Model, image: str) -> Model:
    """Converts every float tensor to float32, and the input `image` too where it takes integers.

    Raises MissingGradient where an integer operator reads the image's bytes.
    """
    copy = edit(model)
    entry = next((v for v in copy.graph.inputs if v.name == image), None)
    takes_bytes = entry is not None and entry.dtype is not None and entry.dtype.is_integer()
    if entry is not None and takes_bytes:
        _check_readers(entry)
    tensors = (*copy.graph.initializers.values(), *copy.graph.inputs)
    is_affected = takes_bytes or any(v.dtype in OTHER_FLOATS for v in tensors)
    if not is_affected and not any(_named_type(n) in OTHER_FLOATS for n in copy.graph):
        return copy
    _convert(copy, OTHER_FLOATS)
    if entry is not None and takes_bytes:
        entry.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    return copy


def computes_in_single_precision(model: Model, image: str) -> bool:
    """Whether convert_to_single_precision() changes no number: nothing is of another type but weights that are cast."""
    graph = model.graph
    inputs = any(
        v.dtype in OTHER_FLOATS or (v.name == image and v.dtype != onnx_ir.DataType.FLOAT) for v in graph.inputs
    )
    nodes = any(_named_type(n) in OTHER_FLOATS or any(t.dtype in OTHER_FLOATS for _, t in _tensors(n)) for n in graph)
    stored = [v for v in graph.initializers.values() if v.dtype in OTHER_FLOATS]
    return (
        not inputs
        and not nodes
        and all(_named_type(u.node) == onnx_ir.DataType.FLOAT for v in stored for u in v.uses())
    )


def convert_to_float32(model: Model, types: Collection[onnx_ir.DataType]) -> Model | None:
    """Converts the tensors of these float types to float32, those of subgraphs too; None where there are none."""
    graphs = [model.graph, *model.graph.subgraphs()]
    values = (v for graph in graphs for v in (*graph.initializers.values(), *graph.inputs, *graph.outputs))
    nodes = (n for graph in graphs for n in graph)
    if not any(v.dtype in types for v in values) and not any(_named_type(n) in types for n in nodes):
        return None
    copy = edit(model)
    _convert(copy, types)
    return copy


def is_double_network(model: Model) -> bool:
    """Whether a convolution computes in double precision, which onnxruntime's CPU has no kernel for."""
    return any(
        v is not None and v.dtype == onnx_ir.DataType.DOUBLE
        for node in model.graph
        if node.op_type in ("Conv", "ConvTranspose", "GlobalAveragePool", "AveragePool")
        for v in node.inputs
    )


def _convert(model: Model, types: Collection[onnx_ir.DataType]) -> None:
    for graph in (model.graph, *model.graph.subgraphs()):
        _convert_weights(graph, types)
        for value in (*graph.inputs, *graph.outputs):
            if value.dtype in types:
                value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        _convert_nodes(graph, types)


def _check_readers(image: Value) -> None:
    """Raises MissingGradient where an integer operator reads the image."""
    readers = [u.node for u in image.uses() if u.node.op_type in INTEGER_ONLY]
    if readers:
        raise MissingGradient(
            f"the image enters {readers[0].op_type} (node {readers[0].name!r}) as bytes, and no gradient leads through "
            f"that; explain the float export, or use a method without gradients"
        )


def _convert_weights(graph: Graph, types: Collection[onnx_ir.DataType]) -> None:
    for name, value in list(graph.initializers.items()):
        array = ir.constant(value)
        if value.dtype not in types or array is None:
            continue
        tensor = onnx_ir.tensor(array.astype(np.float32), name=name)
        stored = onnx_ir.Value(name=name, type=onnx_ir.TensorType(tensor.dtype), shape=value.shape, const_value=tensor)
        del graph.initializers[name]
        onnx_ir.convenience.replace_all_uses_with(value, stored, replace_graph_outputs=True)
        graph.register_initializer(stored)


def _convert_nodes(graph: Graph, types: Collection[onnx_ir.DataType]) -> None:
    """Changes the types that attributes name, and drops the recorded types of inner tensors."""
    for node in graph:
        attribute = TYPED_BY.get(node.op_type)
        if attribute is not None and _named_type(node) in types:
            node.attributes[attribute] = onnx_ir.AttrInt64(attribute, int(onnx_ir.DataType.FLOAT))
        for name, tensor in _tensors(node):
            if tensor.dtype in types:
                node.attributes[name] = onnx_ir.AttrTensor(name, onnx_ir.tensor(tensor.numpy().astype(np.float32)))
        for value in node.outputs:
            if not value.is_graph_output():
                value.type, value.shape = None, None


def _tensors(node: Node) -> Iterator[tuple[str, onnx_ir.TensorProtocol]]:
    """The tensor by which the node fills its output, with the name of the attribute."""
    stored = node.attributes.get("value") if node.op_type in ("ConstantOfShape", "Constant") else None
    if stored is not None and stored.type == onnx_ir.AttributeType.TENSOR:
        yield "value", stored.as_tensor()


def _named_type(node: Node) -> onnx_ir.DataType | None:
    """The type that an attribute of the node names for its output; None where there is no such attribute."""
    attribute = TYPED_BY.get(node.op_type)
    if attribute is None or attribute not in node.attributes:
        return None
    return onnx_ir.DataType(ir.integer(node, attribute, 1))
