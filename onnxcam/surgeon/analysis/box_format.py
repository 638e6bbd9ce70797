"""Says whether a detector's table holds a box as two corners or as centre, width and height, by how it is computed.

The first column (left or centre x) and the third (right or width) are followed back to the arithmetic that makes them:

    left   = anchor - distance,  right = anchor + distance        corners
    centre = (left + right) / 2, width = right - left             centre
    centre = offset + grid,      width = exp or square of offset  centre

Where the graph has neither, as behind a perceptron, the numbers must tell (explainer/targets/box_places.py).
"""

import math
from enum import Enum, auto

import numpy as np

from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.ir import Model, Node, Value, constant, find_value, integer, integers

PASSED = frozenset({"Identity", "Cast", "Clip", "Relu", "Dropout", "Floor", "Round", "Min", "Max"})
"""Operators that leave a column where it is, and what it means."""
RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
LONGEST_WALK = 200
Place = tuple[int, int] | None
"""(axis, index along it) of a column; None for a tensor that is the column."""


class _Made(Enum):
    """How a column is computed. SHIFT: a fixed number is added, such as a cell's place in the grid."""

    SUM = auto()
    DIFFERENCE = auto()
    SHIFT = auto()
    OTHERWISE = auto()


def sides_are_corners(model: Model, logits: Logits, geometry: Geometry) -> bool | None:
    """True for (left, top, right, bottom), False for (centre x, centre y, width, height), None where it is open."""
    apart = logits.sides_output
    table = find_value(model, apart if apart is not None else logits.output)
    shape = geometry.shape(table) if table is not None else None
    if table is None or shape is None or len(shape) != 3 or (apart is None and logits.sides is None):
        return None
    boxes_first = shape[2] == 4 if apart is not None else logits.boxes_first
    axis, column = 2 if boxes_first else 1, 0 if apart is not None else logits.sides or 0
    return _reading(_made(table, (axis, column), geometry), _made(table, (axis, column + 2), geometry))


def _reading(first: _Made, third: _Made) -> bool | None:
    if first is _Made.DIFFERENCE and third in (_Made.SUM, _Made.SHIFT):
        return True
    if first is _Made.SUM and third in (_Made.DIFFERENCE, _Made.OTHERWISE):
        return False
    return False if (first, third) == (_Made.SHIFT, _Made.OTHERWISE) else None


def _made(value: Value, place: Place, geometry: Geometry) -> _Made:
    """How the column at this place of a tensor is computed."""
    for _ in range(LONGEST_WALK):
        node = value.producer()
        if node is None:
            return _Made.OTHERWISE
        if node.op_type in ("Add", "Sub"):
            return _sum(node, geometry)
        before = _before(node, value, place, geometry)
        if before is None:
            return _Made.OTHERWISE
        value, place = before
    return _Made.OTHERWISE


def _sum(node: Node, geometry: Geometry) -> _Made:
    fixed = [_is_fixed(v, geometry) for v in node.inputs]
    if node.op_type == "Sub":
        return _Made.SHIFT if fixed[1] else _Made.DIFFERENCE
    return _Made.SHIFT if any(fixed) else _Made.SUM


def _before(node: Node, value: Value, place: Place, geometry: Geometry) -> tuple[Value, Place] | None:
    """The tensor and place that a column comes from unchanged or scaled; None behind any other arithmetic."""
    first = node.inputs[0] if node.inputs else None
    if node.op_type in ("Mul", "Div"):
        moving = [v for v in node.inputs if v is not None and not _is_fixed(v, geometry)]
        return _aligned(moving[0], value, place, geometry) if len(moving) == 1 else None
    if first is None:
        return None
    if node.op_type in PASSED:
        return first, place
    if place is None:
        return (first, None) if node.op_type in (*RESHAPES, "Transpose") else None
    if node.op_type == "Transpose":
        order = integers(node, "perm")
        return (first, (order[place[0]], place[1])) if order is not None else None
    if node.op_type in RESHAPES:
        return _of_reshape(first, value, place, geometry)
    rule = {"Concat": _of_concat, "Split": _of_split, "Slice": _of_slice}.get(node.op_type)
    return rule(node, value, *place, geometry) if rule is not None else None


def _aligned(operand: Value, result: Value, place: Place, geometry: Geometry) -> tuple[Value, Place] | None:
    """The place in an operand that broadcasts to the result."""
    shape, whole = geometry.shape(operand), geometry.shape(result)
    if place is None:
        return operand, None
    if shape is None or whole is None or place[0] < len(whole) - len(shape):
        return None
    axis = place[0] - len(whole) + len(shape)
    return operand, (axis, place[1] if shape[axis] != 1 else 0)


def _of_concat(node: Node, value: Value, axis: int, column: int, geometry: Geometry) -> tuple[Value, Place] | None:
    shapes = [geometry.shape(v) if v is not None else None for v in node.inputs]
    first = node.inputs[0]
    if first is None or shapes[0] is None:
        return None
    along = integer(node, "axis", 0) % len(shapes[0])
    if along != axis:  # scales, which are all made alike
        return first, (axis, column)
    for part, shape in zip(node.inputs, shapes, strict=True):
        size = shape[axis] if shape is not None else None
        if part is None or size is None:
            return None
        if column < size:
            return part, (axis, column)
        column -= size
    return None


def _of_split(node: Node, value: Value, axis: int, column: int, geometry: Geometry) -> tuple[Value, Place] | None:
    first = node.inputs[0]
    shape = geometry.shape(first) if first is not None else None
    if first is None or shape is None:
        return None
    if integer(node, "axis", 0) % len(shape) != axis:
        return first, (axis, column)
    for output in node.outputs:
        if output is value:
            return first, (axis, column)
        size = (geometry.shape(output) or {axis: None})[axis]
        if size is None:
            return None
        column += size
    return None


def _of_slice(node: Node, value: Value, axis: int, column: int, geometry: Geometry) -> tuple[Value, Place] | None:
    first, shape = node.inputs[0], geometry.shape(node.outputs[0])
    starts, axes, steps = (_integers(node, name, i, geometry) for name, i in (("starts", 1), ("axes", 3), ("steps", 4)))
    if first is None or shape is None or starts is None or (before := geometry.shape(first)) is None:
        return None
    axes = axes if axes is not None else list(range(len(starts)))
    for i, along in enumerate(axes):
        size = before[axis]
        if along % len(shape) == axis:
            if (steps is not None and steps[i] != 1) or size is None:
                return None
            return first, (axis, column + max(0, starts[i] + size if starts[i] < 0 else starts[i]))
    return first, (axis, column)


def _of_reshape(before: Value, after: Value, place: tuple[int, int], geometry: Geometry) -> tuple[Value, Place] | None:
    """The axis of the same size with as many numbers before it; an axis of a single column may come from nothing."""
    source, target, (axis, column) = geometry.shape(before), geometry.shape(after), place
    if source is None or target is None or None in source[1:] or None in target[1:]:
        return None
    ahead = math.prod(d or 0 for d in target[1:axis])
    for i, size in enumerate(source):
        if i and size == target[axis] and math.prod(d or 0 for d in source[1:i]) == ahead:
            return before, (i, column)
    return (before, None) if target[axis] == 1 else None


def _integers(node: Node, attribute: str, operand: int, geometry: Geometry) -> list[int] | None:
    """Integers of an attribute or an input, whose numbers may follow from shapes."""
    given = integers(node, attribute, operand)
    value = node.inputs[operand] if given is None and operand < len(node.inputs) else None
    array = geometry.fixed.get(str(value.name)) if value is not None else None
    return [int(i) for i in np.asarray(array).reshape(-1)] if array is not None else given


def _is_fixed(value: Value | None, geometry: Geometry) -> bool:
    """Whether the numbers do not depend on the image."""
    return value is None or str(value.name) in geometry.fixed or constant(value) is not None
