"""Draws one cell of a figure on its axes: the picture or the map over it, a signal's traces, a slice of a volume."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxcam.outputs import overlay, signal
from onnxcam.outputs.drawing import draw
from onnxcam.outputs.figure_cells import Cell, Shown
from onnxcam.outputs.figure_text import LEAST, properties
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.volume import as_picture, plane
from onnxcam.types import Floats, Picture

TRACES = 4
"""The most channels of a signal that are drawn."""
COLUMNS = 600
"""The most colours behind a signal; of more samples each shows the highest."""
PALE = "#ececec"


def draw_cell(axes: Any, cell: Cell, style: Style, pixels: float) -> None:
    """Draws the cell on axes without frame. pixels: of its width in the file, by which a larger picture is reduced."""
    if cell.shown is Shown.NOTHING or cell.saliency is None:
        _draw_nothing(axes, cell, pixels)
    elif cell.saliency.map.ndim == 1:
        _draw_signal(axes, cell, cell.saliency, style)
    else:
        left, top, right, bottom = cell.part
        picture = _reduced(_shown(cell, cell.saliency, style), pixels)
        axes.imshow(picture, extent=(left, right, bottom, top), aspect="auto", interpolation="antialiased")
        if cell.saliency.map.ndim == 2:
            draw_outline_on(axes, cell.saliency)
            draw_truth_on(axes, cell.truth)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)


def _shown(cell: Cell, saliency: Saliency, style: Style) -> Picture:
    """The cell's part of the picture."""
    picture = _whole(cell, saliency, style)
    if cell.original is None or saliency.placement is None or saliency.map.ndim == 3:
        return picture
    zoom = picture.shape[0] / saliency.placement.picture[0]  # a small picture is drawn larger
    left, top, right, bottom = (round(zoom * side) for side in cell.part)
    return picture[top : max(bottom, top + 1), left : max(right, left + 1)]


def _whole(cell: Cell, saliency: Saliency, style: Style) -> Picture:
    alpha = style.alpha if cell.shown is Shown.MAP else 0.0
    if cell.slice_index is None:
        # The box is drawn by lines, which stay sharp, and its name stands beside the pictures.
        bare = replace(saliency, target=replace(saliency.target, box=None, outline=()))
        return draw(bare, cell.original, replace(style, alpha=alpha, caption=False))
    array = None if cell.original is None else np.asarray(cell.original[:, cell.slice_index], np.float32)
    return plane(array, saliency.map[cell.slice_index], colormap=style.colormap, alpha=alpha)


def draw_outline_on(axes: Any, saliency: Saliency) -> None:
    """The target's box or outline: white between two dark lines."""
    target = saliency.target
    if target.box is None:
        return
    left, top, right, bottom = target.box
    polygons = target.outline or (((left, top), (right, top), (right, bottom), (left, bottom)),)
    for polygon in polygons:
        x, y = zip(*polygon, polygon[0], strict=True)
        axes.plot(x, y, color="black", linewidth=1.4, solid_joinstyle="miter")
        axes.plot(x, y, color="white", linewidth=0.6, solid_joinstyle="miter")


def draw_truth_on(axes: Any, truth: Sequence[tuple[float, float, float, float]]) -> None:
    """The object's boxes, as a person drew them: thin white dashes on a dark line."""
    for left, top, right, bottom in truth:
        corners = (left, right, right, left, left), (top, top, bottom, bottom, top)
        axes.plot(*corners, color="black", linewidth=0.7, solid_joinstyle="miter")
        axes.plot(*corners, color="white", linewidth=0.5, linestyle=(0, (4, 3)))


def _draw_nothing(axes: Any, cell: Cell, pixels: float) -> None:
    """The picture alone where no method has a map; for a map that there is none of a pale ground with words."""
    if cell.shown is Shown.PICTURE and cell.original is not None and cell.original.ndim == 3:
        original = cell.original
        picture = original if original.dtype == np.uint8 else as_picture(np.asarray(original, np.float32))
        axes.imshow(_reduced(np.asarray(picture, np.uint8), pixels), aspect="auto", interpolation="antialiased")
        return
    axes.add_patch(_rectangle(axes))
    axes.text(
        0.5, 0.5, "no map", transform=axes.transAxes, ha="center", va="center", color="#555555",
        fontproperties=properties("no map", LEAST), parse_math=False, usetex=False,
    )  # fmt: skip


def _rectangle(axes: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, transform=axes.transAxes, facecolor=PALE, edgecolor="none")


def _draw_signal(axes: Any, cell: Cell, saliency: Saliency, style: Style) -> None:
    """The first TRACES channels, each over its own range, on the colours of the map."""
    length, table = len(saliency.map), overlay.colour_table(style.colormap)
    ground = signal.background(style.colormap)
    values = saliency.map if cell.shown is Shown.MAP else np.zeros_like(saliency.map)
    if length > COLUMNS:
        values = np.maximum.reduceat(values, np.arange(COLUMNS) * length // COLUMNS)
    under = np.full((1, len(values), 3), ground, np.float32)
    colours = overlay.blend(under, values[None], table, style.alpha)
    traces: Floats = np.asarray(cell.original if cell.original is not None else saliency.map[None], np.float32)[:TRACES]
    count = len(traces)
    axes.imshow(colours, extent=(0, length, 0, count), aspect="auto", interpolation="nearest")
    at = np.arange(length) + 0.5
    ink = "black" if ground == overlay.PAPER else "white"
    for i, trace in enumerate(traces):
        low, high = float(trace.min()), float(trace.max())
        share = (trace - low) / (high - low) if high > low else np.full(length, 0.5, np.float32)
        axes.plot(at, count - 1 - i + 0.1 + 0.8 * share, color=ink, linewidth=0.5)
    axes.plot((0, length, length, 0, 0), (0, 0, count, count, 0), color="#999999", linewidth=0.4)
    axes.set_xlim(0, length)
    axes.set_ylim(0, count)


def _reduced(picture: Picture, pixels: float) -> Picture:
    """The picture with no more pixels than the file shows, twice over."""
    from PIL import Image

    height, width = picture.shape[:2]
    factor = 2 * pixels / width
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
