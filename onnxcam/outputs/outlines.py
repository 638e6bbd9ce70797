"""The outline of a mask as polygons."""

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.opencv import opencv

Outline = tuple[tuple[tuple[float, float], ...], ...]
"""Closed polygons of points (x,y) in pixels of the picture, with 0 at the outer edge of the first pixel."""

FINENESS = 1000
"""A polygon is off by at most the mask's longer side divided by this; of a smaller mask it is exact."""


def contours(mask: npt.NDArray[np.bool_]) -> Outline:
    """The polygons along the edges of the true pixels of a mask (height,width), those around holes included.

    Pixels that touch at a corner belong together.
    """
    cv2 = opencv()
    # OpenCV goes through the centres of pixels. In a mask of twice the sides an even one begins a pixel of the mask
    # and an odd one ends it, so each stands for one edge.
    twice = np.asarray(mask, np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    lines, _ = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    fine = max(mask.shape) / FINENESS if max(mask.shape) > FINENESS else 0.0
    polygons = [cv2.approxPolyDP((line + 1) // 2, fine, closed=True)[:, 0] for line in lines]
    return tuple(tuple((float(x), float(y)) for x, y in polygon) for polygon in polygons)


def bounds(outline: Outline) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) around all polygons; None if there are none."""
    points = np.array([point for polygon in outline for point in polygon])
    if not len(points):
        return None
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
