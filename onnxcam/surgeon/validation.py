"""Checks of a ModelProto that onnx's checker lacks, for damaged and hostile files. loading.py calls them.

Each check raises ModelError with the reason and returns nothing. `name` is the file's name for the message.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import onnx
import onnx_ir
from google.protobuf.message import Message

from onnxcam.errors import ModelError
from onnxcam.limits import SAFE, Limits

NODES_A_CALL = 25
"""A call of a local function, nested calls included, counts as so many nodes: inlining copies the function."""
MOST_ROUNDS = 100_000
"""Iterations of a Loop of constant length; more would keep the runtime busy for minutes."""
DEEPEST_MESSAGE = 100
"""Messages within messages; protobuf reads no more of a file."""
DEEPEST = 25
"""Depth of nested subgraphs; protobuf itself reads no more than 33 levels of a file."""

_Function = tuple[str, str, str]
"""A local function's domain, name and overload."""


class _Size(NamedTuple):
    """What a piece of a graph becomes when local functions are inlined. depth: of functions that call functions."""

    calls: int
    nodes: int
    depth: int


TYPED_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data", onnx.TensorProto.DOUBLE: "double_data", onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.INT32: "int32_data", onnx.TensorProto.UINT64: "uint64_data", onnx.TensorProto.INT8: "int32_data",
    onnx.TensorProto.UINT8: "int32_data", onnx.TensorProto.INT16: "int32_data", onnx.TensorProto.UINT16: "int32_data",
    onnx.TensorProto.BOOL: "int32_data", onnx.TensorProto.FLOAT16: "int32_data",
    onnx.TensorProto.BFLOAT16: "int32_data",
}  # fmt: skip
"""The field of a TensorProto that holds the numbers of an element type where raw_data is not used."""


def check_text(message: Message, name: str) -> None:
    """Raises ModelError for text that is not UTF-8, which protobuf returns as bytes, and for endless nesting."""
    pending = [(message, 0)]  # without recursion: a model that is handed over as an object may be nested at any depth
    while pending:
        outer, depth = pending.pop()
        if depth > DEEPEST_MESSAGE:
            raise ModelError(f"{name}: its parts are nested more than {DEEPEST_MESSAGE} levels deep; it is damaged")
        for field, value in outer.ListFields():
            if field.type == field.TYPE_STRING:
                texts: Iterable[object] = value if not isinstance(value, str | bytes) else (value,)
                if any(isinstance(text, bytes) for text in texts):
                    raise ModelError(f"{name}: text that is not UTF-8 (in {field.full_name}); the file is damaged")
            elif field.type == field.TYPE_MESSAGE:
                inner = (value,) if isinstance(value, Message) else value
                pending += [(part, depth + 1) for part in inner]


def check_tensors(tensors: Iterable[onnx.TensorProto], name: str) -> None:
    """Raises ModelError for a tensor whose bytes do not fill its shape exactly, and for a piece of one."""
    for tensor in tensors:
        if tensor.HasField("segment"):
            raise ModelError(f"{name}: the tensor {tensor.name!r} is a segment of one; export it whole")
        if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            continue
        in_bytes = bytes_needed(tensor, name)
        if tensor.HasField("raw_data"):
            needed, stored = in_bytes, len(tensor.raw_data)
        elif tensor.data_type in TYPED_FIELDS:
            needed, stored = math.prod(tensor.dims), len(getattr(tensor, TYPED_FIELDS[tensor.data_type]))
        else:
            continue
        if needed != stored:
            raise ModelError(
                f"{name}: the tensor {tensor.name!r} of shape {list(tensor.dims)} needs {needed} bytes or numbers and "
                f"holds {stored}; the file is damaged"
            )


def bytes_needed(tensor: onnx.TensorProto, name: str) -> int:
    """Bytes that the numbers of a tensor take by its shape and type. Raises ModelError for a damaged one."""
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"{name}: the tensor {tensor.name!r} has a negative size; the file is damaged")
    try:
        bits = int(onnx_ir.DataType(tensor.data_type).bitwidth)
    except (ValueError, TypeError):
        raise ModelError(f"{name}: the tensor {tensor.name!r} has an unknown number type") from None
    count: int = math.prod(tensor.dims)
    return -(-count * bits // 8)


def check_calls(proto: onnx.ModelProto, name: str, limits: Limits = SAFE) -> None:
    """Raises ModelError where local functions call themselves, or too deep, or expand to too many nodes."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[_Function, _Size] = {}
    stack, active = list(functions), set[_Function]()
    inner = {key: _calls(function.node, functions) for key, function in functions.items()}
    while stack:  # without recursion: a chain of functions may be longer than Python's stack
        key = stack[-1]
        pending = [called for called in inner[key][0] if called not in sizes]
        if key in sizes or not pending:
            sizes.setdefault(key, _expanded(*inner[key], sizes))
            active.discard(stack.pop())
            continue
        active.add(key)
        for called in pending:
            if called in active:
                raise ModelError(f"{name}: the function {called[1]!r} calls itself; the file is damaged")
        stack.extend(pending)
    size = _expanded(*_calls(proto.graph.node, functions), sizes)
    if limits.exceeded("depth", size.depth):
        raise ModelError(
            f"{name}: local functions call each other {size.depth} levels deep; {limits.way_out('depth')}, or inline "
            f"them (onnx.inliner.inline_local_functions)"
        )
    if limits.exceeded("nodes", size.nodes) or limits.exceeded("nodes", NODES_A_CALL * size.calls):
        raise ModelError(
            f"{name}: {size.calls} calls of local functions expand to {size.nodes} nodes; {limits.way_out('nodes')}, "
            f"where a call counts as {NODES_A_CALL}"
        )


def _calls(
    nodes: Iterable[onnx.NodeProto], functions: Mapping[_Function, onnx.FunctionProto]
) -> tuple[Counter[_Function], int]:
    """(how often each local function is called, nodes in all) of these nodes and of their subgraphs."""
    calls, count = Counter[_Function](), 0
    for node in all_nodes(nodes):
        count += 1
        key = (node.domain, node.op_type, node.overload)
        if key in functions:
            calls[key] += 1
    return calls, count


def _expanded(calls: Counter[_Function], count: int, sizes: Mapping[_Function, _Size]) -> _Size:
    """What nodes that make these calls become when they are inlined."""
    return _Size(
        sum(times * (1 + sizes[key].calls) for key, times in calls.items()),
        count + sum(times * sizes[key].nodes for key, times in calls.items()),
        max((1 + sizes[key].depth for key in calls), default=0),
    )


def check_loops(proto: onnx.ModelProto, name: str) -> None:
    """Raises ModelError for a Loop of constant length with more than MOST_ROUNDS iterations."""
    constants = {t.name: t for t in proto.graph.initializer}
    nodes = list(nodes_of(proto))
    constants |= {n.output[0]: n.attribute[0].t for n in nodes if n.op_type == "Constant" and n.output and n.attribute}
    for node in nodes:
        trips = constants.get(node.input[0]) if node.op_type == "Loop" and node.input else None
        if trips is not None and trips.data_type == onnx.TensorProto.INT64 and math.prod(trips.dims) == 1:
            rounds = int(onnx.numpy_helper.to_array(trips).reshape(-1)[0])
            if rounds > MOST_ROUNDS:
                raise ModelError(f"{name}: a loop of {rounds} rounds (node {node.name!r}) would not end in time")


def all_nodes(nodes: Iterable[onnx.NodeProto], depth: int = 0) -> Iterator[onnx.NodeProto]:
    """The nodes and, after each, those of its subgraphs. Raises ModelError below DEEPEST levels."""
    if depth > DEEPEST:
        raise ModelError(f"subgraphs are nested more than {DEEPEST} levels deep; the file is damaged")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in graphs_of(attribute):
                yield from all_nodes(inner.node, depth + 1)


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node: of the graph, of local functions and of the defaults of their attributes, and of all subgraphs.

    Raises ModelError below DEEPEST levels.
    """
    yield from all_nodes(proto.graph.node)
    for function in proto.functions:
        yield from all_nodes(function.node)
        for default in function.attribute_proto:
            for graph in graphs_of(default):
                yield from all_nodes(graph.node, 1)


def all_parts(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.AttributeProto]:
    """Every graph and every attribute, those in subgraphs and functions and the defaults of functions too, in one walk.

    Raises ModelError below DEEPEST levels.
    """
    yield proto.graph
    defaults = (default for function in proto.functions for default in function.attribute_proto)
    attributes = (attribute for node in nodes_of(proto) for attribute in node.attribute)
    for attribute in (*defaults, *attributes):
        yield attribute
        yield from graphs_of(attribute)


def graphs_of(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    """The subgraphs that an attribute holds."""
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the graphs and functions: weights and attributes, and the parts of sparse ones."""
    for part in all_parts(proto):
        if isinstance(part, onnx.GraphProto):
            yield from part.initializer
        else:
            yield from [part.t] if part.HasField("t") else []
            yield from part.tensors
        for sparse in sparse_tensors(part):
            yield from (sparse.values, sparse.indices)


def sparse_tensors(part: onnx.GraphProto | onnx.AttributeProto) -> list[onnx.SparseTensorProto]:
    """Those of a graph or of an attribute."""
    if isinstance(part, onnx.GraphProto):
        return list(part.sparse_initializer)
    return [*([part.sparse_tensor] if part.HasField("sparse_tensor") else []), *part.sparse_tensors]
