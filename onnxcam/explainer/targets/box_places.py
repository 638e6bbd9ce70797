"""Where the boxes of a detector's table lie on the model's input: what its four sides mean, and of which unit they are.

A table holds (left, top, right, bottom) or (centre x, centre y, width, height), in pixels of the input or in fractions
of it. The graph says which where it computes them from one another (surgeon/analysis/box_format.py); else the numbers
do: right is right of left in every box only if these are corners, and numbers that are all small are fractions.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxcam.explainer.targets.box_axes import starts_at_corner, y_first
from onnxcam.explainer.targets.kind import HeadOutput, Vector
from onnxcam.outputs.outlines import bounds
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.types import Note, NoteCode

LARGEST_FRACTION = 1.5
"""Centres up to this size are fractions of the input: those of a whole table reach farther than two pixels."""
MARGIN = 0.05
"""How far beyond the input the centre of a box may lie, as a fraction of it."""
MOST, TOP = 0.95, 100
"""Corners are in order in this share of all boxes, and in every one of the TOP boxes with the best scores."""
PLAUSIBLE = 0.8
"""The share of boxes that must lie on the input, by one reading or the other."""
FEW = 20
"""With fewer boxes a table of centres may look like corners by chance."""


@dataclass(frozen=True, eq=False)
class InputBoxes:
    """corners: (boxes,4) left, top, right, bottom in pixels of the model's input; None where they cannot be read.

    doubt: why the reading may be wrong, as a note; None where there is no doubt.
    """

    corners: Vector | None
    doubt: Note | None = None


def sides_of(output: HeadOutput) -> Vector | None:
    """(boxes,4) the sides of the boxes as the model gives them; None where it gives scores alone."""
    logits = output.logits
    if logits.sides is None:
        return output.other_sides
    table = output.values.reshape(logits.shape[1:])
    return (table if logits.boxes_first else table.T)[:, logits.sides : logits.sides + 4]


def read_boxes(output: HeadOutput, scores: Vector) -> InputBoxes:
    """The boxes on the model's input. scores: (boxes,) the best score of each box."""
    sides = sides_of(output)
    if sides is None:
        return InputBoxes(None)
    name = output.logits.sides_output or output.logits.output
    what = f"the four numbers that {name!r} holds for a box"
    known = output.logits.corners
    upright, doubt = with_x_first(sides, np.arange(len(sides)), output, name, known)
    if known is None and len(output.size) == 2:
        unit = (1.0, 1.0) if _are_fractions(upright, known) else output.size[::-1]
        if starts_at_corner(upright / np.tile(unit, 2), output.scales):
            upright = upright + np.pad(upright[:, 2:] / 2, ((0, 0), (0, 2)))
            known = False
            text = f"{what} are read as left, top, width, height, since the boxes then lie about their cells"
            doubt = doubt or Note(NoteCode.BOX_READING, text)
    boxes = read_sides(upright, scores, output.size, known, what=what)
    return boxes if doubt is None else replace(boxes, doubt=doubt)


def with_x_first(
    sides: Vector, rows: npt.NDArray[np.intp], output: HeadOutput, name: str, known: bool | None
) -> tuple[Vector, Note | None]:
    """The sides (boxes,4) with x before y, and what is doubtful about it. known: as in read_sides().

    rows: places in the table that the output's scales divide. name: that of the boxes in the model.
    """
    middles = (sides[:, :2] + sides[:, 2:]) / 2
    # The middle of centre and size, taken for corners, still follows the grid.
    swapped, doubt = y_first(sides[:, :2] if known is False else middles, rows, output, name)
    return (sides[:, [1, 0, 3, 2]], doubt) if swapped else (sides, None)


def read_sides(
    sides: Vector, scores: Vector, size: tuple[int, ...], known: bool | None = None, *, what: str, chosen: bool = False
) -> InputBoxes:
    """The boxes (boxes,4) on a model's input of this size. A row of zeros is no box.

    known: what the graph says of corners. what: what these numbers are, for a note. chosen: whether a detector chose
    these boxes, and nearly all that do return corners, so that a few boxes that look like corners are.
    """
    if len(size) != 2 or not len(sides):
        return InputBoxes(None)
    live: npt.NDArray[np.bool_] = (sides != 0).any(axis=1)
    if not live.any() or not np.isfinite(sides).all():
        return InputBoxes(None)
    height, width = size
    if _are_fractions(sides[live], known):
        sides = sides * np.array([width, height, width, height])
    centred, cornered = corners_of(sides), _plausible(sides, size)
    if known is not None:
        return InputBoxes(sides if known else centred)
    best = [i for i in np.argsort(-scores, kind="stable")[:TOP] if live[i]]
    if cornered[live].mean() >= MOST and cornered[best].all():
        return InputBoxes(sides, None if chosen else _few(int(live.sum()), "left, top, right, bottom"))
    if _plausible(centred, size)[live].mean() < PLAUSIBLE:
        text = f"{what} do not look like boxes on the picture, so none is drawn"
        return InputBoxes(None, Note(NoteCode.BOX_READING, text))
    return InputBoxes(centred, _few(int(live.sum()), "centre, width, height"))


def _are_fractions(sides: Vector, known: bool | None) -> bool:
    """Whether nearly all boxes have their centres in a square of one pixel or so. Unknown: by either reading."""
    centres = {False: sides[:, :2], True: (sides[:, :2] + sides[:, 2:]) / 2}
    readings = centres.values() if known is None else [centres[known]]
    return all((np.abs(each) <= LARGEST_FRACTION).all(axis=1).mean() >= MOST for each in readings)


def corners_of(sides: Vector) -> Vector:
    """(boxes,4) corners of boxes given as centre x, centre y, width, height."""
    half = sides[:, 2:] / 2
    return np.concatenate([sides[:, :2] - half, sides[:, :2] + half], axis=1)


def place_box(scored: ScoredTarget, corners: Vector, box: int, output: HeadOutput) -> ScoredTarget:
    """The target with the place of its box on the picture. corners: (4,) on the model's input; box: its number."""
    if not (corners[2] > corners[0] and corners[3] > corners[1]):
        return scored
    left, top, right, bottom = (float(c) for c in corners)
    points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if output.turned_boxes:
        points = _turned(points, _last_number(box, output))
    outline = (tuple((float(x), float(y)) for x, y in _on_picture(points, output)),)
    return replace(scored, box=bounds(outline), outline=outline if output.turned_boxes else ())


def _turned(points: Vector, angle: float) -> Vector:
    """The points (4,2) turned about their centre by an angle in radians, from the x axis towards the y axis."""
    centre, (c, s) = points.mean(axis=0), (np.cos(angle), np.sin(angle))
    return np.asarray((points - centre) @ np.array([[c, s], [-s, c]]) + centre)


def _last_number(box: int, output: HeadOutput) -> float:
    table = output.values.reshape(output.logits.shape[1:])
    return float(table[box, -1] if output.logits.boxes_first else table[-1, box])


def _on_picture(points: Vector, output: HeadOutput) -> Vector:
    """Points (n,2) of the model's input as points of the picture; the same where there is no picture."""
    if output.placement is None:
        return points
    left, top, right, bottom = output.placement.box
    height, width = output.size[-2:]
    return np.asarray(points * ((right - left) / width, (bottom - top) / height) + (left, top))


def _plausible(corners: Vector, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(boxes,) whether the corners are in order and the centre is on the input."""
    centre, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    most = np.array(size[::-1], np.float64)
    inside = (centre >= -MARGIN * most) & (centre <= (1 + MARGIN) * most)
    return np.asarray((inside & (extent >= 0)).all(axis=1))


def _few(boxes: int, words: str) -> Note | None:
    if boxes >= FEW:
        return None
    text = f"the sides of the boxes are read as {words}, by the numbers of only {boxes} boxes; check the drawn box"
    return Note(NoteCode.BOX_READING, text)
