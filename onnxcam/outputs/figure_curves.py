"""The curves of a comparison, such as those of deletion and insertion: a panel for each, a line for each method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnxcam.outputs.comparison import Comparison, ComparisonRow
from onnxcam.outputs.figure_cells import spoken
from onnxcam.outputs.figure_sheet import Sheet
from onnxcam.outputs.figure_text import LEADING, LEAST, USUAL, Words, fitted, width
from onnxcam.types import Floats

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, which people tell apart whatever colours they see; without the yellow, too pale on white."""
DASHES = ("-", "--", ":")
LEFT, BOTTOM, TOP, AXES, RIGHT = 26.0, 18.0, 12.0, 64.0, 6.0
"""Points around a panel: numbers at least, numbers and the name of the axis, a heading, the axes' height, the edge."""
NARROWEST = 110.0
"""Points of a panel with what is around it."""
DRAWN = ("deletion", "insertion")
"""Metrics whose curves are scores at shares of the pixels, so that they have their axes in common."""
SAMPLE, AFTER = 13.0, 8.0
"""Points of a line in the legend, and between two entries."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
INK = "#444444"

Panel = tuple[str, tuple[Floats | None, ...]]
"""A metric, and the curve (M,2) of each line, None for a line without."""


def curves_of(comparison: Comparison, room: float) -> list["Curves"]:
    """The panels of each row, in blocks that lie below each other. room: width in points. Empty without any curve.

    A line is a method; where there is one method only, a line is a row.
    """
    drawn = [metric.name for metric in comparison.metrics if metric.name.partition(":")[0] in DRAWN]
    metrics = [name for name in drawn if _has_curve(comparison, name)]
    one = len(comparison.methods) == 1
    groups: list[tuple[str, Sequence[ComparisonRow]]]
    groups = [("", comparison.rows)] if one else [(row.name, [row]) for row in comparison.rows]
    names = tuple(row.name for row in comparison.rows) if one else tuple(map(str, comparison.methods))
    across = max(1, int(room // NARROWEST))
    blocks = []
    for name, rows in groups:
        cells = [cell for row in rows for cell in row.maps]
        panels = [
            (spoken(metric), tuple(c.metrics[metric].curve if metric in c.metrics else None for c in cells))
            for metric in metrics
        ]
        label = name if len(groups) > 1 else ""
        for start in range(0, len(panels), across):
            block = tuple(panels[start : start + across])
            blocks.append(Curves(names, block, label, room, min(across, len(panels))))
    return [*blocks[:-1], *(replace(block, legend=True) for block in blocks[-1:])]


def _has_curve(comparison: Comparison, metric: str) -> bool:
    cells = [cell for row in comparison.rows for cell in row.maps]
    return any(metric in cell.metrics and cell.metrics[metric].curve is not None for cell in cells)


@dataclass(frozen=True, eq=False)
class Curves:
    """Panels beside each other. names: of the lines. label: what sets the row apart. legend: whether it stands below.

    room: width in points, which `across` panels fill, in other blocks if not in this one.
    """

    names: tuple[str, ...]
    panels: tuple[Panel, ...]
    label: str
    room: float
    across: int
    legend: bool = False

    @property
    def height(self) -> float:
        """In points, with the space to what is below."""
        legend = len(self._legend) * LEAST * LEADING if self.legend else 0.0
        return TOP + AXES + BOTTOM + legend + 2

    def draw(self, sheet: Sheet, left: float, top: float) -> None:
        """Draws the block with its upper left corner at this place."""
        each = self.room / self.across
        low, high = self._limits()
        numbers = max(width(Words(f"{value:g}")) for value in _ticks(low, high))
        beside = max(LEFT, LEAST * LEADING + 1 + numbers + 3)
        sheet.turned(Words("score"), left, top + TOP, AXES)
        for i, (name, curves) in enumerate(self.panels):
            at, across = left + i * each + beside, each - beside - RIGHT
            title = Words(self.label, f"· {name}", size=USUAL) if self.label else Words(name, size=USUAL)
            sheet.line(title, at, top, across)
            self._draw_panel(sheet.axes(at, top + TOP, across, AXES), curves, low, high)
            self._draw_numbers(sheet, at, top, across, low, high)
        if self.legend:
            self._draw_legend(sheet, left, top + TOP + AXES + BOTTOM)

    def _limits(self) -> tuple[float, float]:
        """The least and the greatest score, over all panels, with zero."""
        scores = [curve[:, 1] for _, curves in self.panels for curve in curves if curve is not None]
        return min(0.0, *(float(s.min()) for s in scores)), max(1e-6, *(float(s.max()) for s in scores))

    def _draw_panel(self, axes: Any, curves: Sequence[Floats | None], low: float, high: float) -> None:
        for i, curve in enumerate(curves):
            if curve is not None:
                axes.plot(curve[:, 0], curve[:, 1], linewidth=0.9, **_look(i))
        top = high + 0.04 * (high - low)
        axes.plot((0, 0, 1), (top, low, low), color=INK, linewidth=0.5, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_ylim(low, top)

    def _draw_numbers(self, sheet: Sheet, left: float, top: float, wide: float, low: float, high: float) -> None:
        """The numbers at both axes, and the name of the lower one. left, wide: of the axes."""
        span = 1.04 * (high - low)
        for value in _ticks(low, high):
            text, y = f"{value:g}", top + TOP + AXES * (1 - (value - low) / span)
            taken = width(Words(text))
            sheet.line(Words(text), left - 3 - taken, y - LEAST * 0.6, taken + 3, centred=False)
        below = top + TOP + AXES + 2
        for value in (0.0, 0.5, 1.0):
            sheet.line(Words(f"{value:g}"), left + value * wide - 6, below, 12)
        sheet.line(Words("share of pixels"), left, below + LEAST * LEADING, wide)

    @property
    def _legend(self) -> list[list[tuple[int, Words]]]:
        """The entries of the legend, line by line: (the number of the curve, its name)."""
        lines: list[list[tuple[int, Words]]] = [[]]
        for i, name in enumerate(self.names):
            words = fitted(Words(name), self.room - SAMPLE - AFTER)
            taken = sum(SAMPLE + AFTER + width(other) for _, other in lines[-1])
            if lines[-1] and taken + SAMPLE + width(words) > self.room:
                lines.append([])
            lines[-1].append((i, words))
        return lines

    def _draw_legend(self, sheet: Sheet, left: float, top: float) -> None:
        for line in self._legend:
            total = sum(SAMPLE + AFTER + width(words) for _, words in line) - AFTER
            at = left + (self.room - total) / 2
            for i, words in line:
                axes = sheet.axes(at, top, SAMPLE - 3, LEAST * LEADING)
                axes.plot((0, 1), (0.45, 0.45), linewidth=0.9, **_look(i))
                axes.set_xlim(0, 1)
                axes.set_ylim(0, 1)
                sheet.line(words, at + SAMPLE, top, width(words) + 3, centred=False)
                at += SAMPLE + AFTER + width(words)
            top += LEAST * LEADING


def _look(i: int) -> dict[str, Any]:
    """Colour and dashes of a line, so that no two of 21 are alike."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}


def _ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers from low to high."""
    scale = 10.0 ** math.floor(math.log10(high - low)) if high > low else 1.0
    step = next((s * scale for s in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5) if (high - low) / (s * scale) <= 4), scale)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
