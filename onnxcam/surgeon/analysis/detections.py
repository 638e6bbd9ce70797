"""Finds the feature map from which each box of a detector's table is predicted.

A detector predicts from maps of several scales, with a layer or a branch of layers for each. table_scales() follows
the results of these layers to the rows of the table (dependence.py): rows that come from the same layers are boxes of
one scale, and their map is what enters those layers, before the branches for sides and classes part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.analysis.dependence import Bits, dependence, joined
from onnxcam.surgeon.analysis.frontier import WEIGHTED, Geometry, is_learned, most_derived
from onnxcam.surgeon.ir import Model, Node, Value, ancestors, constant, find_value

Rows = tuple[tuple[int, int], ...]
"""(start, stop) of each run of rows."""


@dataclass(frozen=True)
class TableScales:
    """The scales of a table: for each the rows and the feature map, from the finest map to the coarsest.

    traced: whether every row that depends on the image belongs to one of them.
    """

    scales: tuple[tuple[Rows, Value], ...]
    traced: bool


def table_scales(model: Model, logits: Logits, geometry: Geometry) -> TableScales | None:
    """The scales of a table of boxes; None where no layers predict it from maps, as behind a transformer's decoder."""
    table = find_value(model, logits.output)
    if table is None:
        return None
    sides = find_value(model, logits.sides_output) if logits.sides_output is not None else None
    tables = [table] if sides is None else [table, sides]
    layers = prediction_layers(tables, geometry)
    if not layers:
        return None
    bits = dependence(tables, [node.outputs[0] for node in layers], geometry.shapes, geometry.fixed)
    if bits is None:
        return TableScales((), traced=False)
    rows = _by_row(bits[0], logits)
    scores = joined(rows[:, logits.first_class : logits.first_class + logits.classes], (1,))
    every = joined(rows, (1,))
    if len(bits) > 1:
        every = every | _of_sides(bits[1], len(every))
    scales: dict[str, tuple[list[npt.NDArray[np.intp]], Value]] = {}
    traced = True
    for score, row in {(int(s), int(r)) for s, r in np.unique(np.stack([scores, every], 1), axis=0)}:
        trunk = _trunk(_chosen(layers, score), _chosen(layers, row), geometry)
        if trunk is None:
            traced = False
            continue
        members = np.flatnonzero((scores == score) & (every == row))
        scales.setdefault(str(trunk.name), ([], trunk))[0].append(members)
    ranked = [(_runs(np.sort(np.concatenate(members))), trunk) for members, trunk in scales.values()]
    return TableScales(tuple(sorted(ranked, key=lambda s: -cells(s[1], geometry))), traced)


def element_scales(model: Model, logits: Logits, geometry: Geometry) -> TableScales | None:
    """The scales of the numbers of any output, by their places in the flattened output; None for fewer than two scales.

    Numbers that come from layers of several scales, or from none, belong to no scale. Where the numbers cannot be
    followed to the layers there is no scale, and `traced` is False.
    """
    output = find_value(model, logits.output)
    layers = prediction_layers([output], geometry) if output is not None else []
    if output is None or len({cells(v, geometry) for n in layers if (v := n.inputs[0]) is not None}) < 2:
        return None
    bits = dependence([output], [node.outputs[0] for node in layers], geometry.shapes, geometry.fixed)
    if bits is None:
        return TableScales((), traced=False)
    first = bits[0].reshape(-1, math.prod(d or 1 for d in logits.shape[1:]))[0]
    scales: dict[str, tuple[list[npt.NDArray[np.intp]], Value]] = {}
    traced = True
    for value in np.unique(first):
        chosen = _chosen(layers, int(value))
        trunk = _trunk(chosen, chosen, geometry)
        if trunk is None:
            traced = traced and not chosen
            continue
        scales.setdefault(str(trunk.name), ([], trunk))[0].append(np.flatnonzero(first == value))
    ranked = [(_runs(np.sort(np.concatenate(members))), trunk) for members, trunk in scales.values()]
    if len(ranked) < 2:
        return None
    return TableScales(tuple(sorted(ranked, key=lambda s: -cells(s[1], geometry))), traced)


def prediction_layers(tables: Sequence[Value], geometry: Geometry) -> list[Node]:
    """The last layers with weights that read a map, on every way to the tables; [] for no detector's.

    Steps over the decoding of boxes, which may hold a product with fixed numbers. Other layers that read tokens or
    sequences follow the maps, so these are no branches of a detector.
    """
    layers: dict[int, Node] = {}
    seen: set[int] = set()
    ahead = list(tables)
    while ahead:
        node = ahead.pop().producer()
        if node is None or id(node) in seen or node.op_type == "Shape":
            continue
        seen.add(id(node))
        first = node.inputs[0] if node.inputs else None
        if node.op_type in WEIGHTED and first is not None and geometry.is_map(first) and is_learned(first):
            layers[id(node)] = node
        elif (
            node.op_type in WEIGHTED and not node.op_type.endswith(("Conv", "Transpose")) and not _is_expectation(node)
        ):
            return []
        else:
            ahead.extend(v for v in node.inputs if v is not None and constant(v) is None)
    return list(layers.values())


def common_trunk(head: Value, geometry: Geometry) -> Value | None:
    """The last map before the branches that predict a table of boxes from the coarsest maps; None without branches."""
    layers = prediction_layers([head], geometry)
    maps = [v for node in layers if (v := node.inputs[0]) is not None]
    if not maps:
        return None
    fewest = min(cells(v, geometry) for v in maps)
    return shared_map([v for v in maps if cells(v, geometry) == fewest], geometry)


def _is_expectation(node: Node) -> bool:
    """Whether a product only takes the mean of a distribution: one column of fixed numbers, as in DFL."""
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    array = constant(weights)
    return array is not None and array.ndim >= 1 and (array.ndim == 1 or array.size == max(array.shape))


def _by_row(bits: Bits, logits: Logits) -> Bits:
    """(boxes, columns) of the first image."""
    table: Bits = bits.reshape(-1, *logits.shape[1:])[0]
    return table if logits.boxes_first else table.T


def _of_sides(bits: Bits, boxes: int) -> Bits:
    """(boxes,) what the sides of each box depend on; its table may list the boxes along either axis."""
    table = bits.reshape(bits.shape[0], bits.shape[1], -1)[0]
    return joined(table, (1 if table.shape[0] == boxes else 0,))


def _chosen(layers: Sequence[Node], bits: int) -> list[Node]:
    return [node for k, node in enumerate(layers) if bits >> k & 1]


def _trunk(scoring: Sequence[Node], every: Sequence[Node], geometry: Geometry) -> Value | None:
    """The map from which a row is predicted; None where its scores come from maps of several sizes, or from none.

    scoring: the layers that predict the row's scores; every: those of its sides too, whose branch parts later.
    """
    maps = [v for node in scoring if (v := node.inputs[0]) is not None]
    sizes = {cells(v, geometry) for v in maps}
    if len(sizes) != 1:
        return None
    (size,) = sizes
    more = [v for node in every if (v := node.inputs[0]) is not None and cells(v, geometry) == size]
    for branches in (more, maps):
        trunk = shared_map(branches, geometry)
        if trunk is not None and cells(trunk, geometry) == size:
            return trunk
    return maps[0] if len(maps) == 1 else None


def shared_map(maps: Sequence[Value], geometry: Geometry) -> Value | None:
    """The last map from which all of these are computed, or which is all of them; None where they share none."""
    lineages = [[v, *ancestors(v)] for v in maps]
    ids = [{id(v) for v in lineage} for lineage in lineages]
    first = lineages[0] if lineages else []
    shared = [v for v in first if all(id(v) in i for i in ids) and geometry.is_map(v) and is_learned(v)]
    return most_derived(shared) if shared else None


def _runs(rows: npt.NDArray[np.intp]) -> Rows:
    """(start, stop) of the runs of ascending numbers."""
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in np.split(rows, ends) if len(run))


def cells(value: Value, geometry: Geometry) -> int:
    """Cells of the tensor's grid."""
    sizes = zip(geometry.axes_of(value), geometry.shape(value) or (), strict=True)
    return math.prod(d or 1 for a, d in sizes if a in geometry.letters)
