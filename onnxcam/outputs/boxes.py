"""Draws where a target lies over the finished picture: a detector's box, a region or a mask's outline, with its name.

A line is white between two dark ones, so that it is seen on any ground and in no colour of the map.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.opencv import opencv
from onnxcam.outputs import overlay, typesetting
from onnxcam.outputs.outlines import Outline
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.types import Picture, Placement

DARK, LIGHT = (overlay.INK,) * 3, (overlay.PAPER,) * 3
Rectangle = tuple[float, float, float, float]
"""(left, top, right, bottom)"""
EDGE = 1
"""Pixels of dark on either side of the white line."""
SUBPIXEL = 4
"""Bits after the point in OpenCV's coordinates."""
FARTHEST = 2**15
"""Pixels beyond which a point is moved nearer, since OpenCV's coordinates are 32 bits wide."""


def draw_target(drawn: Picture, target: ScoredTarget, part: Rectangle, text: str, font: str | None = None) -> Picture:
    """A copy of the drawing (height,width,3) with the target's outline or box, and a label.

    The drawing itself comes back for a target without a box, and for a box that lies outside what is drawn.

    part: (left, top, right, bottom) of what the drawing shows, in the pixels in which the target's box is. A side of
    the box beyond the drawing is drawn at its border. font: as in overlay.Style.
    """
    if target.box is None or not _meets(target.box, part):
        return drawn
    thick = max(1, round(max(drawn.shape) / 400))
    inside = _on_pixels(target.box, part, drawn, thick)
    drawn = draw_outline(drawn, target.outline, part) if target.outline else draw_frames(drawn, [target.box], part)
    _label(drawn, text, inside, thick, font)
    return drawn


def draw_truth(drawn: Picture, boxes: Sequence[Rectangle], part: Rectangle) -> Picture:
    """A copy of the drawing with thin dashes, white and dark, around the object's boxes; part as in draw_target()."""
    drawn = np.ascontiguousarray(drawn).copy()
    thick = max(1, round(max(drawn.shape) / 400))
    dash = 5 * thick
    for box in boxes:
        (corners,) = _scaled((_rectangle(box),), part, drawn)
        # A side just beyond the drawing is not drawn, however far it is.
        near = np.rint(np.clip(corners, -dash, np.array([drawn.shape[1], drawn.shape[0]]) + dash)).astype(int)
        (left, top), (right, bottom) = near.min(axis=0).tolist(), near.max(axis=0).tolist()
        for i, x in enumerate(range(left, right, dash)):
            for y in (top, bottom - thick):
                _paint(drawn, y, y + thick, x, min(x + dash, right), i)
        for i, y in enumerate(range(top, bottom, dash)):
            for x in (left, right - thick):
                _paint(drawn, y, min(y + dash, bottom), x, x + thick, i)
    return drawn


def draw_outline(drawn: Picture, outline: Outline, part: Rectangle) -> Picture:
    """A copy of the drawing (height,width,3) with the polygons; part as in draw_target()."""
    drawn = np.ascontiguousarray(drawn).copy()
    thick = max(1, round(max(drawn.shape) / 400))
    lines = _scaled(outline, part, drawn)
    for colour, width in ((DARK, thick + 2 * EDGE), (LIGHT, thick)):
        for line in lines:
            _polygon(drawn, line, colour, width)
    return drawn


def draw_frames(drawn: Picture, boxes: Sequence[Rectangle], part: Rectangle) -> Picture:
    """A copy of the drawing (height,width,3) with boxes, white between two dark lines; part as in draw_target()."""
    drawn = np.ascontiguousarray(drawn).copy()
    thick = max(1, round(max(drawn.shape) / 400))
    frames = [_on_pixels(box, part, drawn, thick) for box in boxes]
    for colour, width in ((DARK, thick + 2 * EDGE), (LIGHT, thick)):
        for frame in frames:
            _frame(drawn, frame, colour, width)
    return drawn


def _on_pixels(box: Rectangle, part: Rectangle, drawn: Picture, thick: int) -> npt.NDArray[np.float64]:
    """(4,2) the corners of a box within the drawing, on whole pixels, so that thin lines stay sharp."""
    (corners,) = _scaled((_rectangle(box),), part, drawn)
    inner = thick / 2 + EDGE
    most = np.array([drawn.shape[1], drawn.shape[0]]) - inner
    return np.asarray(np.floor(np.clip(corners, inner, np.maximum(most, inner))) + thick % 2 / 2)


def _paint(drawn: Picture, top: int, bottom: int, left: int, right: int, number: int) -> None:
    """Fills what lies on the drawing of a dash: the even ones white, the odd ones dark."""
    drawn[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = DARK if number % 2 else LIGHT


def shown_part(map_shape: tuple[int, ...], placement: Placement | None, *, heatmap: bool) -> Rectangle:
    """What a drawing of a map (H,W) shows, in the pixels of a target's box.

    heatmap: whether the map stands alone, without the picture that it was placed on.
    """
    if placement is None:
        return 0.0, 0.0, float(map_shape[1]), float(map_shape[0])
    if heatmap:
        return placement.box
    height, width = placement.picture
    return 0.0, 0.0, float(width), float(height)


def _meets(box: Rectangle, part: Rectangle) -> bool:
    return box[0] < part[2] and box[2] > part[0] and box[1] < part[3] and box[3] > part[1]


def _rectangle(box: Rectangle) -> tuple[tuple[float, float], ...]:
    left, top, right, bottom = box
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _scaled(outline: Outline, part: Rectangle, drawn: Picture) -> list[npt.NDArray[np.float64]]:
    """The polygons in pixels of the drawing, with 0 at the outer edge of the first one."""
    left, top, right, bottom = part
    zoom = np.array([drawn.shape[1] / (right - left), drawn.shape[0] / (bottom - top)])
    return [(np.array(polygon, np.float64) - (left, top)) * zoom for polygon in outline]


def _frame(drawn: Picture, box: npt.NDArray[np.float64], colour: tuple[int, ...], thick: int) -> None:
    """Draws four bands of whole pixels along the sides of a box, given by its corners (4,2)."""
    left, top = (max(0, round(c)) for c in box.min(axis=0) - thick / 2)
    right, bottom = (max(0, round(c)) for c in box.max(axis=0) + thick / 2)
    drawn[top:bottom, left : left + thick] = drawn[top:bottom, max(0, right - thick) : right] = colour
    drawn[top : top + thick, left:right] = drawn[max(0, bottom - thick) : bottom, left:right] = colour


def _polygon(drawn: Picture, points: npt.NDArray[np.float64], colour: tuple[int, ...], thick: int) -> None:
    cv2 = opencv()
    # OpenCV's 0 is the centre of the first pixel.
    near = np.clip(points - 0.5, -FARTHEST, FARTHEST)
    fixed = np.rint(near * 2**SUBPIXEL).astype(np.int32)
    cv2.polylines(drawn, [fixed], isClosed=True, color=colour, thickness=thick, lineType=cv2.LINE_AA, shift=SUBPIXEL)


def _label(drawn: Picture, text: str, box: npt.NDArray[np.float64], thick: int, font: str | None) -> None:
    """Writes the text on a white ground above the box; inside it where there is no room, and never over the border."""
    height, width = drawn.shape[:2]
    size = max(11, round(min(width, 1.5 * height) / 40))
    edge = max(2, size // 4)
    ink = typesetting.line(text, size, width - 2 * (edge + 1), font)
    tall, wide = ink.shape[0] + 2, ink.shape[1] + 2 * (edge + 1)
    outer = thick / 2 + EDGE
    left = max(0, min(round(box[0, 0] - outer), width - wide))
    top = round(box[0, 1] - outer) - tall
    if top < 0:
        top = max(0, min(round(box[0, 1] + outer), height - tall))
    drawn[top : top + tall, left : left + wide] = overlay.INK
    drawn[top + 1 : top + tall - 1, left + 1 : left + wide - 1] = overlay.PAPER
    overlay.write(drawn, ink[: tall - 2], top + 1, left + edge + 1)
