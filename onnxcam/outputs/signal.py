"""Draws the saliency of a 1-D signal: its channels as traces, one below the other, on the colours of the map."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from onnxcam.outputs import overlay, typesetting
from onnxcam.types import Floats, Map, Picture

CHANNELS = 8
"""The most traces that are drawn: those of the first channels."""
WIDTH, HEIGHT = 1000, 400
"""Pixels of the plot; with many channels it is higher."""
LEFT, RIGHT, TOP, BOTTOM = 124, 24, 12, 54
"""Pixels around the traces: for the values, for the axis below."""
TRACE, GAP = 64, 6
"""Least height of a trace, and of the space between two, in pixels."""
TICKS = 10
SIZE = 14
CONTRAST = 90
"""Least difference in brightness between a trace and its ground, of 255."""
FINE = 3
"""The traces are drawn so many times finer than the plot and then reduced, so that they are smooth."""


@dataclass(frozen=True)
class _Trace:
    """A channel and its place on the plot. values: (L,). top, height: in pixels."""

    name: str
    values: Floats
    top: int
    height: int

    @property
    def range(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())

    def rows(self, values: Floats) -> npt.NDArray[np.float64]:
        """How many pixels below the top each value lies; a tenth of the height stays free above and below."""
        low, high = self.range
        share = (high - values.astype(np.float64)) / (high - low) if high > low else np.full(len(values), 0.5)
        return np.asarray(self.height * (0.1 + 0.8 * share))


def draw_signal(
    array: Floats | None, saliency: Map, *, colormap: str = overlay.COLORMAP, alpha: float = overlay.ALPHA
) -> Picture:
    """Draws the first CHANNELS traces of array (C,L), each over its own range, on the colours of the map (L,).

    Sample j of L lies with its centre at (j + 0.5) / L of the axis, which counts from 0; in between the map is linear.
    Where samples are narrower than a pixel, the map shows the highest, the trace the lowest and the highest. Without an
    array the map itself is the trace. Raises as overlay.check_array does, and OptionError for alpha and an unknown
    colormap.
    """
    overlay.check_array(array, saliency)
    overlay.check_alpha(alpha)
    traces = _traces(array, saliency)
    end = traces[-1].top + traces[-1].height
    plot = np.full((end + BOTTOM, WIDTH, 3), overlay.PAPER, np.uint8)
    under = background(colormap)
    columns = _columns(saliency, under, overlay.colour_table(colormap), alpha)
    for trace in traces:
        plot[trace.top : trace.top + trace.height, LEFT : WIDTH - RIGHT] = _on(columns, _line(trace), under)
        _write_range(plot, trace)
    _axis(plot, end, len(saliency))
    hidden = 0 if array is None else len(array) - len(traces)
    if hidden:
        note = f"{hidden} more channel{'s' if hidden > 1 else ''} not shown"
        _text(plot, note, WIDTH - RIGHT, end + 40, across=1)
    return plot


def background(colormap: str) -> int:
    """The grey under the colours: black or white, whichever differs more from the colour of a map of 1.

    On white, a colormap that ends in white would show the highest and the lowest alike.
    """
    return overlay.PAPER if overlay.colour_table(colormap)[-1] @ overlay.LUMA < overlay.GREY else overlay.INK


def _traces(array: Floats | None, saliency: Map) -> list[_Trace]:
    if array is None:
        named = [("map", saliency)]
    else:
        named = [(f"ch {i}", channel) for i, channel in enumerate(array[:CHANNELS])]
    pitch = max(TRACE + GAP, (HEIGHT - TOP - BOTTOM + GAP) // len(named))
    return [_Trace(name, values, TOP + i * pitch, pitch - GAP) for i, (name, values) in enumerate(named)]


def _columns(saliency: Map, ground: int, table: Floats, alpha: float) -> Floats:
    """(width,3) float32, the colour behind each column of pixels."""
    width, length = WIDTH - LEFT - RIGHT, len(saliency)
    if length > width:
        values = np.maximum.reduceat(saliency, _starts(length, width))
    else:
        values = np.interp(np.arange(width) + 0.5, (np.arange(length) + 0.5) * width / length, saliency)
    under = np.full((1, width, 3), ground, np.float32)
    shown = np.clip(values, 0, 1).astype(np.float32)[None]
    behind: Floats = overlay.blend(under, shown, table, alpha)[0].astype(np.float32)
    return behind


def _starts(length: int, width: int) -> npt.NDArray[np.intp]:
    """The first sample of each column; there are at least as many samples as columns."""
    return np.arange(width) * length // width


def _on(columns: Floats, cover: Floats, ground: int) -> Picture:
    """Draws the line on its columns: dark on light or light on dark, reversed where the contrast is too low."""
    usual, other = (overlay.INK, overlay.PAPER) if ground == overlay.PAPER else (overlay.PAPER, overlay.INK)
    legible = np.abs(columns @ overlay.LUMA - usual) >= CONTRAST
    ink = np.where(legible, usual, other)[:, None]
    return np.rint(columns + cover[..., None] * (ink - columns)).astype(np.uint8)


def _line(trace: _Trace) -> Floats:
    """(height,width) float32, the share of each pixel that the line covers."""
    from PIL import Image, ImageDraw

    width, length = WIDTH - LEFT - RIGHT, len(trace.values)
    if length == 1:
        at, values = np.array([0.0, width]), trace.values.repeat(2)
    elif length <= 2 * width:
        at, values = (np.arange(length) + 0.5) * width / length, trace.values
    else:
        starts = _starts(length, width)
        at = (np.arange(width) + 0.5).repeat(2)
        values = np.stack([np.minimum.reduceat(trace.values, starts), np.maximum.reduceat(trace.values, starts)], 1)
        values = values.reshape(-1)
    points = np.stack([at, trace.rows(values)], axis=1) * FINE - 0.5  # Pillow counts from the pixel's centre
    canvas = Image.new("L", (width * FINE, trace.height * FINE))
    ImageDraw.Draw(canvas).line([(x, y) for x, y in points.tolist()], fill=255, width=2 * FINE, joint="curve")
    cover = np.asarray(canvas.resize((width, trace.height), Image.Resampling.BOX), np.float32)
    return cover / np.float32(255)


def _write_range(plot: Picture, trace: _Trace) -> None:
    """Writes the trace's name, its highest and its lowest value at its left."""
    low, high = trace.range
    _text(plot, trace.name, 8, trace.top + trace.height / 2, across=0)
    for value in dict.fromkeys((low, high)):
        row = trace.rows(np.array([value], np.float32))[0]
        text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
        _text(plot, text, LEFT - 8, trace.top + row, across=1)


def _axis(plot: Picture, top: int, length: int) -> None:
    width = WIDTH - LEFT - RIGHT
    plot[top, LEFT : LEFT + width] = overlay.INK
    for sample in range(0, length, _step(length)):
        at = LEFT + (sample + 0.5) * width / length
        plot[top : top + 6, int(at)] = overlay.INK
        _text(plot, str(sample), at, top + 16, across=0.5)
    _text(plot, "sample", LEFT + width / 2, top + 40, across=0.5)


def _step(length: int) -> int:
    """The distance of two ticks: the least of 1, 2 or 5 times a power of ten that gives at most TICKS."""
    steps = (m * int(10.0**k) for k, m in product(range(20), (1, 2, 5)))
    return next(step for step in steps if length <= TICKS * step)


def _text(plot: Picture, text: str, x: float, y: float, *, across: float) -> None:
    """Writes text. y: the middle of its digits. x: its left edge for across=0, middle for 0.5, right edge for 1."""
    ink = typesetting.line(text, SIZE, WIDTH)
    left = min(max(round(x - across * ink.shape[1]), 0), WIDTH - ink.shape[1])
    overlay.write(plot, ink, max(0, round(y - 0.64 * SIZE)), left)
