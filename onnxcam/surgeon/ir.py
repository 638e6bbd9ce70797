"""The graph that the surgeon works on, and the questions that are put to it: tensors, constants, shapes, types.

A Model is an onnx_ir.Model. from_proto() makes it from the file's ModelProto, and to_proto() or to_bytes() writes it.
Passes never change the model that they receive: edit() gives them a copy. builder.py adds nodes to such a copy.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
from onnx_ir.passes import common as passes

from onnxcam.errors import ModelError
from onnxcam.types import Shape as Shape
from onnxcam.types import Shapes as Shapes

Model = onnx_ir.Model
Graph = onnx_ir.Graph
Node = onnx_ir.Node
Value = onnx_ir.Value

MALFORMED = (ValueError, KeyError, TypeError)
"""Errors that onnx_ir raises besides its own when a file contradicts itself."""
MAKES_SEQUENCES = frozenset(
    "SplitToSequence SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceMap Optional".split()
)
"""Operators whose result is no tensor."""
END = 2**31 - 1
"""The `ends` of a Slice that goes on to the end of the axis, whatever its length."""
NUMERIC = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE, onnx_ir.DataType.UINT8)
"""Element types that an image or a score can have."""


def from_proto(proto: onnx.ModelProto) -> Model:
    """Converts a ModelProto: local functions are inlined, weights and constants become initializers.

    Raises ModelError for a graph that onnx_ir cannot read.
    """
    try:
        model = onnx_ir.from_proto(proto)
        _remove_unused_functions(model)
        passes.InlinePass()(model)
        passes.RemoveInitializersFromInputsPass()(model)
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        passes.NameFixPass()(model)
        _remove_unused_nodes(model)
        # Before IR version 4 every weight had to be listed as an input; they no longer are.
        model.ir_version = max(model.ir_version, 4)
    except (onnx_ir.serde.SerdeError, onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, *MALFORMED) as error:
        raise ModelError(f"the graph cannot be read ({cause(error)})") from None
    _forget_negative_sides(model)
    return model


def _forget_negative_sides(model: Model) -> None:
    """Makes them dynamic, as Paddle means -1; onnx's shape inference ends the process at some (Slice)."""
    graphs = (model.graph, *model.graph.subgraphs())
    for value in (v for g in graphs for v in (*g.inputs, *g.outputs, *(v for node in g for v in node.outputs))):
        if value.shape is not None and any(isinstance(side, int) and side < 0 for side in value.shape):
            value.shape = onnx_ir.Shape([None if isinstance(side, int) and side < 0 else side for side in value.shape])


def cause(error: BaseException) -> str:
    """The first line of the message of the error that began the chain; the name of its type if it has no message."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def to_bytes(model: Model) -> bytes:
    """The model as the bytes of an .onnx file. Raises ModelError above protobuf's limit of 2 GiB."""
    try:
        return bytes(to_proto(model).SerializeToString(deterministic=True))
    except ValueError as error:
        raise ModelError(f"the model is too large for one file ({error})") from None


def without_recorded_shapes(model: Model) -> Model:
    """A copy without the recorded shapes and types of inner tensors: exporters record wrong ones."""
    copy = edit(model)
    for node in copy.graph:
        for value in node.outputs:
            if is_standard(node) and not value.is_graph_output():
                value.shape, value.type = None, None
    return copy


def without_descriptions(model: Model) -> Model:
    """Drops what a file repeats: shapes and types that a runtime infers, and names of nodes that are their output's.

    Of inner tensors of standard operators and of weights, those of subgraphs too. Changes the model and returns it.
    """
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if is_standard(node) and not value.is_graph_output():
                value.shape, value.type = None, None
        if node.outputs and node.name == node.outputs[0].name:
            node.name = None
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if not value.is_graph_input() and not value.is_graph_output():
                value.shape, value.type = None, None
    return model


def to_proto(model: Model) -> onnx.ModelProto:
    """The model as a ModelProto. Raises ModelError where onnx_ir cannot write it."""
    try:
        return onnx_ir.to_proto(model)
    except (onnx_ir.serde.SerdeError, *MALFORMED) as error:
        raise ModelError(f"the graph cannot be written ({cause(error)})") from None


def edit(model: Model) -> Model:
    """A copy that may be changed. It shares the arrays of the weights with the original."""
    return model.clone()


def opset(model: Model) -> int:
    """Version of the default operator set; 0 where the model imports none."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0))


def is_standard(node: Node) -> bool:
    """Whether the operator is of ONNX's default domain."""
    return node.domain in ("", "ai.onnx")


def constant(value: Value | None) -> npt.NDArray[np.generic] | None:
    """The array of a weight or constant; None for a tensor that is computed or fed. Raises ModelError."""
    if value is None or value.const_value is None:
        return None
    try:
        return np.asarray(value.const_value.numpy())
    except MALFORMED as error:
        raise ModelError(f"the numbers of {value.name!r} cannot be read ({cause(error)})") from None


def values(model: Model) -> Iterator[Value]:
    """The inputs and computed tensors of the top-level graph, without the weights."""
    yield from model.graph.inputs
    for node in model.graph:
        yield from (v for v in node.outputs if v.name)


def is_tensor(value: Value) -> bool:
    """Whether the recorded type is that of a dense tensor."""
    return isinstance(value.type, onnx_ir.TensorType)


def computes_in_half(model: Model) -> bool:
    """Whether any weight is stored in half precision."""
    half = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
    return any(v.dtype in half for v in model.graph.initializers.values())


def find_value(model: Model, name: str) -> Value | None:
    """The input or computed tensor of this name."""
    return next((v for v in values(model) if v.name == name), None)


def captured(node: Node) -> Iterator[Value]:
    """Tensors that the node's subgraphs read, those that the subgraphs compute themselves included."""
    for attribute in node.attributes.values():
        graphs = [attribute.as_graph()] if attribute.type == onnx_ir.AttributeType.GRAPH else []
        graphs += attribute.as_graphs() if attribute.type == onnx_ir.AttributeType.GRAPHS else []
        for inner in graphs:
            yield from inner.outputs
            yield from (v for n in inner.all_nodes() for v in n.inputs if v is not None)


def find_node(model: Model, name: str) -> Node | None:
    """The top-level node of this name."""
    return next((n for n in model.graph if n.name == name), None)


def ancestors(value: Value) -> list[Value]:
    """All tensors that the value is computed from, without weights and without the value itself."""
    seen: dict[int, Value] = {}
    stack = [value]
    while stack:
        node = stack.pop().producer()
        for parent in node.inputs if node is not None else ():
            if parent is not None and id(parent) not in seen and parent.const_value is None:
                seen[id(parent)] = parent
                stack.append(parent)
    return list(seen.values())


def depends_on(value: Value, other: Value) -> bool:
    """Whether the value is the other one, or computed from it."""
    return value is other or any(v is other for v in ancestors(value))


def reached_from(model: Model, name: str) -> set[str]:
    """Names of the tensors that depend on the numbers of this one, and its own; not those that read its shape only."""
    reached = {name}
    for node in model.graph:
        reads = {str(v.name) for v in (*node.inputs, *captured(node)) if v is not None}
        if node.op_type not in ("Shape", "Size") and not reached.isdisjoint(reads):
            reached.update(str(v.name) for v in node.outputs)
    return reached


def integers(node: Node, attribute: str, operand: int | None = None) -> list[int] | None:
    """Integers of an operator that old opsets hold in an attribute and new ones in an input (axes, pads, shape).

    operand is the position of that input. None where the integers are absent or computed at run time.
    """
    if attribute in node.attributes:
        stored = node.attributes[attribute]
        return [int(i) for i in stored.as_ints()] if stored.type == onnx_ir.AttributeType.INTS else [stored.as_int()]
    if operand is not None and operand < len(node.inputs):
        array = constant(node.inputs[operand])
        return None if array is None else [int(i) for i in array.reshape(-1)]
    return None


def integer(node: Node, attribute: str, default: int) -> int:
    """The integer attribute, or the default where the node has none."""
    stored = node.attributes.get(attribute)
    return default if stored is None else stored.as_int()


def since(node: Node, version: int) -> int:
    """The since-version of the node's operator at this opset version; 0 for an operator of another domain."""
    if not is_standard(node):
        return 0
    try:
        return int(onnx.defs.get_schema(node.op_type, version).since_version)
    except onnx.defs.SchemaError:
        return 0


def fold_constants(model: Model, should_fold: Callable[[Node], bool | None]) -> None:
    """Computes what follows from constants and shapes alone. Changes the model.

    should_fold: asked of each node of constants; None leaves it to the folder. Raises what the folder's reference
    evaluator raises.
    """
    from onnxscript.optimizer import fold_constants as fold  # a tenth of a first start that does not need it

    with np.errstate(all="ignore"):  # the arithmetic is the model's own
        fold(model, onnx_shape_inference=True, should_fold=should_fold)


def recorded_type(model: Model, name: str) -> onnx_ir.TypeProtocol | None:
    """The tensor's type as onnx infers it; None where onnx cannot."""
    try:
        copy = passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(edit(model)).model
    except (onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, RuntimeError, *MALFORMED):
        return None
    value = find_value(copy, name)
    return value.type if value is not None else None


def recorded_types(model: Model) -> dict[str, onnx_ir.DataType | None]:
    """The element type of every tensor, as far as onnx can infer it. Raises ModelError."""
    try:
        inferred = passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(edit(model)).model
    except (onnx_ir.passes.PassError, onnx_ir.passes.InvariantError, RuntimeError, *MALFORMED) as error:
        raise ModelError(f"the types of the graph's tensors cannot be inferred ({cause(error)})") from None
    return {str(v.name): v.dtype for v in values(inferred)}


def sequences(model: Model) -> set[str]:
    """Names of what the top-level graph computes that is no tensor, and so has no shape: sequences, optionals, maps.

    Raises ModelError.
    """
    recorded = {str(v.name) for v in values(model) if not isinstance(v.type, onnx_ir.TensorType | None)}
    if not any(node.op_type in MAKES_SEQUENCES for node in model.graph.all_nodes()):
        return recorded
    try:  # onnx_ir records an inferred sequence as a tensor
        inferred = onnx.shape_inference.infer_shapes(to_proto(model)).graph
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the types of the graph's sequences cannot be inferred ({cause(error)})") from None
    kinds = {v.name: v.type.WhichOneof("value") for v in (*inferred.value_info, *inferred.output)}
    return recorded | {name for name, kind in kinds.items() if kind not in (None, "tensor_type", "sparse_tensor_type")}


def footprint(model: Model, shapes: Shapes) -> int:
    """Bytes of the inputs and outputs of the largest node in float32, without weights."""

    def size(value: Value | None) -> int:
        shape = shapes.get(str(value.name)) if value is not None else None
        return 4 * int(np.prod([d or 1 for d in shape], dtype=np.int64)) if shape else 0

    return max((sum(map(size, (*n.inputs, *n.outputs))) for n in model.graph), default=0)


def shape_of(value: Value) -> Shape | None:
    """The recorded shape; None where the file records none."""
    return None if value.shape is None else _shape(value)


def shape_with_names(value: Value) -> list[int | str] | None:
    """The recorded shape for people: sizes, names of dynamic axes, '?' for an axis with neither."""
    if value.shape is None:
        return None
    return [d if isinstance(d, int) else d.value or "?" for d in value.shape]


def _shape(value: Value) -> Shape:
    assert value.shape is not None
    # Paddle writes -1 for a dynamic axis.
    return tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape)


def new_input(model: Model, name: str, dtype: onnx_ir.DataType, shape: Sequence[int | str]) -> Value:
    """Adds an input to the model. A string in `shape` names a dynamic axis."""
    value = onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape(shape))
    model.graph.inputs.append(value)
    return value


def take_place(old: Value, new: Value, suffix: str) -> None:
    """Puts a tensor in the place of another one, under its name, also as an output; the old name gets the suffix."""
    name = str(old.name)
    old.name, new.name = f"{name}/{suffix}", name
    new.type, new.shape = old.type, old.shape
    onnx_ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def in_order(model: Model) -> Model:
    """Sorts the nodes and makes all names unique, those of subgraphs included. Changes the model and returns it."""
    model.graph.sort()
    passes.NameFixPass()(model)
    return model


def tidy(model: Model) -> Model:
    """Sorts the nodes and removes nodes and inputs that no output needs. Changes the model and returns it."""
    model.graph.sort()
    _remove_unused_nodes(model)
    for value in [v for v in model.graph.inputs if not v.uses() and not v.is_graph_output()]:
        model.graph.inputs.remove(value)
    return model


def _remove_unused_functions(model: Model) -> None:
    """Removes local functions that no node calls: the inliner takes time by the square of their number."""
    called, pending = set[tuple[str, str, str]](), list(model.graph.all_nodes())
    while pending:
        key = pending.pop().op_identifier()
        if key in model.functions and key not in called:
            called.add(key)
            pending.extend(model.functions[key].all_nodes())
    for key in [key for key in model.functions if key not in called]:
        del model.functions[key]


def _remove_unused_nodes(model: Model) -> None:
    """Removes nodes that no output needs. A BatchNormalization in training mode stays in it.

    onnx_ir before 1.1 drops the mode where nobody reads the new statistics, and so exchanges those of the batch for the
    stored ones: another model.
    """
    training = [
        (node, node.attributes["training_mode"], [value.name for value in node.outputs])
        for node in model.graph.all_nodes()
        if node.op_type == "BatchNormalization" and integer(node, "training_mode", 0)
    ]
    passes.RemoveUnusedNodesPass()(model)
    for node, mode, names in training:
        node.attributes["training_mode"] = mode
        for value, name in zip(node.outputs, names, strict=False):
            value.name = name
