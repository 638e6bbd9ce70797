"""Checks of a ModelProto that onnx's checker lacks, for damaged and hostile files. loading.py calls them.

Each check raises ModelError with the reason and returns nothing. `name` is the file's name for the message.
"""

import math
from collections.abc import Iterable, Iterator

import onnx
import onnx_ir
from google.protobuf.message import Message

from onnxcam.errors import ModelError

MOST_CALLS = 2000
"""Calls of local functions, nested calls included. Inlining copies the function's nodes for each of them."""
MOST_NODES = 200_000
"""Nodes after all functions are inlined."""
MOST_ROUNDS = 100_000
"""Iterations of a Loop of constant length; more would keep the runtime busy for minutes."""
DEEPEST = 25
"""Depth of nested subgraphs."""

TYPED_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data", onnx.TensorProto.DOUBLE: "double_data", onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.INT32: "int32_data", onnx.TensorProto.UINT64: "uint64_data", onnx.TensorProto.INT8: "int32_data",
    onnx.TensorProto.UINT8: "int32_data", onnx.TensorProto.INT16: "int32_data", onnx.TensorProto.UINT16: "int32_data",
    onnx.TensorProto.BOOL: "int32_data", onnx.TensorProto.FLOAT16: "int32_data",
    onnx.TensorProto.BFLOAT16: "int32_data",
}  # fmt: skip
"""The field of a TensorProto that holds the numbers of an element type where raw_data is not used."""


def check_text(message: Message, name: str) -> None:
    """Raises ModelError for text that is not UTF-8, which protobuf returns as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts: Iterable[object] = value if not isinstance(value, str | bytes) else (value,)
            if any(isinstance(text, bytes) for text in texts):
                raise ModelError(f"{name}: text that is not UTF-8 (in {field.full_name}); the file is damaged")
        elif field.type == field.TYPE_MESSAGE:
            for inner in (value,) if isinstance(value, Message) else value:
                check_text(inner, name)


def check_tensors(tensors: Iterable[onnx.TensorProto], name: str) -> None:
    """Raises ModelError for a tensor whose bytes do not fill its shape exactly."""
    for tensor in tensors:
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


def check_calls(proto: onnx.ModelProto, name: str) -> None:
    """Raises ModelError where local functions call themselves, or where inlining them would give too many nodes."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], tuple[int, int]] = {}
    active: set[tuple[str, str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> tuple[int, int]:
        """(calls, nodes) after inlining these nodes."""
        calls = count = 0
        for node in all_nodes(nodes):
            key = (node.domain, node.op_type, node.overload)
            inner = of_function(key) if key in functions else (0, 0)
            calls, count = calls + inner[0] + (key in functions), count + inner[1] + 1
        return calls, count

    def of_function(key: tuple[str, str, str]) -> tuple[int, int]:
        if key in active:
            raise ModelError(f"{name}: the function {key[1]!r} calls itself; the file is damaged")
        if key not in sizes:
            active.add(key)
            sizes[key] = size(functions[key].node)
            active.discard(key)
        return sizes[key]

    calls, count = size(proto.graph.node)
    if calls > MOST_CALLS or count > MOST_NODES:
        raise ModelError(
            f"{name}: {calls} calls of local functions expand to {count} nodes; at most {MOST_CALLS} calls and "
            f"{MOST_NODES} nodes can be read"
        )


def check_loops(proto: onnx.ModelProto, name: str) -> None:
    """Raises ModelError for a Loop of constant length with more than MOST_ROUNDS iterations."""
    constants = {t.name: t for t in proto.graph.initializer}
    nodes = [n for group in (proto.graph.node, *(f.node for f in proto.functions)) for n in all_nodes(group)]
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
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g.node, depth + 1)
            for inner in attribute.graphs:
                yield from all_nodes(inner.node, depth + 1)


def all_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and every subgraph, those in functions too. Raises ModelError below DEEPEST levels."""
    yield proto.graph
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in all_nodes(nodes):
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    yield attribute.g
                yield from attribute.graphs


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the graphs and functions: weights and attributes, and the parts of sparse ones."""
    for graph in all_graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for nodes in (proto.graph.node, *(f.node for f in proto.functions)):
        for node in all_nodes(nodes):
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
                for sparse in attribute.sparse_tensors:
                    yield from (sparse.values, sparse.indices)
