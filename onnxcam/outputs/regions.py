"""Where a map is high: as a mask, as boxes, as outlines, on the picture that was explained.

All of it lies in the pixels of a target's box: of the upright picture, or of the model's input for an image that came
preprocessed. What the model did not see of a picture is never in a mask.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.opencv import opencv
from onnxcam.limits import brief, is_number
from onnxcam.outputs import overlay
from onnxcam.outputs.outlines import Outline, contours
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import THRESHOLD, check_share
from onnxcam.types import Map

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SalientRegion:
    """Pixels that are high and touch, by a side or by a corner.

    box: (left, top, right, bottom), with 0 at the outer edge of the first pixel. pixels: how many there are. peak: the
    highest saliency in it, in [0,1]. share: of the sum of the whole map, in [0,1]. inside: which pixels of its box it
    holds. size: (height,width) of the picture.
    """

    box: tuple[float, float, float, float]
    pixels: int
    peak: float
    share: float
    inside: Mask
    size: tuple[int, int]

    @property
    def mask(self) -> Mask:
        """(height,width) its pixels on the picture."""
        left, top, right, bottom = map(int, self.box)
        whole = np.zeros(self.size, np.bool_)
        whole[top:bottom, left:right] = self.inside
        return whole

    @property
    def outline(self) -> Outline:
        """The polygons along the edges of its pixels on the picture, those around holes included."""
        left, top = self.box[:2]
        return tuple(tuple((x + left, y + top) for x, y in polygon) for polygon in contours(self.inside))


def on_picture(saliency: Saliency, outside: float = math.nan) -> Map:
    """(height,width) float32: the map on the upright picture, bilinear. outside: where the model saw nothing of it.

    Raises PictureError for a map without a place on a picture: that of an array that came preprocessed, a clip.
    """
    if not is_number(outside) and not (isinstance(outside, float | np.floating) and math.isnan(outside)):
        raise OptionError(f"outside is a number or NaN, not {brief(outside)}")
    if saliency.placement is None or saliency.map.ndim != 2:
        raise PictureError(
            f"the map of {saliency.provenance.image} has no place on a picture, since "
            f"{'the image came preprocessed' if saliency.placement is None else 'it is of a clip'}; take .map itself"
        )
    return overlay.on_picture(saliency.map, saliency.placement, outside)


def in_pixels(saliency: Saliency) -> Map:
    """The map in the pixels of a target's box: on the picture, NaN where the model saw nothing of it, or as it is."""
    return on_picture(saliency) if saliency.placement is not None and saliency.map.ndim == 2 else saliency.map


def mask(saliency: Saliency, threshold: float | None = None, *, top: float | None = None) -> Mask:
    """Which pixels are high: (height,width) on the picture, else in the shape of the map.

    threshold: the least saliency, from 0 to 1; THRESHOLD if neither is given. top: the share, above 0 and up to 1, of
    the pixels that the model saw, the most salient ones; of equal ones the first in reading order. Raises OptionError
    for both, and for other numbers.
    """
    values = in_pixels(saliency)
    if threshold is not None and top is not None:
        raise OptionError("give a threshold or the top share of the pixels, not both")
    if top is None:
        return np.asarray(values >= check_share("threshold", threshold if threshold is not None else THRESHOLD))
    if check_share("top", top) == 0:
        raise OptionError("top is the share of the pixels that are kept: more than 0, such as 0.2")
    count = round(top * int(np.isfinite(values).sum()))
    order = np.argsort(-values, axis=None, kind="stable")  # NaN comes last
    chosen = np.zeros(values.size, np.bool_)
    chosen[order[:count]] = True
    return chosen.reshape(values.shape)


def regions(saliency: Saliency, threshold: float | None = None, *, top: float | None = None) -> list[SalientRegion]:
    """The parts of mask() that hang together, that with the largest share of the map first.

    Raises what mask() raises, and OptionError for a map that is not of height and width.
    """
    _check_plane(saliency)
    values, chosen = np.nan_to_num(in_pixels(saliency), nan=0.0), mask(saliency, threshold, top=top)
    count, labels, places, _ = opencv().connectedComponentsWithStats(chosen.astype(np.uint8), connectivity=8)
    total = float(values.sum(dtype=np.float64))
    size = (values.shape[0], values.shape[1])
    parts = []
    for number in range(1, count):
        x, y, width, height, pixels = (int(v) for v in places[number])
        inside = labels[y : y + height, x : x + width] == number
        numbers = values[y : y + height, x : x + width][inside]
        share = float(numbers.sum(dtype=np.float64)) / total if total else 0.0
        box = float(x), float(y), float(x + width), float(y + height)
        parts.append(SalientRegion(box, pixels, float(numbers.max()), share, inside, size))
    return sorted(parts, key=lambda region: (-region.share, region.box))


def outlines(saliency: Saliency, threshold: float | None = None, *, top: float | None = None) -> Outline:
    """The polygons along the edges of mask(), those around holes included. Raises what regions() raises."""
    _check_plane(saliency)
    return contours(mask(saliency, threshold, top=top))


def _check_plane(saliency: Saliency) -> None:
    if saliency.map.ndim != 2:
        raise OptionError(
            f"boxes and outlines are of maps of height and width, and this one has the shape {saliency.map.shape}; "
            f"mask() takes it"
        )
