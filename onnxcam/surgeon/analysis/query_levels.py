"""Finds the feature map of each row of a table of candidates that follows queries or regions (queries.py).

The cells that queries are chosen from lie on maps of several sizes, whose tokens are joined: a cell is explained by its
own map. Regions are read from maps of several sizes too; they are explained by the last map that all of these share.
"""

from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.analysis.candidate_table import CANDIDATES
from onnxcam.surgeon.analysis.detections import TableScales, shared_map
from onnxcam.surgeon.analysis.factors import Factored, is_spatial
from onnxcam.surgeon.analysis.frontier import Geometry, find_frontier, is_learned, refine
from onnxcam.surgeon.analysis.queries import INDEXED
from onnxcam.surgeon.ir import Model, Node, Value, ancestors, find_value, integer


def candidate_scales(model: Model, logits: Logits, geometry: Geometry) -> TableScales | None:
    """The maps of a table CANDIDATES whose rows are cells or the best region; None for any other table."""
    table = find_value(model, CANDIDATES) if logits.output == CANDIDATES else None
    node = table.producer() if table is not None else None
    while node is not None and node.op_type in ("Identity", "Cast", "Sigmoid") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or table is None:
        return None
    if node.op_type == "ScatterElements":
        return _by_cell(table, node, logits, geometry)
    if node.op_type == "ReduceMax" and logits.boxes == 1:
        maps = [v for v, _ in find_frontier(table, geometry) if is_learned(v)]
        trunk = shared_map(maps, geometry)
        return TableScales(((((0, 1),), trunk),), traced=False) if trunk is not None else None
    return None


def _by_cell(table: Value, scatter: Node, logits: Logits, geometry: Geometry) -> TableScales | None:
    chosen = _chosen_by(scatter)
    if chosen is None or chosen.inputs[0] is None:
        return None
    levels, start = [], 0
    for tokens in _joined_levels(chosen, logits.boxes, geometry):
        shape = geometry.shape(tokens) or ()
        stop = start + int(shape[1] or 0)
        levels.append((((start, stop),), refine(tokens, table, logits.classes, geometry).value))
        start = stop
    return TableScales(tuple(levels), traced=True) if levels and start == logits.boxes else None


def _chosen_by(scatter: Node) -> Node | None:
    """The TopK whose indices say where rows are put."""
    value = scatter.inputs[1]
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "TopK":
            return node
        value = node.inputs[0]
    return None


def _joined_levels(chosen: Node, cells: int, geometry: Geometry) -> list[Value]:
    """The tokens (N,cells of a map,numbers) that are joined to the cells which TopK ranks; [] where it is unknown."""
    ranked = chosen.inputs[0]
    assert ranked is not None
    joins = [n for v in ancestors(ranked) if (n := v.producer()) is not None and n.op_type == "Concat"]
    for node in joins:
        shape = geometry.shape(node.outputs[0]) or ()
        parts = [v for v in node.inputs if v is not None]
        if len(shape) != 3 or shape[1] != cells or integer(node, "axis", 0) % 3 != 1:
            continue
        if all(_is_grid(v, geometry) and is_learned(v) for v in parts):
            return parts
    for use in chosen.outputs[1].uses():
        for reader in (use.node, *_readers(use.node)):
            data = reader.inputs[0] if reader.op_type in INDEXED else None
            if data is not None and _is_grid(data, geometry) and (geometry.shape(data) or ())[1:2] == (cells,):
                return [data]
    return []


def _readers(node: Node, most: int = 4) -> list[Node]:
    """The nodes that read what a node makes of its input, over a few steps such as Unsqueeze and Expand."""
    readers, ahead = list[Node](), [node]
    for _ in range(most):
        ahead = [use.node for n in ahead for output in n.outputs for use in output.uses()]
        readers += ahead
    return readers


def _is_grid(value: Value, geometry: Geometry) -> bool:
    """Whether the tensor (N,tokens,numbers) lists the cells of one map, and nothing else."""
    axes, shape = geometry.axes_of(value), geometry.shape(value) or ()
    axis = axes[1] if len(axes) == len(shape) == 3 else None
    if axis is None or not is_spatial(axis) or not geometry.has_grid(value):
        return False
    return not isinstance(axis, Factored) or not (axis.before or axis.after)
