"""Draws the saliency of an array that is no photograph: over the array as a picture, or over each of its slices."""

import math
from collections.abc import Sequence

import numpy as np

from onnxcam.outputs import overlay, typesetting
from onnxcam.outputs.colours import least
from onnxcam.types import Floats, Map, Picture, Placement

SHORT_SIDE, LONGEST = 256, 2048
"""A small array is enlarged to this many pixels on the shorter side, unless the longer one gets beyond LONGEST."""
SLICES = 16
TILE = 448
"""Most pixels on the longer side of a slice on a contact sheet."""
GAP, SIZE = 8, 14
"""Pixels between two slices, and the least size of a letter."""


def as_picture(array: Floats) -> Picture:
    """The array (C,*spatial) as (*spatial,3) uint8: three channels as RGB, others as the grey of their mean.

    The 1st percentile over all channels becomes 0 and the 99th 255; where these are equal, the least value and the
    greatest do. A constant array is mid-grey.
    """
    channels = array if len(array) == 3 else array.mean(axis=0, keepdims=True, dtype=np.float64)
    low, high = (float(v) for v in np.percentile(channels, (1, 99)))
    if low == high:
        low, high = float(channels.min()), float(channels.max())
    if low == high:
        return np.full((*array.shape[1:], 3), overlay.GREY, np.uint8)
    shares = np.clip((channels.astype(np.float64) - low) / (high - low), 0, 1)
    levels = np.moveaxis(np.rint(255 * shares).astype(np.uint8), 0, -1)
    return np.ascontiguousarray(np.broadcast_to(levels, (*array.shape[1:], 3)))


def plane(
    array: Floats | None, saliency: Map, *, colormap: str = overlay.COLORMAP, alpha: float = overlay.ALPHA
) -> Picture:
    """Draws the map (H,W) over array (C,H,W); each pixel of a small one becomes a block. Without an array: the heatmap.

    Raises as overlay.check_array and overlay.overlay do.
    """
    overlay.check_array(array, saliency, least(overlay.colour_table(colormap)))
    if array is None:
        return overlay.heatmap(saliency, colormap)
    short, long = sorted(saliency.shape)
    zoom = max(1, min(math.ceil(SHORT_SIDE / short), LONGEST // long))
    picture = as_picture(array).repeat(zoom, axis=0).repeat(zoom, axis=1)
    return overlay.overlay(picture, saliency, _covering(picture), colormap=colormap, alpha=alpha)


def contact_sheet(
    array: Floats | None, saliency: Map, *, colormap: str = overlay.COLORMAP, alpha: float = overlay.ALPHA
) -> Picture:
    """Draws up to SLICES evenly spaced slices (frames) of array (C,D,H,W), row by row, each with its part of the map.

    Above each stands its index, from 0. All share one scale of brightness. Without an array: the heatmaps. Raises as
    overlay.check_array and overlay.overlay do.
    """
    overlay.check_array(array, saliency)
    depth = len(saliency)
    chosen = np.unique(np.rint(np.linspace(0, depth - 1, min(depth, SLICES))).astype(int))
    if array is None:
        tiles = [_reduced(overlay.heatmap(part, colormap)) for part in saliency[chosen]]
    else:
        tiles = []
        for slice_, part in zip(as_picture(array[:, chosen]), saliency[chosen], strict=True):
            picture = _reduced(slice_)
            tiles.append(overlay.overlay(picture, part, _covering(picture), colormap=colormap, alpha=alpha))
    note = f"frames or slices 0 to {depth - 1}"
    shown = "" if len(chosen) == depth else f", {len(chosen)} of {depth} shown"
    return arranged(tiles, [str(index) for index in chosen], note + shown)


def arranged(tiles: Sequence[Picture], names: Sequence[str] = (), note: str = "") -> Picture:
    """The tiles, all of one size, in rows as near to a square as possible: a name above each, the note below all."""
    height, width = tiles[0].shape[:2]
    size = max(SIZE, round(max(height, width) / 22))
    line = typesetting.line_height(size)
    label, foot = line if names else 0, line + GAP if note else 0
    down = min(len(tiles), max(1, round(math.sqrt(len(tiles) * width / height))))
    across = math.ceil(len(tiles) / down)
    down = math.ceil(len(tiles) / across)
    pitch = height + label + GAP, width + GAP
    sheet = np.full((down * pitch[0] + foot + GAP, across * pitch[1] + GAP, 3), overlay.PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // across * pitch[0], GAP + i % across * pitch[1]
        if names:
            overlay.write(sheet, typesetting.line(names[i], size, width), top, left)
        sheet[top + label : top + label + height, left : left + width] = tile
    if note:
        overlay.write(sheet, typesetting.line(note, size, sheet.shape[1] - 2 * GAP), GAP + down * pitch[0], GAP)
    return sheet


def _reduced(picture: Picture) -> Picture:
    """The picture with at most TILE pixels on the longer side, by averaging."""
    from PIL import Image

    height, width = picture.shape[:2]
    factor = TILE / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def _covering(picture: Picture) -> Placement:
    """The placement of a map that covers all of a picture."""
    height, width = picture.shape[:2]
    return Placement((height, width), (0.0, 0.0, float(width), float(height)))
