"""The outline of a mask as polygons."""

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.opencv import opencv

Outline = tuple[tuple[tuple[float, float], ...], ...]
"""Closed polygons of points (x,y) in pixels of the picture, with 0 at the outer edge of the first pixel."""

FINENESS = 1000
"""A polygon is off by at most the mask's longer side divided by this, and by half a pixel."""


def contours(mask: npt.NDArray[np.bool_]) -> Outline:
    """The polygons around the true pixels of a mask (height,width), those around holes included."""
    cv2 = opencv()
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    fine = max(mask.shape) / FINENESS
    polygons = (cv2.approxPolyDP(line, fine, closed=True)[:, 0] + 0.5 for line in lines)
    return tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in polygons)


def bounds(outline: Outline) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) around all polygons; None if there are none."""
    points = np.array([point for polygon in outline for point in polygon])
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
