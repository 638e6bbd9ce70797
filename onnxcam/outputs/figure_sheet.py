"""The paper that a figure is drawn on: axes and words at places in points."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxcam.outputs.figure_text import Words, fitted, properties, width
from onnxcam.outputs.overlay import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Sheet:
    """The paper: axes and words at places in points from the upper left corner. width, height: in points."""

    figure: "Figure"
    width: float
    height: float
    style: Style

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes without frame, ticks and background."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.set_axis_off()
        return axes

    def line(self, words: Words, left: float, top: float, room: float, *, centred: bool = True) -> None:
        """One line of words, cut to the room; its baseline does not depend on how small they become."""
        baseline = top + words.size
        words = fitted(words, room, self.style.font)
        if not (words.bold and words.end):
            x = left + room / 2 if centred else left
            self._text(str(words), words.size, x, baseline, ha="center" if centred else "left")
            return
        taken, end = width(words, self.style.font), width(Words("", words.end, size=words.size, bold=True))
        x = left + (room - taken) / 2 if centred else left
        self._text(words.start, words.size, x, baseline, ha="left")
        self._text(words.end, words.size, x + taken - end, baseline, bold=True, ha="left")

    def turned(self, words: Words, left: float, top: float, room: float) -> None:
        """One line of words from bottom to top, in the middle of the room."""
        baseline = left + words.size
        words = fitted(words, room, self.style.font)
        self._text(str(words), words.size, baseline, top + room / 2, ha="right", va="center", rotation=90)

    def _text(self, text: str, size: float, x: float, y: float, *, bold: bool = False, **placed: Any) -> None:
        """A text with its baseline at (x,y)."""
        if not text:
            return
        font = properties(text, size, bold=bold, font=self.style.font)
        placed = {"va": "baseline", **placed}
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontproperties=font, parse_math=False, usetex=False,
            color="black", **placed,
        )  # fmt: skip
