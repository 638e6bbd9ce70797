"""Deep pictures as 8 bits: 16-bit and floating-point values, through a window if one is chosen.

A window (low, high) makes low and what is below black, high and what is above white, and what is between linear.
Without one 16 bits are divided by 257 and floats in [0,1] multiplied by 255.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PictureError
from onnxcam.limits import brief, is_number
from onnxcam.types import Note, NoteCode

Numbers = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Window = tuple[float, float]

DEEP = 65535
PART = 2**20
"""Numbers that are converted at a time."""
NARROW = (DEEP + 1) // 8
"""A deep picture whose values reach over this much of its range or less is nearly flat."""


def check_window(window: Sequence[float] | None) -> Window | None:
    """The window as two numbers; raises OptionError unless low is below high."""
    if window is None:
        return None
    values = tuple(window) if isinstance(window, Sequence | np.ndarray) and not isinstance(window, str) else ()
    if len(values) != 2 or not all(map(is_number, values)) or not values[0] < values[1]:
        raise OptionError(f"a window is two numbers (low, high), what becomes black and white, not {brief(window)}")
    return float(values[0]), float(values[1])


def by_rows(values: Numbers, convert: Callable[[Numbers], Numbers]) -> Bytes:
    """The results of convert() for all numbers, as bytes; it is given a part at a time, to take little memory."""
    if values.size <= PART:
        return np.asarray(convert(values), np.uint8)
    longest = int(np.argmax(values.shape))
    results = np.empty(values.shape, np.uint8)
    rows, into = np.moveaxis(values, longest, 0), np.moveaxis(results, longest, 0)
    step = max(1, PART * len(rows) // values.size)
    for start in range(0, len(rows), step):
        into[start : start + step] = convert(rows[start : start + step])
    return results


def windowed(values: Numbers, window: Window) -> Bytes:
    """The values as 0 to 255 through the window; any shape."""
    low, high = window

    def shown(part: Numbers) -> Numbers:
        shares = (np.asarray(part, np.float64) - low) / (high - low)
        return np.asarray(np.rint(255 * np.clip(shares, 0, 1)))

    return by_rows(values, shown)


def from_deep(values: Numbers, window: Window | None, name: str) -> tuple[Bytes, tuple[Note, ...]]:
    """Whole numbers of 16 bits as 8 bits, and a note if they use little of their range.

    Raises PictureError for numbers beyond 16 bits where there is no window.
    """
    if window is not None:
        return windowed(values, window), ()
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > DEEP:
        raise PictureError(
            f"{name}: values from {low} to {high}, not 16-bit; say which become black and white with --window LOW,HIGH"
        )
    grey = by_rows(values, lambda part: (part.astype(np.uint32) + 128) // 257)
    return grey, narrow(values, name)


def narrow(values: Numbers, name: str) -> tuple[Note, ...]:
    """A note if 16-bit values reach over an eighth of their range or less."""
    low, high = int(values.min()), int(values.max())
    if high - low > NARROW:
        return ()
    text = (
        f"{name}: of 16 bits the picture uses {low} to {high} only, so the model sees it nearly flat; "
        f"spread that with --window {low},{high}"
    )
    return (Note(NoteCode.NARROW_RANGE, text if high > low else f"{name}: every pixel is {low}"),)


def from_floats(values: Numbers, window: Window | None, name: str) -> Bytes:
    """Floats in [0,1] as 8 bits. Raises PictureError for others, and for NaN, where there is no window."""
    low, high = values.min(), values.max()
    if not np.isfinite((low, high)).all():
        raise PictureError(f"{name}: holds NaN or infinity; replace them first")
    if window is not None:
        return windowed(values, window)
    if not (low >= 0 and high <= 1):
        raise PictureError(
            f"{name}: floats from {low:g} to {high:g}, not within [0,1]; "
            f"say which become black and white with --window LOW,HIGH"
        )
    return by_rows(values, lambda part: np.rint(part * 255))


def laid_over_white(colours: Bytes, alpha: Numbers, name: str) -> tuple[Bytes, tuple[Note, ...]]:
    """(height, width, 3) over white, as a viewer shows it, and a note if that changes it. alpha: (height, width, 1)."""
    if not alpha.size:
        return np.ascontiguousarray(colours), ()
    height, width = colours.shape[:2]
    picture = np.empty(colours.shape, np.uint8)
    step = max(1, PART // width)
    parts = (slice(top, top + step) for top in range(0, height, step))
    transparent = sum(lay_over_white(picture[rows], colours[rows], alpha[rows]) for rows in parts)
    return picture, transparency_note(transparent, height * width, name)


def lay_over_white(into: Bytes, colours: Bytes, alpha: Numbers) -> int:
    """Puts (height, width, 3) over white; returns how many pixels are transparent. alpha: (height, width, 1 or 0)."""
    from PIL import Image

    opaque = np.rint(alpha).astype(np.uint8)
    transparent = int(np.count_nonzero(opaque < 255))
    if transparent:
        layer = Image.fromarray(np.ascontiguousarray(np.concatenate([colours, opaque], axis=2)))
        composed = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        colours = np.asarray(composed.convert("RGB"))
    into[...] = colours
    return transparent


def transparency_note(transparent: int, number: int, name: str) -> tuple[Note, ...]:
    """A note if some of a number of pixels are transparent."""
    if not transparent:
        return ()
    share = transparent / number
    text = f"{name}: {share:.0%} of the pixels are transparent, in part at least, and were laid over white"
    return (Note(NoteCode.TRANSPARENT, text),)
