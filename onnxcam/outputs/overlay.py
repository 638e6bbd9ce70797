"""Draws the saliency map as a picture: over the photograph that it explains, alone, and with a caption underneath.

Under the map the photograph becomes grey, the more so the more opaque the map is, and keeps its light and dark, so that
a red part of the picture is not mistaken for saliency. Where the map is low it hardly covers the photograph. What the
model did not see is grey and dim, outside a white line. signal.py and volume.py draw arrays that are no photographs
with the parts of this file; typesetting.py sets the caption.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.images import read_picture
from onnxcam.outputs import typesetting
from onnxcam.outputs.colours import COLORMAP as COLORMAP
from onnxcam.outputs.colours import COLORMAPS as COLORMAPS
from onnxcam.outputs.colours import LUMA as LUMA
from onnxcam.outputs.colours import blend as blend
from onnxcam.outputs.colours import blend_grey, colours, least, opacity
from onnxcam.outputs.colours import colour_table as colour_table
from onnxcam.outputs.style import ALPHA as ALPHA
from onnxcam.outputs.style import LONG_SIDE as LONG_SIDE
from onnxcam.outputs.style import Style as Style
from onnxcam.outputs.style import check_alpha as check_alpha
from onnxcam.types import Floats, Map, Picture, Placement

DOT = " · "
"""What parts the words of a caption; long captions are broken there."""
ROUNDING = 1e-6
"""How far beyond its range a map may reach; it is cut off."""
BAND = 256
"""Rows of pixels that are blended at once, so that a large photograph needs no large float array."""
INK, PAPER, LINE, GREY = 24, 255, 255, 128


def overlay(
    picture: object, saliency: Map, placement: Placement | None, *, colormap: str = COLORMAP, alpha: float = ALPHA
) -> Picture:
    """Draws the map over the upright picture that it explains; returns (height, width, 3) uint8 RGB.

    picture: the one that was explained, as (height, width, 3) uint8 RGB, or as anything that read_picture() takes.
    saliency: (H,W) in [0,1], or in [-1,1] for a signed colormap. placement: where the map lies on the picture; a
    Saliency has it. Pixel j of the map's W lies with its centre at left + (j + 0.5) (right - left) / W of the picture;
    in between the map is bilinear. A picture of less than LONG_SIDE pixels on its longer side is enlarged by an integer
    factor, every pixel a block. alpha: weight of the colour where the map is 1, in [0,1]; elsewhere it falls with the
    root of the map. Raises OptionError for alpha, an unknown colormap and a map of another shape or range, PictureError
    for a picture of another size than the placement's, and for placement None: an image that came preprocessed has no
    picture.
    """
    table = colour_table(colormap)
    _check_map(saliency, least(table))
    check_alpha(alpha)
    if placement is None:
        raise PictureError(
            "the image came preprocessed, so the map has no place on a picture; draw the map alone with heatmap()"
        )
    pixels = _pixels(picture, placement)
    zoom = _zoom(pixels.shape)
    height, width = placement.picture
    left, top, right, bottom = placement.box
    rows, columns = _axis(height, zoom, top, bottom), _axis(width, zoom, left, right)
    drawn = np.empty((height * zoom, width * zoom, 3), np.uint8)
    wide, seen = _range(columns.inside), columns.part(_range(columns.inside))
    for start in range(0, len(rows.centre), BAND):
        band = rows.part(slice(start, start + BAND))
        photograph = pixels[band.centre.astype(int)][:, columns.centre.astype(int)].astype(np.float32)
        grey, tall = photograph @ LUMA, _range(band.inside)
        drawn[start : start + BAND] = _unseen(grey)
        values = np.clip(_sample(saliency, band.part(tall), seen), least(table), 1)
        drawn[start : start + BAND][tall, wide] = blend_grey(
            photograph[tall, wide], grey[tall, wide], values, table, alpha
        )
    _outline(drawn, np.flatnonzero(rows.inside), np.flatnonzero(columns.inside))
    return drawn


def on_picture(saliency: Map, placement: Placement, outside: float = 0.0) -> Map:
    """(height,width) float32: the map (H,W) on the upright picture, as overlay() draws it.

    Bilinear. outside: the number where the model does not see the picture.
    """
    height, width = placement.picture
    left, top, right, bottom = placement.box
    rows, columns = _axis(height, 1, top, bottom), _axis(width, 1, left, right)
    seen = rows.inside[:, None] & columns.inside
    values = np.clip(_sample(saliency, rows, columns), -1 if (saliency < 0).any() else 0, 1)
    return np.where(seen, values, np.float32(outside))


def resampled(values: Floats, shape: tuple[int, ...]) -> Floats:
    """A grid of numbers (h,w) at the size (H,W), as a map of cells is drawn: bilinear, by the cells' centres."""
    rows, columns = _axis(shape[0], 1, 0, shape[0]), _axis(shape[1], 1, 0, shape[1])
    return _sample(values, rows, columns)


def transparent(values: Map, colormap: str = COLORMAP, alpha: float = ALPHA) -> npt.NDArray[np.uint8]:
    """(height,width,4) uint8 RGBA: the colours of a map alone, as opaque as on an overlay; NaN is transparent.

    values: (height,width) from 0 to 1, of a signed colormap from -1 to 1. Raises OptionError as overlay() does.
    """
    table, known_values = colour_table(colormap), np.nan_to_num(values, nan=0.0)
    _check_map(known_values, least(table))
    check_alpha(alpha)
    bounded = np.clip(known_values, least(table), 1)
    cover = 255 * opacity(bounded, alpha)
    rgba = np.concatenate([colours(bounded, table), cover[..., None]], axis=2)
    return np.asarray(np.rint(rgba).astype(np.uint8))


def heatmap(saliency: Map, colormap: str = COLORMAP) -> Picture:
    """Draws the map (H,W) alone, for an image that came preprocessed; smoothly enlarged to LONG_SIDE at least.

    Returns (height, width, 3) uint8. Raises OptionError for an unknown colormap and a map outside [0,1].
    """
    table = colour_table(colormap)
    _check_map(saliency, least(table))
    (height, width), zoom = saliency.shape, _zoom(saliency.shape)
    values = _sample(saliency, _axis(height, zoom, 0, height), _axis(width, zoom, 0, width))
    values = np.clip(values, least(table), 1)
    drawn: Picture = np.rint(colours(values, table)).astype(np.uint8)
    return drawn


def caption(
    picture: Picture,
    title: str,
    detail: str = "",
    *,
    colormap: str = COLORMAP,
    alpha: float | None = None,
    font: str | None = None,
    ground: int = GREY,
) -> Picture:
    """The unchanged picture above a strip: the title, and below it the detail and the scale of colours from 0 to 1.

    alpha: that of the overlay, so that the scale is as opaque; None for a heatmap. ground: the grey, 0 to 255, under
    the scale. A detail that is too long goes on in further lines, parted at its dots; a longer part ends in ....
    A picture narrower than LONG_SIDE gets white at its right. font: as in Style.
    """
    height, width = picture.shape[0], max(picture.shape[1], LONG_SIDE)
    size = max(13, round(min(width, 1.5 * height) / 32))
    step, edge = typesetting.line_height(size), size // 2
    scale = _scale(size, max(width // 4, 6 * size), colour_table(colormap), alpha, ground)
    start = width - edge - scale.shape[1]
    lines = _lines(detail, size, start - 2 * edge, width - 2 * edge, font)
    strip = np.full(((1 + len(lines)) * step + 2 * edge, width, 3), PAPER, np.uint8)
    write(strip, typesetting.line(title, size, width - 2 * edge, font), edge, edge)
    strip[edge + step : edge + 2 * step, start : start + scale.shape[1]] = scale
    for i, ink in enumerate(lines):
        write(strip, ink, edge + (1 + i) * step, edge)
    above = np.full((height, width, 3), PAPER, np.uint8)
    above[:, : picture.shape[1]] = picture
    return np.concatenate([above, strip])


def _lines(detail: str, size: int, first: int, width: int, font: str | None) -> list[typesetting.Ink]:
    """The detail in lines: the first of at most `first` pixels, beside the scale, the others of at most `width`."""
    lines = typesetting.joined(
        detail.split(DOT), DOT, lambda text, number: typesetting.fits(text, size, width if number else first, font)
    )
    return [typesetting.line(text, size, width if i else first, font) for i, text in enumerate(lines)]


@dataclass(frozen=True)
class _Axis:
    """One axis of the drawing: the centres of its pixels, and where the map starts and stops, in picture pixels."""

    centre: npt.NDArray[np.float64]
    start: float
    stop: float

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        return (self.centre > self.start) & (self.centre < self.stop)

    def part(self, pixels: slice) -> "_Axis":
        """The same axis at some of its pixels."""
        return _Axis(self.centre[pixels], self.start, self.stop)

    def cells(self, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
        """For each pixel the two nearest of the map's `count` cells, and the weight of the second.

        Not cv2.remap, which rounds the weight to 1/32 and so draws steps on a large photograph.
        """
        at = (self.centre - self.start) * (count / (self.stop - self.start)) - 0.5
        at = np.clip(at, 0, count - 1)
        first = at.astype(np.intp)
        return first, np.minimum(first + 1, count - 1), (at - first).astype(np.float32)


def _axis(pixels: int, zoom: int, start: float, stop: float) -> _Axis:
    return _Axis((np.arange(pixels * zoom) + 0.5) / zoom, start, stop)


def _sample(saliency: Map, rows: _Axis, columns: _Axis) -> Map:
    """The map at each pixel of the drawing, bilinear."""
    above, below, weight = rows.cells(saliency.shape[0])
    lines = saliency[above] + weight[:, None] * (saliency[below] - saliency[above])
    before, behind, weight = columns.cells(saliency.shape[1])
    values: Map = lines[:, before] + weight * (lines[:, behind] - lines[:, before])
    return values


def _range(inside: npt.NDArray[np.bool_]) -> slice:
    """Where an axis is inside the box: its pixels from the first to the last."""
    places = np.flatnonzero(inside)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _unseen(grey: Floats) -> Picture:
    return np.asarray(np.rint(20 + 0.45 * grey).astype(np.uint8)[..., None])


def _outline(drawn: Picture, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> None:
    """Draws a line just outside the box, except where the picture ends with the box."""
    if not (rows.size and columns.size):
        return
    thick = max(1, round(max(drawn.shape) / 400))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    tall = slice(max(0, top - thick), bottom + thick)
    wide = slice(max(0, left - thick), right + thick)
    drawn[tall.start : top, wide] = LINE
    drawn[bottom : tall.stop, wide] = LINE
    drawn[tall, wide.start : left] = LINE
    drawn[tall, right : wide.stop] = LINE


def _scale(size: int, width: int, table: Floats, alpha: float | None, ground: int) -> Picture:
    """The scale (line height, about width, 3): a 0 (or -1), the colours over the ground as on the picture, a 1."""
    digits = [typesetting.line(d, size, width) for d in (str(least(table)), "1")]
    values = np.linspace(least(table), 1, max(2, width - sum(d.shape[1] for d in digits) - size), dtype=np.float32)
    under = np.full((1, len(values), 3), ground, np.float32)
    bar = np.asarray(colours(values, table)[None] if alpha is None else blend(under, values[None], table, alpha))
    first = digits[0].shape[1] + size // 2
    scale = np.full((digits[0].shape[0], first + len(values) + size // 2 + digits[1].shape[1], 3), PAPER, np.uint8)
    scale[round(size * 0.3) : round(size * 1.05), first : first + len(values)] = bar
    write(scale, digits[0], 0, 0)
    write(scale, digits[1], 0, scale.shape[1] - digits[1].shape[1])
    return scale


def write(paper: Picture, ink: typesetting.Ink, top: int, left: int) -> None:
    """Draws dark ink on the paper in place; what reaches beyond its right or lower edge is cut off."""
    part = paper[top : top + ink.shape[0], left : left + ink.shape[1]]
    cover = ink[: part.shape[0], : part.shape[1], None] / 255
    part[:] = np.rint(part + cover * (INK - part.astype(np.float32)))


def _zoom(shape: tuple[int, ...]) -> int:
    return max(1, math.ceil(LONG_SIDE / max(shape[:2])))


def _check_map(saliency: Map, low: int = 0) -> None:
    if not isinstance(saliency, np.ndarray):
        raise OptionError(f"a saliency map is a numpy array (H,W), not {type(saliency).__name__}; a Saliency has .map")
    if saliency.dtype.kind not in "fiub":
        raise OptionError(f"a saliency map holds numbers from 0 to 1, not {saliency.dtype}")
    if saliency.ndim != 2 or not saliency.size:
        raise OptionError(f"a saliency map has the shape (H,W), this one {saliency.shape}")
    _check_range(saliency, low)


def _check_range(saliency: Map, low: int = 0) -> None:
    lowest, highest = float(saliency.min()), float(saliency.max())
    if not (lowest >= low - ROUNDING and highest <= 1 + ROUNDING):
        raise OptionError(
            f"a saliency map lies in [{low},1], this one goes from {lowest:g} to {highest:g}; normalise it first"
        )


def check_array(array: Floats | None, saliency: Map, low: int = 0) -> None:
    """Checks an array (C,*spatial) and its map (*spatial), or a map alone, before they are drawn.

    Raises OptionError for a map outside [low,1]; ValueError for an array of another shape or with NaN or infinity,
    since array and map come from one explanation.
    """
    if not saliency.size:
        raise ValueError(f"a saliency map of shape {saliency.shape} has nothing to draw")
    _check_range(saliency, low)
    if array is None:
        return
    if array.ndim != saliency.ndim + 1 or array.shape[1:] != saliency.shape or not len(array):
        raise ValueError(f"the array {array.shape} is not (C,*spatial) of the saliency map {saliency.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the array holds NaN or infinity")


def _pixels(picture: object, placement: Placement) -> Picture:
    """The picture as (height, width, 3) uint8; raises PictureError unless it has the placement's size."""
    if not isinstance(placement, Placement):
        raise PictureError(f"a placement is that of a Saliency, not {type(placement).__name__}")
    pixels = read_picture(picture)
    if pixels.shape[:2] != placement.picture:
        (height, width), (h, w) = pixels.shape[:2], placement.picture
        raise PictureError(f"the picture is {width}x{height}, the one explained {w}x{h}; give the upright original")
    return pixels
