"""The pictures of an explanation: `draw` makes the overlay, DRAWINGS the others by name.

Each takes the map, what it explains, and a Style; reduced() is called before, where the style bounds their size.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PictureError
from onnxcam.outputs import overlay
from onnxcam.outputs.boxes import draw_frames, draw_outline, draw_target, draw_truth, shown_part
from onnxcam.outputs.captions import caption, target_text
from onnxcam.outputs.colours import SIGNED
from onnxcam.outputs.outlines import Outline
from onnxcam.outputs.regions import mask, outlines, regions
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.signal import background, draw_signal
from onnxcam.outputs.style import Style
from onnxcam.outputs.volume import contact_sheet, plane
from onnxcam.types import Image, Map, Picture, Placement

Original = Picture | Image
"""What was explained: an upright photograph, or the preprocessed array (C,*spatial) that the network saw."""
Pixels = npt.NDArray[np.uint8]
"""A drawing: (height,width) grey, (height,width,3) RGB or (height,width,4) RGBA."""
MOST = 99.0
BETWEEN = 8
"""White pixels between two pictures side by side."""


class Drawing(Protocol):
    """Draws an array (C,*spatial), or nothing, and its map (*spatial) as a picture."""

    def __call__(self, array: Image | None, saliency: Map, /, *, colormap: str, alpha: float) -> Picture: ...


ARRAYS: dict[int, Drawing] = {1: draw_signal, 2: plane, 3: contact_sheet}
"""Number of the map's axes -> how an array is drawn."""


def draw(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The map over what it explains, or alone if there is no picture, with the caption that style asks for.

    picture: the upright photograph if a map (H,W) has a placement; else the array (C,*spatial) that the network
    saw. Raises PictureError for a photograph with a saliency that has no placement on one, and for an array with
    one that has; ValueError for an array that does not have the map's axes.
    """
    saliency, picture, style = reduced(saliency, picture, style)
    drawn = _captionless(saliency, picture, style)
    return _captioned(drawn, saliency, picture, style) if style.caption else drawn


def signed(saliency: Saliency) -> Map:
    """(H,W) in [-1,1]: the raw map over its greatest size, so that what speaks against the target is negative.

    Bilinear where the raw map is coarser. Of one that has a number for each pixel, single ones of which stand out, over
    the size that MOST of 100 stay below, cut off there, as the map itself is. Raises OptionError for a map that is not
    of height and width.
    """
    raw = saliency.raw
    if saliency.map.ndim != 2 or raw.ndim != 2:
        raise OptionError(
            f"the colormap {SIGNED} shows the sign of maps of height and width, and this one has the shape "
            f"{saliency.map.shape}; take another colormap"
        )
    sizes = np.abs(raw)
    scale = float(np.percentile(sizes, MOST)) if raw.shape == saliency.map.shape else 0.0
    scale = scale or float(sizes.max()) or 1.0
    return np.clip(overlay.resampled(raw / np.float32(scale), saliency.map.shape), -1, 1)


def shown(saliency: Saliency, colormap: str) -> Map:
    """The numbers that a colormap shows: those of the map, or of the signed one."""
    return signed(saliency) if colormap == SIGNED else saliency.map


def _captionless(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    rank, values = saliency.map.ndim, shown(saliency, style.colormap)
    if saliency.placement is not None and picture is not None and rank == 2:
        photograph = cast(Picture, picture)  # overlay refuses another
        drawn = overlay.overlay(photograph, values, saliency.placement, colormap=style.colormap, alpha=style.alpha)
    elif rank not in ARRAYS:
        raise ValueError(f"a saliency map has 1 to 3 axes, this one has the shape {saliency.map.shape}")
    else:
        if picture is not None and picture.dtype == np.uint8:
            raise PictureError("the image came preprocessed, so the map has no place on a picture; draw it without one")
        drawn = ARRAYS[rank](cast(Image | None, picture), values, colormap=style.colormap, alpha=style.alpha)
    part = shown_part(saliency.map.shape, saliency.placement, heatmap=picture is None) if rank == 2 else None
    if style.truth and part is not None:
        drawn = draw_truth(drawn, style.truth, part)
    if saliency.target.box is not None and part is not None:
        drawn = draw_target(drawn, saliency.target, part, target_text(saliency.target), style.font)
    return drawn


def _captioned(drawn: Picture, saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    words, ground = caption(saliency), overlay.GREY
    alpha = None if picture is None else style.alpha
    if saliency.map.ndim == 1:
        alpha, ground = style.alpha, background(style.colormap)
    return overlay.caption(
        drawn, words.title, words.detail, colormap=style.colormap, alpha=alpha, font=style.font, ground=ground
    )


def heatmap(saliency: Saliency, picture: Original | None, style: Style) -> Pixels:
    """(height,width,4) RGBA: the colours alone, transparent where the map is low and where the model saw nothing.

    At the picture's size, so that it can be laid over it; of an image that came preprocessed at the map's.
    """
    _check_plane(saliency, "a transparent heatmap")
    saliency, picture, style = reduced(saliency, picture, style)
    values = shown(saliency, style.colormap)
    if saliency.placement is not None:
        values = overlay.on_picture(values, saliency.placement, np.nan)
    return overlay.transparent(values, style.colormap, style.alpha)


def black_and_white(saliency: Saliency, picture: Original | None, style: Style) -> Pixels:
    """(height,width) 255 where the map is at least the style's threshold, else 0; as large as heatmap()."""
    _check_plane(saliency, "a mask as a picture")
    saliency, picture, style = reduced(saliency, picture, style)
    return mask(saliency, style.threshold).astype(np.uint8) * np.uint8(255)


def contour(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The picture with a line around what is at least the style's threshold."""
    saliency, picture, style = reduced(saliency, picture, style)
    part = shown_part(saliency.map.shape, saliency.placement, heatmap=False)
    return draw_outline(_ground(saliency, picture, style), outlines(saliency, style.threshold), part)


def framed(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The picture with a box around each region that is at least the style's threshold."""
    saliency, picture, style = reduced(saliency, picture, style)
    part = shown_part(saliency.map.shape, saliency.placement, heatmap=False)
    boxes = [region.box for region in regions(saliency, style.threshold)]
    return draw_frames(_ground(saliency, picture, style), boxes, part)


def side_by_side(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The picture, and beside it the map over it, with the caption that style asks for."""
    _check_plane(saliency, "a picture side by side")
    saliency, picture, style = reduced(saliency, picture, style)
    left, right = _ground(saliency, picture, style), _captionless(saliency, picture, style)
    between = np.full((len(left), BETWEEN, 3), overlay.PAPER, np.uint8)
    both = np.concatenate([left, between, right], axis=1)
    return _captioned(both, saliency, picture, style) if style.caption else both


DRAWINGS: Mapping[str, Callable[[Saliency, Original | None, Style], Pixels]] = {
    "heatmap": heatmap,
    "contour": contour,
    "mask": black_and_white,
    "boxes": framed,
    "side-by-side": side_by_side,
}
"""The drawings beside the overlay, by the name of their format."""
OF_THE_MAP = frozenset({"heatmap", "mask"})
"""Those of the map alone, which need no picture."""


def _ground(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The picture as the overlay shows it, without the map; what the model did not see is grey and dim."""
    if picture is None:
        raise PictureError("there is no picture to draw on; pass what was explained")
    bare = replace(saliency, target=replace(saliency.target, box=None, outline=()))
    return _captionless(bare, picture, replace(style, alpha=0.0, truth=(), colormap=overlay.COLORMAP))


def _check_plane(saliency: Saliency, what: str) -> None:
    if saliency.map.ndim != 2:
        raise OptionError(
            f"{what} is of maps of height and width, and this one has the shape {saliency.map.shape}; draw the overlay"
        )


def reduced(saliency: Saliency, picture: Original | None, style: Style) -> tuple[Saliency, Original | None, Style]:
    """The same for a photograph of at most style.max_size pixels on its longer side; a smaller one is unchanged."""
    size, placement = style.max_size, saliency.placement
    if size is None or placement is None or saliency.map.ndim != 2 or max(placement.picture) <= size:
        return saliency, picture, style
    from PIL import Image as Pillow

    factor = size / max(placement.picture)
    height, width = (max(1, round(side * factor)) for side in placement.picture)
    zoom = width / placement.picture[1], height / placement.picture[0]
    target = saliency.target
    smaller = replace(
        saliency,
        placement=Placement((height, width), _zoomed(placement.box, zoom)),
        target=replace(
            target,
            box=_zoomed(target.box, zoom) if target.box is not None else None,
            outline=_zoomed_outline(target.outline, zoom),
        ),
    )
    if picture is not None:
        _check_size(picture, placement)
        resized = Pillow.fromarray(cast(Picture, picture)).resize((width, height), Pillow.Resampling.BOX)
        picture = np.asarray(resized)
    return smaller, picture, replace(style, max_size=None, truth=tuple(_zoomed(box, zoom) for box in style.truth))


def _check_size(picture: Original, placement: Placement) -> None:
    if picture.shape != (*placement.picture, 3) or picture.dtype != np.uint8:
        (height, width) = placement.picture
        raise PictureError(
            f"the picture is an array {picture.shape} of {picture.dtype}, the one explained {(height, width, 3)} of "
            f"uint8; give the upright original"
        )


def _zoomed(box: tuple[float, float, float, float], zoom: tuple[float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left * zoom[0], top * zoom[1], right * zoom[0], bottom * zoom[1]


def _zoomed_outline(outline: Outline, zoom: tuple[float, float]) -> Outline:
    return tuple(tuple((x * zoom[0], y * zoom[1]) for x, y in polygon) for polygon in outline)
