"""Says whether a detector lists a box's y before its x, as TensorFlow's do: (top, left, bottom, right), or its corner
and size, as COCO's files do: (left, top, width, height).

Nothing in four numbers tells. But a box lies near the cell of the feature map that predicts it: over many boxes the
first number follows the cells' columns where it is an x, and their rows where it is a y. Without enough cells the name
that TensorFlow's exports give their boxes is taken, and a note says so.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.explainer.targets.kind import HeadOutput, Vector
from onnxcam.surgeon.analysis.anatomy import Scale
from onnxcam.surgeon.analysis.follow import Follow
from onnxcam.types import Note, NoteCode

TENSORFLOW_BOXES = "detection_boxes"
"""The output of TensorFlow's detectors that holds (top, left, bottom, right)."""
FEWEST = 8
"""Boxes from which their places on the grid tell the order of the axes."""
CLEAR, MARGIN = 0.5, 0.3
"""The least correlation of both coordinates with the grid, and how much more it is than in the other order."""
NEAR = 0.25
"""How far from the middle of its box the middle of a cell may lie in the median, in widths and heights."""

Indices = npt.NDArray[np.intp]


def y_first(centres: Vector, rows: Indices, output: HeadOutput, name: str) -> tuple[bool, Note | None]:
    """Whether the first of the two numbers of these centres (boxes,2) is y, and what is doubtful about it.

    rows: of the table that the scales of the output divide. name: that of the boxes in the model.
    """
    by_grid = _follows_rows(centres, rows, output.scales)
    if by_grid is not None:
        return by_grid, None
    if not name.partition(":")[0].endswith(TENSORFLOW_BOXES):
        return False, None
    text = f"the boxes are read as top, left, bottom, right, by the name {name!r} alone; check the drawn box"
    return True, Note(NoteCode.BOX_READING, text)


def starts_at_corner(sides: Vector, scales: Sequence[Scale]) -> bool:
    """Whether the boxes (left, top, width, height), and not (centre x, centre y, width, height), lie about their cells.

    sides: (boxes,4) of a whole table, as fractions of the picture.
    """
    for cells in (_cells(np.arange(len(sides)), scales, anchors_last=last) for last in (True, False)):
        known = np.isfinite(cells).all(axis=1) & (sides[:, 2:] > 0).all(axis=1)
        if known.sum() < FEWEST:
            continue
        start, extent = (sides[:, :2] - cells)[known], sides[known, 2:]
        places = np.median(start / extent, axis=0)  # 0 for centres, -1/2 for corners
        spread, centred = (np.abs(start + part * extent).mean(axis=0) for part in (0.5, 0.0))
        if (np.abs(places + 0.5) <= NEAR).all() and (spread <= CLEAR * centred).all():
            return True
    return False


def rows_of_detections(output: HeadOutput) -> Indices:
    """The rows of the table of candidates that the detections are; -1 where they are no fixed rows."""
    detections = output.detections
    assert detections is not None
    rows: Indices = np.asarray(detections.places // output.logits.classes, np.intp)
    return rows if detections.follow is not Follow.BEST else np.full_like(rows, -1)


def _follows_rows(centres: Vector, rows: Indices, scales: Sequence[Scale]) -> bool | None:
    """Whether the first coordinate follows the rows of the grids, and the second the columns; None where it is open."""
    clearest: tuple[float, bool | None] = (MARGIN, None)
    for cells in (_cells(rows, scales, anchors_last=last) for last in (True, False)):
        known = np.isfinite(cells).all(axis=1) & np.isfinite(centres).all(axis=1)
        if known.sum() < FEWEST:
            continue
        points, at = centres[known], cells[known]
        straight = min(_correlation(points[:, 0], at[:, 0]), _correlation(points[:, 1], at[:, 1]))
        crossed = min(_correlation(points[:, 0], at[:, 1]), _correlation(points[:, 1], at[:, 0]))
        margin = abs(crossed - straight)
        if max(straight, crossed) >= CLEAR and margin > clearest[0]:
            clearest = (margin, crossed > straight)
    return clearest[1]


def _cells(rows: Indices, scales: Sequence[Scale], *, anchors_last: bool) -> Vector:
    """(rows,2) x and y of the cells that predict the rows, as fractions of the picture; NaN where it is unknown.

    anchors_last: whether the boxes of one cell follow each other, or each anchor lists all cells.
    """
    places = np.full((len(rows), 2), np.nan)
    for scale in scales:
        grid = scale.features.grid
        members = np.concatenate([np.arange(*run) for run in scale.rows])
        if len(grid) != 2 or min(grid) < 2 or len(members) % (grid[0] * grid[1]):
            continue
        height, width = grid
        anchors = len(members) // (height * width)
        here = np.flatnonzero(np.isin(rows, members))
        k = np.searchsorted(members, rows[here])
        cell = k // anchors if anchors_last else k % (height * width)
        places[here] = np.stack([(cell % width + 0.5) / width, (cell // width + 0.5) / height], 1)
    return places


def _correlation(a: Vector, b: Vector) -> float:
    """Pearson's; 0 where one is constant."""
    if a.std() <= 1e-9 * max(1.0, float(np.abs(a).max())) or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
