"""Chooses the table of scores among the outputs of a detector that gives sides, scores and further numbers apart.

RetinaFace gives (N,boxes,4), (N,boxes,2) and (N,boxes,10) landmarks; other exports an objectness (N,boxes,1) too.
"""

from collections.abc import Sequence

from onnxcam.surgeon.analysis.columns import ACTIVATIONS, leaves
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.analysis.output_shapes import dims, size
from onnxcam.surgeon.ir import Value

SIDES = 4


def beside_sides(outputs: Sequence[Value], geometry: Geometry) -> list[Value]:
    """The outputs that hold numbers of the boxes of which another output holds the four sides."""
    shapes = {id(v): shape for v in outputs if len(shape := dims(v, geometry)) == 3}
    return [
        v
        for v in outputs
        if id(v) in shapes
        and any(_lists_alike(shapes[id(v)], shapes[id(o)]) for o in outputs if o is not v and id(o) in shapes)
    ]


def best_table(tables: Sequence[Value], geometry: Geometry) -> tuple[Value, tuple[str, ...]]:
    """The table of scores, and the names of others that may be meant: an objectness, or more that pass no activation.

    Scores are in no output of four numbers a box, if there is another, and pass a softmax or a sigmoid, if any do.
    """
    activations = {id(v): _activations(v) for v in tables}

    def rank(value: Value) -> tuple[bool, bool, bool, int]:
        active = activations[id(value)]
        return SIDES not in dims(value, geometry)[1:], "Softmax" in active, bool(active), size(value, geometry)

    best = max(tables, key=rank)
    beside = beside_sides(tables, geometry)
    rivals = [v for v in tables if v is not best and v in beside and rank(v)[:3] == rank(best)[:3]]
    return best, tuple(str(v.name) for v in rivals) if best in beside else ()


def _lists_alike(shape: Sequence[int | None], sides: Sequence[int | None]) -> bool:
    """Whether the sides, (N,boxes,4) or (N,4,boxes), are of as many boxes as the other shape lists, along that axis."""
    return (sides[2] == SIDES and shape[1] == sides[1] != 1) or (sides[1] == SIDES and shape[2] == sides[2] != 1)


def _activations(value: Value) -> set[str]:
    """The activations that give the table's numbers; empty where some of them pass none."""
    operators = {node.op_type for v in leaves(value) if (node := v.producer()) is not None}
    return operators if operators <= ACTIVATIONS else set()
