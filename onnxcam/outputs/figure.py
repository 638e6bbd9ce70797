"""Draws a comparison for print: figure() makes a matplotlib Figure, figure_bytes() a PNG, PDF or SVG of it.

Lengths are in points, 72 an inch, from the upper left corner. A column of print is 3.4 inches wide; no letter is
smaller than 6 points there. Nothing of matplotlib's global state is used or changed: no pyplot, and rcParams only
within rc_context(). matplotlib is the extra `plot`.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.outputs import overlay
from onnxcam.outputs.colours import least
from onnxcam.outputs.comparison import Comparison
from onnxcam.outputs.figure_cells import ACROSS, Cell, Line, lines
from onnxcam.outputs.figure_curves import Curves, curves_of
from onnxcam.outputs.figure_drawing import draw_cell
from onnxcam.outputs.figure_sheet import Sheet
from onnxcam.outputs.figure_text import LEADING, LEAST, Words, broken, drawable, fits, fitted
from onnxcam.outputs.figure_text import width as width_of
from onnxcam.outputs.overlay import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0
"""Inches: the width of one column of print, and of two."""
EDGE, GAP, AIR = 2.0, 4.0, 2.0
"""Points: around the figure, between cells, between a picture and its words."""
CELL = 0.85
"""Inches of a cell where there are too many for a page."""
FORMATS = (".png", ".pdf", ".svg")
DPI = 300
NO_TEXTS: Mapping[str, str | None] = MappingProxyType({})
SCALE_HEIGHT = LEAST * LEADING + GAP
PLAIN: dict[Any, Any] = {
    "text.usetex": False, "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "onnxcam",
    "savefig.bbox": None, "path.simplify": True, "axes.unicode_minus": True, "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}  # fmt: skip
"""Settings of a file: letters stay letters, and the same figure gives the same file."""


def check_matplotlib() -> None:
    """Raises OptionError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise OptionError('a figure needs matplotlib, which is not installed: pip install "onnxcam[plot]"')


def figure(
    comparison: Comparison, *, width: float | None = None, curves: bool = False, style: Style | None = None
) -> "Figure":
    """The comparison as a matplotlib Figure, which belongs to nobody else and may be changed.

    width: inches; by default 3.4, one column of print, for at most four cells beside each other, and 7 for up to eight.
    curves: whether the curves of deletion and insertion are drawn below, a line a method. style: colormap, alpha and
    font. Raises OptionError where matplotlib is missing, and for curves that were not measured.
    """
    check_matplotlib()
    style = style if style is not None else Style()
    rows = lines(comparison)
    points = 72 * (width if width is not None else _usual_width(max(len(line.cells) for line in rows)))
    panels = curves_of(comparison, points - 2 * EDGE) if curves else []
    if curves and not panels:
        raise OptionError("no curve was measured; measure deletion or insertion")
    return _Page(points, style, rows, panels, _scale_name(comparison)).figure()


def figure_bytes(drawn: "Figure", suffix: str, texts: Mapping[str, str | None] = NO_TEXTS, dpi: int = DPI) -> bytes:
    """The figure as a file with this suffix: .png of so many dpi, .pdf or .svg; the same figure gives the same bytes.

    texts: what the file says of itself, by keys without spaces: text chunks of a PNG, keywords of a PDF or SVG; None is
    left out. Raises OptionError for another suffix.
    """
    import matplotlib
    from matplotlib.backends import backend_agg, backend_pdf, backend_svg

    said = {key: text for key, text in texts.items() if text is not None}
    keywords = [f"{key}={text}" for key, text in said.items()]
    canvases: dict[str, tuple[Any, dict[str, Any]]] = {
        ".png": (backend_agg.FigureCanvasAgg, {"Software": "onnxcam", **said}),
        ".pdf": (
            backend_pdf.FigureCanvasPdf,
            {"Creator": "onnxcam", "CreationDate": None, **({"Keywords": " ".join(keywords)} if keywords else {})},
        ),
        ".svg": (
            backend_svg.FigureCanvasSVG,
            {"Creator": "onnxcam", "Date": None, **({"Keywords": keywords} if keywords else {})},
        ),
    }
    if suffix.lower() not in canvases:
        raise OptionError(f"a figure is a {', '.join(FORMATS)} file, not {suffix!r}")
    canvas, metadata = canvases[suffix.lower()]
    file = io.BytesIO()
    with matplotlib.rc_context(PLAIN):
        canvas(drawn).print_figure(file, format=suffix[1:].lower(), dpi=dpi, metadata=metadata)
    return file.getvalue()


def _usual_width(across: int) -> float:
    if across <= ACROSS:
        return COLUMN
    return PAGE if across <= 2 * ACROSS else CELL * across


def _scale_name(comparison: Comparison) -> str:
    """What the scale of colours measures: the method too, where no heading names it."""
    return f"saliency ({comparison.methods[0]})" if len(comparison.methods) == 1 < len(comparison.rows) else "saliency"


@dataclass(eq=False)
class _Page:
    """A figure on its way. width: points. top: where the next line begins."""

    width: float
    style: Style
    lines: Sequence[Line]
    curves: Sequence[Curves]
    scale_name: str

    def figure(self) -> "Figure":
        import matplotlib
        from matplotlib.figure import Figure

        self.lines = self._worded()
        blocks = [self._height(line) for line in self.lines]
        panels = sum(panel.height for panel in self.curves)
        height = 2 * EDGE + sum(blocks) + SCALE_HEIGHT + panels
        with matplotlib.rc_context(PLAIN):
            drawn = Figure(figsize=(self.width / 72, height / 72), dpi=DPI, facecolor="white", edgecolor="none")
            sheet = Sheet(drawn, self.width, height, self.style)
            top = EDGE
            for line, block in zip(self.lines, blocks, strict=True):
                self._draw_line(sheet, line, top)
                top += block
            draw_scale(sheet, top, self.scale_name)
            top += SCALE_HEIGHT
            for panel in self.curves:
                panel.draw(sheet, EDGE, top)
                top += panel.height
        return drawn

    def _worded(self) -> list[Line]:
        """The lines with words that fit: names of metrics all short or none, and too long ones in two lines."""
        room, font = self._cell, self.style.font
        cells = [cell for line in self.lines for cell in line.cells if cell is not None]
        values = [words for cell in cells for words in cell.below if words.short]
        is_short = any(not fits(replace(words, bold=True), room, font) for words in values)
        values = [replace(words, text=words.short) if is_short else words for words in values]
        too_long = {words.text for words in values if not fits(replace(words, bold=True), room, font)}

        def named(words: Words) -> tuple[Words, ...]:
            """A metric, alike below each map: its name and its number, in two lines where one of them is too long."""
            text = words.short if is_short else words.text
            if not words.short or text not in too_long:
                return (replace(words, text=text) if words.short else words,)
            return replace(words, text=text, end="", bold=False), replace(words, text="", mark="")

        def worded(cell: Cell) -> Cell:
            below = [line for words in cell.below for line in named(words)]
            above = [part for words in cell.above for part in broken(words, room, font)]
            return replace(cell, above=tuple(above), below=tuple(below))

        return [
            replace(
                line,
                cells=tuple(worded(cell) if cell is not None else None for cell in line.cells),
                label=tuple(drawable(words, font) for words in line.label),
            )
            for line in self.lines
        ]

    @property
    def _strip(self) -> float:
        """Width of the labels at the left."""
        return max((sum(words.height for words in line.label) + AIR if line.label else 0) for line in self.lines)

    @property
    def _cell(self) -> float:
        """Width of a cell."""
        across = max(len(line.cells) for line in self.lines)
        return (self.width - 2 * EDGE - self._strip - (across - 1) * GAP) / across

    def _picture_height(self, line: Line) -> float:
        return max(cell.aspect for cell in line.cells if cell is not None) * self._cell

    def _height(self, line: Line) -> float:
        return _words_height(line, "above") + max(self._below(line, cell) for cell in line.cells) + GAP

    def _below(self, line: Line, cell: Cell | None) -> float:
        """Height of a cell's picture and the words below it."""
        if cell is None:
            return self._picture_height(line)
        down = min(self._cell, self._picture_height(line) / cell.aspect) * cell.aspect
        return down + sum(words.height for words in cell.below) + (AIR if cell.below else 0.0)

    def _draw_line(self, sheet: Sheet, line: Line, top: float) -> None:
        height = self._picture_height(line)
        middle = top + _words_height(line, "above")
        left = EDGE
        block = self._height(line) - GAP - _words_height(line, "above")
        # Beside the pictures, and where a label is too long, beside the words below them too.
        is_long = any(not fits(replace(words, size=LEAST), height, self.style.font) for words in line.label)
        for words in line.label:
            sheet.turned(words, left, middle, block if is_long else height)
            left += words.height
        for i, cell in enumerate(line.cells):
            if cell is not None:
                left = EDGE + self._strip + i * (self._cell + GAP)
                self._draw(sheet, cell, left, middle, height, top if line.on_top else None)

    def _draw(self, sheet: Sheet, cell: Cell, left: float, top: float, height: float, words_top: float | None) -> None:
        """A cell with its words. left, top, height: of the room for its picture. words_top: of the words above it."""
        room = self._cell
        across = min(room, height / cell.aspect)
        down = across * cell.aspect
        box = left + (room - across) / 2, top, across, down
        draw_cell(sheet.axes(*box), cell, self.style, across / 72 * DPI)
        above = words_top if words_top is not None else top - AIR - sum(words.height for words in cell.above)
        for words in cell.above:
            sheet.line(words, left, above, room)
            above += words.height
        below = top + down + AIR / 2
        for words in cell.below:
            sheet.line(words, left, below, room)
            below += words.height


def draw_scale(sheet: Sheet, top: float, text: str) -> None:
    """The scale of colours in the middle, as opaque as on the pictures: its name, 0 (or -1), the colours, 1."""
    table = overlay.colour_table(sheet.style.colormap)
    bar, low = min(90.0, sheet.width / 3), str(least(table))
    name, first = fitted(Words(text), sheet.width - bar - 40), 6 + 3 * (len(low) - 1)
    left = (sheet.width - (width_of(name) + 6 + first + bar + 4)) / 2
    sheet.line(name, left, top, width_of(name) + 3, centred=False)
    left += width_of(name) + 6
    sheet.line(Words(low), left, top, first, centred=False)
    sheet.line(Words("1"), left + first + bar + 2, top, 6, centred=False)
    axes = sheet.axes(left + first, top + 1.5, bar, 5)
    ramp = np.linspace(least(table), 1, 256, dtype=np.float32)[None]
    ground = np.full((1, 256, 3), overlay.GREY, np.float32)
    axes.imshow(overlay.blend(ground, ramp, table, sheet.style.alpha), aspect="auto", interpolation="nearest")


def _words_height(line: Line, place: str) -> float:
    heights = [sum(w.height for w in getattr(cell, place)) for cell in line.cells if cell is not None]
    most = max(heights, default=0.0)
    return most + AIR if most else 0.0
