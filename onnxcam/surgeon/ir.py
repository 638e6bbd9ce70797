"""The graph as the surgeon sees it: with builder.py the only file that knows onnx_ir's and onnx's internals.

A pass takes a Model and returns a new one; `edit` gives it the copy to work on.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants

from onnxcam.errors import ModelError

logger = logging.getLogger(__name__)

Model = onnx_ir.Model
Graph = onnx_ir.Graph
Node = onnx_ir.Node
Value = onnx_ir.Value
Shape = tuple[int | None, ...]
"""One entry an axis; None where the graph does not tell."""
Shapes = Mapping[str, Shape]

BAD = (ValueError, KeyError, TypeError)
"""What onnx_ir lets through besides its own errors when a file contradicts itself."""
END = 2**31 - 1
"""Behind the last entry of any axis, where a Slice is told to go on to the end."""
NUMBERS = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE, onnx_ir.DataType.UINT8)
"""Element types that a picture or a score can have."""


def from_proto(proto: onnx.ModelProto) -> Model:
    """The model with its local functions inlined, and its weights and constants as initializers only."""
    try:
        model = onnx_ir.from_proto(proto)
        passes.InlinePass()(model)
        passes.RemoveInitializersFromInputsPass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.NameFixPass()(model)
        passes.RemoveUnusedNodesPass()(model)
        # Before IR version 4 every weight had to be listed as an input; they no longer are.
        model.ir_version = max(model.ir_version, 4)
    except (onnx_ir.serde.SerdeError, onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, *BAD) as error:
        raise ModelError(f"the graph cannot be read ({cause(error)})") from None
    return model


def cause(error: BaseException) -> str:
    """The first line of what was wrong in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def to_bytes(model: Model) -> bytes:
    """The file's bytes; raises ModelError past the 2 GiB that a protobuf message can hold."""
    try:
        return bytes(to_proto(model).SerializeToString(deterministic=True))
    except ValueError as error:
        raise ModelError(f"the model is too large for one file ({error})") from None


def without_recorded_shapes(model: Model) -> Model:
    """A copy without the shapes and types that the exporter wrote down for inner tensors, some of which are wrong."""
    copy = edit(model)
    for node in copy.graph:
        for value in node.outputs:
            if is_standard(node) and not value.is_graph_output():
                value.shape, value.type = None, None
    return copy


def to_proto(model: Model) -> onnx.ModelProto:
    try:
        return onnx_ir.to_proto(model)
    except (onnx_ir.serde.SerdeError, *BAD) as error:
        raise ModelError(f"the graph cannot be written ({cause(error)})") from None


def edit(model: Model) -> Model:
    """A copy that may be changed; the weights are shared with the original."""
    return model.clone()


def opset(model: Model) -> int:
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def is_standard(node: Node) -> bool:
    return node.domain in ("", "ai.onnx")


def constant(value: Value | None) -> npt.NDArray[np.generic] | None:
    """The value's number(s) if the file holds them."""
    if value is None or value.const_value is None:
        return None
    try:
        return np.asarray(value.const_value.numpy())
    except BAD as error:
        raise ModelError(f"the numbers of {value.name!r} cannot be read ({cause(error)})") from None


def values(model: Model) -> Iterator[Value]:
    """Every tensor of the top-level graph that is computed or fed, weights left out."""
    yield from model.graph.inputs
    for node in model.graph:
        yield from (v for v in node.outputs if v.name)


def computes_in_half(model: Model) -> bool:
    """Whether any weight is stored in half precision."""
    half = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
    return any(v.dtype in half for v in model.graph.initializers.values())


def find_value(model: Model, name: str) -> Value | None:
    return next((v for v in values(model) if v.name == name), None)


def captured(node: Node) -> Iterator[Value]:
    """What the node's subgraphs, if any, read by name; tensors of their own among it."""
    for attribute in node.attributes.values():
        graphs = [attribute.as_graph()] if attribute.type == onnx_ir.AttributeType.GRAPH else []
        graphs += attribute.as_graphs() if attribute.type == onnx_ir.AttributeType.GRAPHS else []
        for inner in graphs:
            yield from inner.outputs
            yield from (v for n in inner.all_nodes() for v in n.inputs if v is not None)


def find_node(model: Model, name: str) -> Node | None:
    return next((n for n in model.graph if n.name == name), None)


def ancestors(value: Value) -> list[Value]:
    """Everything that the value is computed from, nearest first; itself left out."""
    seen: dict[int, Value] = {}
    stack = [value]
    while stack:
        node = stack.pop().producer()
        for parent in node.inputs if node is not None else ():
            if parent is not None and id(parent) not in seen and parent.const_value is None:
                seen[id(parent)] = parent
                stack.append(parent)
    return list(seen.values())


def integers(node: Node, attribute: str, operand: int | None = None) -> list[int] | None:
    """Integers that an operator takes as an attribute in old opsets and as an input in new ones (axes, pads, shape).

    None where they are absent or computed at run time.
    """
    if attribute in node.attributes:
        found = node.attributes[attribute]
        return [int(i) for i in found.as_ints()] if found.type == onnx_ir.AttributeType.INTS else [found.as_int()]
    if operand is not None and operand < len(node.inputs):
        array = constant(node.inputs[operand])
        return None if array is None else [int(i) for i in array.reshape(-1)]
    return None


def integer(node: Node, attribute: str, default: int) -> int:
    found = node.attributes.get(attribute)
    return default if found is None else found.as_int()


def since(node: Node, version: int) -> int:
    """The opset that introduced the form of the operator that holds at this version; 0 for a foreign operator."""
    if not is_standard(node):
        return 0
    try:
        return int(onnx.defs.get_schema(node.op_type, version).since_version)
    except onnx.defs.SchemaError:
        return 0


def infer_shapes(model: Model, inputs: Mapping[str, Sequence[int | None]]) -> dict[str, Shape]:
    """Shapes of all tensors when the named inputs have the given shapes, as far as onnx can tell them.

    Two looks are put together: plain inference, which sees every tensor, and inference while constants are folded,
    which sees through the shape arithmetic of dynamic exports but loses the tensors that it folds away.
    """
    found = _inferred(_with_inputs(model, inputs))
    folded = _with_inputs(model, inputs)
    try:
        fold_constants(folded, onnx_shape_inference=True, should_fold=_fold_small_fills)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        logger.info("shapes: constants could not be folded (%s)", error)
        return found
    for value in values(folded):
        name, shape = str(value.name), shape_of(value)
        known = found.get(name)
        if shape is not None and (known is None or None in known) and (known is None or len(known) == len(shape)):
            found[name] = shape
    return found


def _with_inputs(model: Model, inputs: Mapping[str, Sequence[int | None]]) -> Model:
    """A copy with the given input shapes and without the recorded ones that onnx can infer afresh."""
    copy = edit(model)
    for value in copy.graph.inputs:
        if value.name in inputs:
            value.shape = onnx_ir.Shape(inputs[str(value.name)])
    for node in copy.graph:
        if is_standard(node):
            for value in node.outputs:
                value.shape = None
    return copy


def recorded_type(model: Model, name: str) -> onnx_ir.TypeProtocol | None:
    """The tensor's type as onnx infers it; None where it cannot."""
    try:
        copy = passes.ShapeInferencePass(check_type=False, strict_mode=False)(edit(model)).model
    except (onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, RuntimeError, *BAD):
        return None
    found = find_value(copy, name)
    return found.type if found is not None else None


def recorded_types(model: Model) -> dict[str, onnx_ir.DataType | None]:
    """The element type of every tensor, as far as onnx can infer it. Raises ModelError."""
    try:
        found = passes.ShapeInferencePass(check_type=False, strict_mode=False)(edit(model)).model
    except (onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, RuntimeError, *BAD) as error:
        raise ModelError(f"the types of the graph cannot be told ({cause(error)})") from None
    return {str(v.name): v.dtype for v in values(found)}


def _inferred(model: Model) -> dict[str, Shape]:
    try:
        # Strict mode would give up at the first op that contradicts itself; a partial answer is of use here.
        copy = passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model).model
    except (onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, RuntimeError, *BAD) as error:
        raise ModelError(f"the shapes contradict each other ({str(error).splitlines()[0][:200]})") from None
    return {str(v.name): _shape(v) for v in values(copy) if v.shape is not None}


def _fold_small_fills(node: Node) -> bool | None:
    """ConstantOfShape is kept by default because it may be large; pads computed at run time go through it."""
    return True if node.op_type == "ConstantOfShape" else None


def footprint(model: Model, shapes: Shapes) -> int:
    """Bytes that the most demanding node reads and writes at float32; weights left out."""

    def size(value: Value | None) -> int:
        shape = shapes.get(str(value.name)) if value is not None else None
        return 4 * int(np.prod([d or 1 for d in shape], dtype=np.int64)) if shape else 0

    return max((sum(map(size, (*n.inputs, *n.outputs))) for n in model.graph), default=0)


def shape_of(value: Value) -> Shape | None:
    return None if value.shape is None else _shape(value)


def shape_with_names(value: Value) -> list[int | str] | None:
    """The shape for a reader: numbers, names of dynamic dimensions, '?' for what has neither."""
    if value.shape is None:
        return None
    return [d if isinstance(d, int) else d.value or "?" for d in value.shape]


def _shape(value: Value) -> Shape:
    assert value.shape is not None
    # Paddle writes -1 for a dynamic dimension.
    return tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape)


def new_input(model: Model, name: str, dtype: onnx_ir.DataType, shape: Sequence[int | str]) -> Value:
    value = onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape(shape))
    model.graph.inputs.append(value)
    return value


def in_order(model: Model) -> Model:
    """Sorted, and no name twice, inner graphs included: copies of a loop's body bring theirs along."""
    model.graph.sort()
    passes.NameFixPass()(model)
    return model


def tidy(model: Model) -> Model:
    """Sorted, without nodes that no output needs; inputs that nothing reads are dropped too."""
    model.graph.sort()
    passes.RemoveUnusedNodesPass()(model)
    for value in [v for v in model.graph.inputs if not v.uses() and not v.is_graph_output()]:
        model.graph.inputs.remove(value)
    return model
