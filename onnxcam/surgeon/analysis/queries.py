"""Finds what the rows of a table follow that a detector predicts for chosen places: queries or proposals.

A detection transformer may choose its queries by TopK over the cells of its encoder, and a two-stage detector proposes
regions. A row of their tables is another place for every image. followed_by() says how a row can be followed: a query
by its cell, which TopK names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir

from onnxcam.surgeon.analysis.follow import Follow as Follow
from onnxcam.surgeon.analysis.selection import Tracer
from onnxcam.surgeon.ir import Node, Value, ancestors, constant

INDEXED = frozenset({"Gather", "GatherElements", "GatherND"})


@dataclass(frozen=True)
class Followed:
    """How rows are followed. cells (N,rows): the cell of each row (CELL); count: the number of cells."""

    by: Follow
    cells: Value | None = None
    count: int = 0


def followed_by(table: Value, rows: int, tracer: Tracer) -> Followed:
    """How the rows of a table of scores can be followed. rows: their number.

    BEST where regions are proposed by non-maximum suppression, or where queries are chosen in a way that names no cell.
    """
    if is_proposed(table):
        return Followed(Follow.BEST)
    nodes = _computed_by(table)
    chosen = [n for n in nodes if n.op_type == "TopK" and len(n.outputs) > 1 and _takes(n, rows, tracer)]
    for node in chosen:
        data = node.inputs[0]
        count = tracer.shape(data)[-1] if data is not None else None
        for cells, classes in ((node.outputs[1], 1), *_divided(node.outputs[1])):
            if count is not None and not count % classes and _reads(cells, count // classes, nodes, tracer):
                return Followed(Follow.CELL, cells, count // classes)
    return Followed(Follow.BEST if chosen else Follow.ROW)


def is_proposed(table: Value) -> bool:
    """Whether the rows of a table are of regions that suppression left, so that the image decides their number."""
    return any(op == "NonMaxSuppression" for n in _computed_by(table) for op in operators(n))


def _computed_by(table: Value) -> list[Node]:
    return list({id(n): n for v in (table, *ancestors(table)) if (n := v.producer()) is not None}.values())


def operators(node: Node) -> Iterator[str]:
    """The operators of a node and of its branches, where exporters put the suppression of what may be no box at all."""
    yield node.op_type
    for attribute in node.attributes.values():
        if attribute.type == onnx_ir.AttributeType.GRAPH:
            yield from (inner.op_type for inner in attribute.as_graph().all_nodes())


def _divided(indices: Value) -> Iterator[tuple[Value, int]]:
    """The indices divided by a number of classes, as where TopK ranks all scores of all cells; and that number."""
    for use in indices.uses():
        divisor = constant(use.node.inputs[1]) if use.node.op_type == "Div" and use.idx == 0 else None
        if divisor is not None and divisor.size == 1 and int(divisor.reshape(-1)[0]) > 1:
            yield use.node.outputs[0], int(divisor.reshape(-1)[0])


def _takes(node: Node, rows: int, tracer: Tracer) -> bool:
    """Whether a TopK chooses this many of the entries of (N,cells), whose numbers depend on the image."""
    data, indices = node.inputs[0], node.outputs[1]
    if data is None or tracer.is_fixed(data) or not list(indices.uses()):
        return False
    shape = tracer.shape(indices)
    return len(shape) == 2 and shape[-1] == rows


def _reads(indices: Value, count: int, nodes: list[Node], tracer: Tracer) -> bool:
    """Whether the indices, as they are, gather from tensors (N,cells,numbers) with this many cells."""
    for node in nodes:
        if node.op_type not in INDEXED or node.inputs[0] is None or node.inputs[1] is None:
            continue
        shape = tracer.shape(node.inputs[0])
        if count in shape and len(shape) >= 2 and _leads_to(indices, node.inputs[1]):
            return True
    return False


def _leads_to(indices: Value, index: Value) -> bool:
    """Whether an operand of Gather holds the indices, with axes added, or beside those of other axes."""
    ahead, seen = [index], set[int]()
    while ahead:
        value = ahead.pop()
        if value is indices:
            return True
        node = value.producer()
        passes = ("Unsqueeze", "Expand", "Tile", "Concat", "Cast", "Reshape", "Identity", "Add", "Where")
        if id(value) not in seen and node is not None and node.op_type in passes:
            seen.add(id(value))
            ahead += [v for v in node.inputs if v is not None]
    return False
