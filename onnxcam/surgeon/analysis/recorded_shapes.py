"""Whether shapes that an earlier opening recorded are those of the graph at hand, without a run of the model.

onnx's shape inference, on the graph without its weights, says what most shapes must be. The values that follow from
shapes and constants alone are computed again rather than recorded: build_arithmetic() cuts out the nodes they need.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.tracing import MOST_NUMBERS, free_of_data
from onnxcam.surgeon.ir import Model, Node, Shapes, Value

MOST_SHAPE_NUMBERS = 64
"""Size up to which a weight may say a shape, and so is given to the inference."""
UNTYPED = onnx.TensorProto.UINT8
"""Type of a stand-in whose numbers nothing reads."""


@dataclass(frozen=True)
class Arithmetic:
    """A graph of shape arithmetic without inputs. data: the model's bytes. names: of its outputs."""

    data: bytes
    names: tuple[str, ...]


def contradiction(model: Model, shapes: Shapes) -> str | None:
    """The name of a tensor whose shape is not the one that follows from the model's inputs, or that has none.

    None where nothing contradicts. Shapes that onnx cannot infer, as of operators that it does not know, are taken.
    """
    names = {str(v.name) for v in ir.values(model)}
    if names != set(shapes):
        return min(names ^ set(shapes))
    proto = _without_weights(model, shapes)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return str(model.graph.inputs[0].name)
    for value in inferred.graph.value_info:
        if value.type.tensor_type.HasField("shape") and value.name in shapes:
            dims = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
            recorded = shapes[value.name]
            if len(dims) != len(recorded) or any(d not in (None, r) for d, r in zip(dims, recorded, strict=True)):
                return str(value.name)
    return None


def build_arithmetic(model: Model, shapes: Shapes) -> Arithmetic | None:
    """What computes the tensors of at most MOST_NUMBERS numbers that follow from shapes and constants alone.

    Shapes that are read are constants in it. None where there are no such tensors.
    """
    frozen = free_of_data(model)
    computed = [str(v.name) for node in model.graph for v in node.outputs if v.name in frozen]
    names = [name for name in computed if math.prod(_sides(shapes, name)) <= MOST_NUMBERS]
    nodes = _needed(model, set(names))
    if not nodes:
        return None
    proto = _empty(model)
    for value in dict.fromkeys(v for node in nodes for v in node.inputs if v is not None):
        if value.const_value is not None and not all(_reads_shape(node) for node, _ in value.uses()):
            proto.graph.initializer.append(_tensor(value, value.const_value))
    for node in nodes:
        if _reads_shape(node):
            proto.graph.initializer.append(_shape_read(node, shapes))
        else:
            proto.graph.node.append(onnx_ir.serde.serialize_node(node))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return Arithmetic(proto.SerializeToString(), tuple(names))


def _sides(shapes: Shapes, name: str) -> tuple[int, ...]:
    return tuple(d or 0 for d in shapes[name])


def _reads_shape(node: Node) -> bool:
    return node.op_type in ("Shape", "Size")


def _shape_read(node: Node, shapes: Shapes) -> onnx.TensorProto:
    """What a Shape or Size gives."""
    value = node.inputs[0]
    assert value is not None
    stored = value.const_value
    sides = _sides(shapes, str(value.name)) if stored is None else tuple(stored.shape.numpy())
    end = node.attributes.get("end")
    part = sides[ir.integer(node, "start", 0) : None if end is None else end.as_int()]
    numbers = np.array(part, np.int64) if node.op_type == "Shape" else np.array(math.prod(sides), np.int64)
    return onnx.numpy_helper.from_array(numbers, str(node.outputs[0].name))


def _needed(model: Model, names: set[str]) -> list[Node]:
    """The nodes from which the tensors of these names follow; the input of a Shape is not followed."""
    needed, nodes = set(names), list[Node]()
    for node in reversed(list(model.graph)):
        if any(str(v.name) in needed for v in node.outputs):
            nodes.append(node)
            if not _reads_shape(node):
                needed.update(str(v.name) for v in node.inputs if v is not None)
    return nodes[::-1]


def _tensor(value: Value, stored: onnx_ir.TensorProtocol) -> onnx.TensorProto:
    tensor = onnx_ir.serde.serialize_tensor(stored)
    tensor.name = str(value.name)
    return tensor


def _without_weights(model: Model, shapes: Shapes) -> onnx.ModelProto:
    """The graph for shape inference: inputs with their shapes, weights as inputs unless they are few numbers."""
    proto = _empty(model)
    for value in model.graph.inputs:
        proto.graph.input.append(_typed(value, _sides(shapes, str(value.name))))
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size <= MOST_SHAPE_NUMBERS:
            proto.graph.initializer.append(_tensor(value, tensor))
        elif tensor is not None:
            proto.graph.input.append(_typed(value, tensor.shape.numpy()))
    proto.graph.node.extend(onnx_ir.serde.serialize_node(node) for node in model.graph)
    return proto


def _typed(value: Value, shape: Iterable[int]) -> onnx.ValueInfoProto:
    kind = int(value.dtype) if value.dtype is not None else UNTYPED
    return onnx.helper.make_tensor_value_info(str(value.name), kind, list(shape))


def _empty(model: Model) -> onnx.ModelProto:
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    return onnx.helper.make_model(onnx.GraphProto(name="shapes"), opset_imports=opsets, ir_version=model.ir_version)
