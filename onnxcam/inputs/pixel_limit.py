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
