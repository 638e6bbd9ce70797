"""Keeps a file small: constants of the added nodes are stored once, and large ones as the few numbers that make them.

Matrices that resize, and their transposes, hold a few numbers in each row; patterns are a column times a row; whole
numbers fit a smaller type. The graph puts them together again, to the bit. Runtimes that fold constants do so once,
when they load the file.
"""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value

ADDED = "onnxcam/"
"""How the names of added tensors begin."""
LEAST = 1024
"""Bytes that must be saved, for the nodes that are added."""
NODES = 400
"""Bytes of the nodes of one term."""
MOST = 12
"""Numbers in a row that are not 0."""

SHARED, SHARED_INTEGERS = 4096, 256
"""Numbers of a constant from which it is stored once, though a body reads faster what is its own."""

Table = npt.NDArray[np.generic]


def compacted(model: Model) -> Model:
    """Stores the constants of added nodes in little room, those of subgraphs too. Changes the model and returns it."""
    share_constants(model)
    for i, graph in enumerate([model.graph, *model.graph.subgraphs()]):  # whose names must differ
        part = Model(graph, ir_version=model.ir_version)
        compact_constants(part, Builder(part, f"{ADDED}compact_{i}"))
    return model


def share_constants(model: Model) -> None:
    """Stores a constant once in a graph, and not in a subgraph a large one that the outermost graph holds.

    A constant of the model itself stays where its name says, unless it is large.
    """
    outside: dict[tuple[object, ...], Value] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        here: dict[tuple[object, ...], Value] = {}
        for name, value in list(graph.initializers.items()):
            if value.const_value is None or value.is_graph_input() or value.is_graph_output():
                continue
            large = _numbers(value) >= (SHARED_INTEGERS if value.dtype == onnx_ir.DataType.INT64 else SHARED)
            if not large and not name.startswith(ADDED):
                continue
            content = _content(value)
            same = (outside.get(content) if large else None) or here.setdefault(content, value)
            if same is not value:
                onnx_ir.convenience.replace_all_uses_with(value, same)
                del graph.initializers[name]
            elif large and graph is model.graph:
                outside[content] = value


def _numbers(value: Value) -> int:
    return math.prod(value.const_value.shape.numpy()) if value.const_value is not None else 0


def _content(value: Value) -> tuple[object, ...]:
    array = ir.constant(value)
    assert array is not None
    assert value.const_value is not None
    return value.const_value.dtype, array.shape, array.tobytes()


def compact_constants(model: Model, b: Builder) -> None:
    """Replaces the large constants of the model's graph, except those of subgraphs, by nodes that b adds."""
    graph, tables = model.graph, _Tables(b)
    for name, value in list(graph.initializers.items()):
        array = ir.constant(value) if name.startswith(ADDED) else None
        if array is None or array.nbytes < LEAST or value.is_graph_output():
            continue
        if array.dtype == np.int64:
            made = _narrow(b, array)
        else:
            made = tables.made(array) if array.dtype in (np.float32, np.float64) and array.ndim >= 2 else None
        if made is not None:
            onnx_ir.convenience.replace_all_uses_with(value, made)
            del graph.initializers[name]
    graph.sort()


def shorten_names(model: Model) -> None:
    """Numbers the added nodes and tensors, in all graphs, but for inputs and outputs of the model.

    Each name is in the file several times, so a small model's file is mostly names else.
    """
    kept = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    graphs = (model.graph, *model.graph.subgraphs())
    taken = {value.name for graph in graphs for value in _values(graph)} | {n.name for g in graphs for n in g}
    names = (name for number in itertools.count() if (name := f"{ADDED}{number:x}") not in taken)
    for graph in graphs:
        for value in _values(graph):
            if (value.name or "").startswith(ADDED) and id(value) not in kept:
                value.name = next(names)
        for node in graph:
            if (node.name or "").startswith(ADDED):
                node.name = next(names)


def _values(graph: onnx_ir.Graph) -> list[Value]:
    return [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]


@dataclass(frozen=True, eq=False)
class _Tables:
    """The tables that were made so far, by shape and numbers; None for those that take as much room."""

    b: Builder
    tables: dict[tuple[object, ...], Value | None] = field(default_factory=dict)

    def made(self, array: Table) -> Value | None:
        """A tensor that equals the array, made of less."""
        sides = [side for side in array.shape if side != 1]  # the kernel of a Conv may end in ones
        table = array.reshape(-1, sides[-1] if sides else 1)
        is_wide = table.shape[0] < table.shape[1]
        upright = np.ascontiguousarray(table.T if is_wide else table)
        key = upright.dtype.str, upright.shape, upright.tobytes()
        if key not in self.tables:
            self.tables[key] = _product(self.b, upright) or _sparse(self.b, upright)
        made = self.tables[key]
        if made is None:
            return None
        made = self.b("Transpose", made, perm=[1, 0]) if is_wide else made
        return made if array.shape == table.shape else self.b.reshape(made, array.shape)


def _narrow(b: Builder, array: Table) -> Value | None:
    """Whole numbers in the smallest type that holds them; None where that is int64."""
    ends = array.min(), array.max()
    for dtype in (np.uint8, np.int16, np.int32):
        limits = np.iinfo(dtype)
        if limits.min <= ends[0] and ends[1] <= limits.max:
            return b.cast(b.constant(array, dtype), onnx_ir.DataType.INT64)
    return None


def _product(b: Builder, table: Table) -> Value | None:
    """A column times a row; None for other tables."""
    if min(table.shape) == 1 or not np.isfinite(table).all():
        return None
    i, k = np.unravel_index(np.abs(table).argmax(), table.shape)
    if table[i, k] == 0:
        return None
    row, column = table[i : i + 1], table[:, k : k + 1] / table[i, k]
    if not _same_bits(column * row, table):
        return None
    return b("Mul", b.constant(column, table.dtype), b.constant(row, table.dtype))


def _sparse(b: Builder, table: Table) -> Value | None:
    """The sum of terms with one number in each row; None where that takes as much room."""
    rows, width = table.shape
    most = int(np.count_nonzero(table, axis=1).max())
    smallest = np.dtype(np.uint8 if width <= 256 else np.int32)
    room = most * (rows * (smallest.itemsize + table.itemsize) + NODES) + 4 * width
    if not 0 < most <= MOST or table.nbytes - room < LEAST or not np.isfinite(table).all():
        return None
    # The columns of each row's numbers that are not 0, and where it has fewer, of zeros.
    columns = np.argsort(table == 0, axis=1, kind="stable")[:, :most]
    numbers = np.take_along_axis(table, columns, axis=1)
    if not _same_bits(_sum_of_terms(columns, numbers, width), table):  # of 0 and -0 the sum is 0
        return None
    places, terms = b.constant(np.arange(width)[None], np.int32), list[Value]()
    zero = b.constant(0, table.dtype)
    for i in range(most):
        column = b.cast(b.constant(columns[:, i : i + 1], smallest), onnx_ir.DataType.INT32)
        terms.append(b("Where", b("Equal", column, places), b.constant(numbers[:, i : i + 1], table.dtype), zero))
    total = terms[0]
    for term in terms[1:]:
        total = b("Add", total, term)
    return total


def _sum_of_terms(columns: npt.NDArray[np.int64], numbers: Table, width: int) -> Table:
    """What the nodes of _sparse compute."""
    total: Table | None = None
    for column, number in zip(columns.T, numbers.T, strict=True):
        term = np.where(column[:, None] == np.arange(width), number[:, None], numbers.dtype.type(0))
        total = term if total is None else np.add(total, term)
    assert total is not None, "a sparse table has a number"
    return total


def _same_bits(one: Table, other: Table) -> bool:
    """Whether two tables hold the same numbers, 0 and -0 told apart."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
