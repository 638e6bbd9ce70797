"""Sets text for pictures: chooses a typeface that has every character of a line, and shortens the line to fit.

Pillow's built-in typeface (Aileron) has 113 characters: ASCII and some punctuation, no accented letters. OpenCV 5 has
two more typefaces, for Latin, Greek, Cyrillic, Chinese, Japanese and Korean; it neither joins nor reverses letters, so
it is not used for right-to-left scripts. After these come common fonts of the operating system. A character that none
of them has is written as its escape, such as \\u0e41, and logged, since a wrong letter would be read as a right one.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.inputs.opencv import opencv
from onnxcam.logs import module_logger

log = module_logger(__name__)

Ink = npt.NDArray[np.uint8]
"""(line height, width) the share of each pixel that the text covers, 0 to 255."""

ELLIPSIS = "…"
ESCAPE = "\\xuU0123456789abcdef"
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "segoeui.ttf", "arial.ttf")


@dataclass(frozen=True)
class Typeface:
    """A font. has: whether it has a character. ink: draws a line at a size in pixels, line_height(size) high."""

    has: Callable[[str], bool]
    ink: Callable[[str, int], Ink]

    def lacks(self, text: str) -> list[str]:
        """The characters of the text, each once, that this typeface does not have."""
        return [c for c in dict.fromkeys(text) if not c.isspace() and (_is(c, "Cs") or not self.has(c))]


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return round(size * 1.4)


def joined(parts: Sequence[str], mark: str, fits: Callable[[str, int], bool]) -> list[str]:
    """The parts with a mark between them, in as few lines as fit; fits(text, number of the line, from 0) says it."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{mark}{part}" if lines else part
        if lines and fits(longer, len(lines) - 1):
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def line(text: str, size: int, width: int, font: str | None = None) -> Ink:
    """Draws text in one line of at most `width` pixels; a longer one ends in an ellipsis.

    size: of the letters, in pixels. font: a font file, or the name of an installed one, tried before the built-in ones.
    Raises OptionError if it cannot be opened.
    """
    visible = "".join(" " if _is(c, "Cc", "Zl", "Zp") else c for c in text)
    most = 8 * width // size + 1  # characters are seldom narrower than an eighth of their height
    clean = unicodedata.normalize("NFC", visible).strip()[:most]
    face, clean = _choose(clean, font)
    ink = face.ink(clean, size)
    if ink.shape[1] <= width:
        return ink
    fits, over = 0, len(clean)
    while over - fits > 1:
        middle = (fits + over) // 2
        shorter = face.ink(clean[:middle].rstrip() + ELLIPSIS, size).shape[1] <= width
        fits, over = (middle, over) if shorter else (fits, middle)
    return face.ink(clean[:fits].rstrip() + ELLIPSIS, size)[:, :width]


def fits(text: str, size: int, width: int, font: str | None = None) -> bool:
    """Whether the text in one line takes at most `width` pixels."""
    face, clean = _choose(unicodedata.normalize("NFC", text), font)
    return bool(face.ink(clean, size).shape[1] <= width)


def _is(character: str, *categories: str) -> bool:
    return unicodedata.category(character) in categories


def _choose(text: str, font: str | None) -> tuple[Typeface, str]:
    """The first typeface that has every character, and the text; else the one with most, and escapes for the rest."""
    best: tuple[list[str], Typeface] | None = None
    for face in _typefaces(font):
        missing = face.lacks(text + ELLIPSIS)
        if not missing:
            return face, text
        if (best is None or len(missing) < len(best[0])) and not face.lacks(ESCAPE + ELLIPSIS):
            best = missing, face
    assert best is not None, "Pillow's typeface has ASCII"
    missing, face = best
    codes = " ".join(f"U+{ord(c):04X}" for c in missing)
    log.warning("no typeface at hand draws %s; name a font that does", codes)
    escapes = {ord(c): c.encode("ascii", "backslashreplace").decode() for c in missing}
    return face, text.translate(escapes)


def _typefaces(font: str | None) -> Iterator[Typeface]:
    from PIL import ImageFont

    cv2 = opencv()
    if font is not None:
        try:
            ImageFont.truetype(font, 16)
        except OSError as error:
            raise OptionError(f"font {font!r} cannot be opened ({error}); give a .ttf or .otf file") from error
        yield _pillow(lambda size: ImageFont.truetype(font, size))
    yield _pillow(lambda size: ImageFont.load_default(size))
    if hasattr(cv2, "FontFace"):  # OpenCV 5
        yield _opencv()
    for name in SYSTEM_FONTS:
        try:
            ImageFont.truetype(name, 16)
        except OSError:
            continue
        yield _pillow(lambda size, name=name: ImageFont.truetype(name, size))  # type: ignore[misc]


def _pillow(load: Callable[[int], Any]) -> Typeface:
    from PIL import Image, ImageDraw, features

    probe = load(24)

    def glyph(character: str) -> tuple[Any, bytes]:
        mask = probe.getmask(character, mode="L")
        return mask.size, bytes(mask)

    absent, joins = glyph("\U0010fffe"), features.check("raqm")  # a code point that is never assigned

    def has(character: str) -> bool:
        if _right_to_left(character) and not joins:
            return False
        return _is(character, "Cf") or glyph(character) != absent

    def ink(text: str, size: int) -> Ink:
        font = load(size)
        canvas = Image.new("L", (int(font.getlength(text)) + size // 2 + 1, line_height(size)))
        ImageDraw.Draw(canvas).text((size // 8, size), text, fill=255, font=font, anchor="ls")
        return _trim(np.asarray(canvas))

    return Typeface(has, ink)


def _opencv() -> Typeface:
    cv2 = opencv()
    face = cv2.FontFace("sans")

    def ink(text: str, size: int) -> Ink:
        canvas = np.zeros((line_height(size), (len(text) + 2) * size * 2, 3), np.uint8)
        cv2.putText(canvas, text, (size // 8, size), (255, 255, 255), face, size, 400)
        return _trim(canvas[..., 0])

    question = ink("?", 24)  # what OpenCV draws for a character that it does not have

    def has(character: str) -> bool:
        if _right_to_left(character) or _is(character, "Mn", "Mc", "Me"):
            return False
        return character == "?" or not np.array_equal(ink(character, 24), question)

    return Typeface(has, ink)


def _right_to_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in ("R", "AL", "AN", "RLE", "RLO", "RLI")


def _trim(canvas: Ink) -> Ink:
    """The canvas without the empty columns on its right."""
    used = np.flatnonzero(canvas.any(axis=0))
    return canvas[:, : used[-1] + 2] if used.size else canvas[:, :1]
