"""The paper that a figure is drawn on: axes and words at places in points."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxcam.outputs.figure_text import Words, fitted, properties
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
        """One line of words, cut to the room."""
        words = fitted(words, room, self.style.font)
        x = left + room / 2 if centred else left
        self._text(words, x, top + words.size, ha="center" if centred else "left")

    def turned(self, words: Words, left: float, top: float, room: float) -> None:
        """One line of words from bottom to top, in the middle of the room."""
        words = fitted(words, room, self.style.font)
        self._text(words, left + words.size, top + room / 2, ha="right", va="center", rotation=90)

    def _text(self, words: Words, x: float, y: float, **placed: Any) -> None:
        """Words with their baseline at (x,y)."""
        text = str(words)
        if not text:
            return
        font = properties(text, words.size, bold=words.bold, font=self.style.font)
        placed = {"va": "baseline", **placed}
        self.figure.text(
            x / self.width, 1 - y / self.height, text, fontproperties=font, parse_math=False, usetex=False,
            color="black", **placed,
        )  # fmt: skip
