"""The pixels of a decoded Pillow image as an upright array: strip by strip, so that nothing is in memory twice.

Pillow holds 4 bytes for a pixel of colours, and its way into NumPy copies them two or three times. Here the array of
the upright picture is made once, and strips of the image are converted, laid over white, turned and put into it.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs.depth import Bytes, Window, lay_over_white, transparency_note, windowed
from onnxcam.types import Note, Picture

Place = tuple[slice, slice]
STRIP = 2**18
"""Pixels that are converted at a time."""

TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""EXIF's orientation -> how the pixels are turned upright."""
_BACK = {6: 8, 8: 6}
"""The turn that undoes one, where it is not itself."""


def turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The pixels upright; a view."""
    turn = TURNS.get(orientation)
    return pixels if turn is None else turn(pixels)


def upright_and_stored(height: int, width: int, orientation: int) -> tuple[Picture, Picture]:
    """(an empty upright picture, the same memory as (height, width, 3) as the pixels are stored)."""
    sides = (width, height) if orientation >= 5 else (height, width)
    upright = np.empty((*sides, 3), np.uint8)
    return upright, turned(upright, _BACK.get(orientation, orientation))


def strips(image: Image.Image) -> Iterator[tuple[Place, Image.Image]]:
    """(rows and columns, the image of these), from the top: whole rows, unless they are very long.

    Pillow warns of a cut-out larger than Image.MAX_IMAGE_PIXELS, which the process may have changed.
    """
    width, height = image.size
    most = min(STRIP, Image.MAX_IMAGE_PIXELS or STRIP)
    if width * height <= STRIP:
        yield (slice(0, height), slice(0, width)), image
        return
    wide = min(width, most)
    high = max(1, most // wide)
    for top, left in product(range(0, height, high), range(0, width, wide)):
        bottom, right = min(top + high, height), min(left + wide, width)
        yield (slice(top, bottom), slice(left, right)), image.crop((left, top, right, bottom))


def numbers_of(image: Image.Image, mode: str | None = None) -> npt.NDArray[Any]:
    """(height, width) or (height, width, channels) in the image's own numbers. mode: Pillow's, to convert to."""
    numbers: npt.NDArray[Any] | None = None
    for place, strip in strips(image):
        part = np.asarray(strip if mode is None else strip.convert(mode))
        if numbers is None:
            numbers = np.empty((image.height, image.width, *part.shape[2:]), part.dtype)
        numbers[place] = part
    assert numbers is not None
    return numbers


def same_pixels(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images have the same size, mode and pixels."""
    if one.size != other.size or one.mode != other.mode:
        return False
    pairs = zip(strips(one), strips(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for (_, a), (_, b) in pairs)


def colours_of(
    image: Image.Image, window: Window | None, orientation: int, name: str, errors: tuple[type[BaseException], ...]
) -> tuple[Picture, tuple[Note, ...]]:
    """The upright picture of an image of 8 bits, through the window, over white where it is transparent, and a note.

    errors: what Pillow raises for a palette picture that lost its palette. Raises PictureError.
    """
    upright, stored = upright_and_stored(image.height, image.width, orientation)
    transparent = 0
    try:
        mode = "RGBA" if image.has_transparency_data else "RGB"
        for place, strip in strips(image):
            part = np.asarray(strip if strip.mode == mode else strip.convert(mode))
            colours = part[..., :3] if window is None else windowed(part[..., :3], window)
            transparent += lay_over_white(stored[place], colours, part[..., 3:])
    except errors as error:
        raise PictureError(f"{name}: colour mode {image.mode} cannot become RGB; convert the file") from error
    return upright, transparency_note(transparent, image.width * image.height, name)


def deep_colours_of(
    colours: npt.NDArray[np.uint16], window: Window, orientation: int, name: str
) -> tuple[Picture, tuple[Note, ...]]:
    """The upright picture of (height, width, 3 or 4) BGR or BGRA of 16 bits, through the window, over white."""
    height, width = colours.shape[:2]
    upright, stored = upright_and_stored(height, width, orientation)
    transparent, step = 0, max(1, STRIP // width)
    for top in range(0, height, step):
        part = colours[top : top + step]
        shown = windowed(part[..., 2::-1], window)
        transparent += lay_over_white(stored[top : top + step], shown, part[..., 3:] / 257)
    return upright, transparency_note(transparent, height * width, name)


def grey_picture(grey: Bytes, orientation: int) -> Picture:
    """The upright picture of (height, width) bytes."""
    upright, stored = upright_and_stored(grey.shape[0], grey.shape[1], orientation)
    stored[...] = grey[..., None]
    return upright
