"""Text of a figure: how wide it is, and how it is cut to fit. Widths are in points, before anything is drawn."""

import unicodedata
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

ELLIPSIS = "…"
FAMILY = "DejaVu Sans"
"""Comes with matplotlib, so that a figure looks the same everywhere."""
OTHERS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS", "Microsoft YaHei", "Hiragino Sans")
"""Families that are tried, if they are installed, for a text with characters that FAMILY does not have."""
LEAST, USUAL = 6.0, 7.0
"""Points of the smallest letters, and of headings."""
LEADING = 1.25
"""Distance of two lines, as a multiple of the letters' size."""
SLACK = 0.97
"""Share of the room that a text takes at most: a renderer rounds the place of each letter."""


@dataclass(frozen=True)
class Words:
    """A line of text. text: what may be cut. mark, end: what stays, as an arrow behind the text and a number.

    size: points. bold: whether the end is bold. from_start: cut there. short: may stand for the text.
    """

    text: str
    end: str = ""
    mark: str = ""
    size: float = LEAST
    bold: bool = False
    from_start: bool = False
    short: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.start, self.end)))

    @property
    def start(self) -> str:
        """All but the end."""
        return self.text + self.mark

    @property
    def height(self) -> float:
        return self.size * LEADING


def fitted(words: Words, room: float, font: str | None = None) -> Words:
    """The words in at most so many points: smaller letters down to LEAST first, then an ellipsis in place of the rest.

    Control characters become spaces, and characters that no font at hand has their escapes. font: a font file or name
    for characters that the built-in one lacks.
    """
    words = drawable(words, font)
    while words.size > LEAST and not fits(words, room, font):
        words = replace(words, size=max(LEAST, words.size - 0.5))
    if fits(words, room, font):
        return words
    most, over = 0, len(words.text)
    while over - most > 1:
        middle = (most + over) // 2
        most, over = (middle, over) if fits(_cut(words, middle), room, font) else (most, middle)
    cut = _cut(words, most)
    return cut if fits(cut, room, font) or not words.end else replace(words, text="", mark="")


def drawable(words: Words, font: str | None = None) -> Words:
    """The words with escapes for characters that no font at hand has, in one line."""
    return replace(words, text=_drawable(words.text, font), end=_drawable(words.end, font))


def fits(words: Words, room: float, font: str | None = None) -> bool:
    """Whether the words, which are drawable, take at most so many points at their size."""
    return width(words, font) <= room * SLACK


def broken(words: Words, room: float, font: str | None = None) -> tuple[Words, ...]:
    """The words, or two lines of them where one line of the smallest letters is too long and has a hyphen."""
    words = drawable(words, font)
    if words.end or fits(replace(words, size=LEAST), room, font):
        return (words,)
    places = [i + 1 for i, letter in enumerate(words.text[:-1]) if letter == "-" and i]
    if not places:
        return (words,)
    place = min(places, key=lambda i: abs(2 * i - len(words.text)))
    return replace(words, text=words.text[:place]), replace(words, text=words.text[place:])


def width(words: Words, font: str | None = None) -> float:
    """How many points the words take."""
    plain = _width(str(words), words.size, font=font)
    if not (words.bold and words.end):
        return plain
    return plain - _width(words.end, words.size, font=font) + _width(words.end, words.size, bold=True, font=font)


def _width(text: str, size: float, *, bold: bool = False, font: str | None = None) -> float:
    from matplotlib.textpath import text_to_path

    face = properties(text, size, bold=bold, font=font)
    taken: tuple[float, float, float] = text_to_path.get_text_width_height_descent(text, face, ismath=False)
    return taken[0]


def properties(text: str, size: float, *, bold: bool = False, font: str | None = None) -> "FontProperties":
    """The font that has every character of a text."""
    from matplotlib.font_manager import FontProperties

    for face in _faces(font):
        if not _lacks(face, text):
            break
    else:
        face = _faces(font)[0]
    weight = "bold" if bold else "normal"
    if face.endswith((".ttf", ".otf", ".ttc")):
        return FontProperties(fname=face, size=size, weight=weight)
    return FontProperties(family=[face], size=size, weight=weight)


def _cut(words: Words, kept: int) -> Words:
    if words.from_start:
        return replace(words, text=ELLIPSIS + words.text[len(words.text) - kept :].lstrip())
    return replace(words, text=words.text[:kept].rstrip() + ELLIPSIS)


def _drawable(text: str, font: str | None) -> str:
    """The text in one line, with escapes for what no font has."""
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    clean = unicodedata.normalize("NFC", visible).strip()
    if any(not _lacks(face, clean) for face in _faces(font)):
        return clean
    missing = _lacks(_faces(font)[0], clean)
    return clean.translate({ord(c): c.encode("ascii", "backslashreplace").decode() for c in missing})


@cache
def _faces(font: str | None) -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    installed = {entry.name for entry in fontManager.ttflist}
    return (FAMILY, *([font] if font is not None else []), *(name for name in OTHERS if name in installed))


def _lacks(face: str, text: str) -> set[str]:
    """The characters of a text that a font does not have."""
    font = _opened(face)
    return {c for c in text if not c.isspace() and (unicodedata.category(c) == "Cs" or not font.get_char_index(ord(c)))}


@cache
def _opened(face: str) -> Any:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    is_file = face.endswith((".ttf", ".otf", ".ttc"))
    return get_font(face if is_file else findfont(FontProperties(family=[face])))
