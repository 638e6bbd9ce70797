"""The limit of pixels, as every reader of files and arrays asks for it: before anything is decoded or copied."""

import math

from onnxcam.errors import PictureError
from onnxcam.limits import BYTES_A_PIXEL, Limits, amount_of


def check_pixels(width: int, height: int, name: str, limits: Limits, frames: int = 1) -> None:
    """Raises PictureError for more pixels than the limit."""
    number = width * height * frames
    if limits.exceeded("pixels", number):
        several = f"{frames} frames of " if frames > 1 else ""
        raise PictureError(
            f"{name}: {several}{width} x {height} are {number:,} pixels; {limits.way_out('pixels')}, or make it smaller"
        )


def check_shape(shape: tuple[int, ...], itemsize: int, name: str, limits: Limits) -> None:
    """Raises PictureError for an array of more pixels than the limit: of its sides, without the axis of its channels.

    Also for one whose pixels hold more than three doubles each. itemsize: bytes of a number.
    """
    sides = [side for side in shape if side != 1]
    channels = min(sides[0], sides[-1]) if len(sides) > 2 else 1
    number = math.prod(sides) // max(channels, 1)
    size = math.prod(sides) * itemsize
    if limits.exceeded("pixels", max(number, size // BYTES_A_PIXEL)):
        what = f"{number:,} pixels" if limits.exceeded("pixels", number) else f"more than {BYTES_A_PIXEL} bytes a pixel"
        raise PictureError(
            f"{name}: the array of shape {shape} has {what} ({amount_of(size)}); {limits.way_out('pixels')}, or make "
            f"it smaller"
        )


DECODING = {"JPEG": 15, "MPO": 15, "WEBP": 17, "AVIF": 15, "JPEG2000": 26}
"""Format -> bytes a pixel that decoding takes at its peak, measured at 121 million pixels: of a progressive JPEG its
coefficients too. 8 of others: Pillow's 4, the 3 of the picture, and one to spare."""
STREAM, STREAMED = 2**26, 8
"""Bytes of any open file or of bytes in memory that are read, and for each pixel of the limit: RGBA of 16 bits."""


def most_bytes(limits: Limits, most: int) -> int:
    """Bytes that are read of an open file, which may never end: what pictures and arrays within the limits have."""
    return most if limits.pixels is None else min(most, STREAM + STREAMED * limits.pixels)


def check_decoding(form: str | None, mode: str, size: tuple[int, int], name: str, limits: Limits) -> None:
    """Raises PictureError where the decoding of a file would take more memory than the limit. form, mode: Pillow's."""
    needed = size[0] * size[1] * DECODING.get(form or "", 8)
    if limits.exceeded("memory", needed):
        raise PictureError(
            f"{name}: {size[0]} x {size[1]} take up to {amount_of(needed)} to decode; {limits.way_out('memory')}, or "
            f"make it smaller"
        )
