"""Arrays as pictures: whose axes are which, and what their numbers are.

An array is one of NumPy, or of a library that shares its own: through DLPack, __array__ or __array_interface__, none of
which needs that library imported. Bytes are pixels. Floats from 0 to 1 are pixels divided by 255, floats up to 255
pixels, with a note; others are refused unless a window says which become black and white.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device
from onnxcam.errors import PictureError
from onnxcam.files import ARRAY
from onnxcam.inputs.depth import Bytes, Window, by_rows, from_deep, laid_over_white, windowed
from onnxcam.inputs.dlpack import place_of
from onnxcam.inputs.npy import MAGIC, read_npy
from onnxcam.inputs.sources import FileSource, fitting, name_of, opened, path_of, starts_with
from onnxcam.limits import SAFE, Limits
from onnxcam.types import Image, Note, NoteCode, Picture

Numbers = npt.NDArray[Any]

OVERSHOOT = 1e-3
"""How far beyond [0,1] floats may lie, by rounding, and are cut off."""
LEAST_PIXEL = 2
"""Floats from 0 on count as pixels up to 255 if one is larger than this; between 1 and this they are neither."""
CHANNELS = (1, 3, 4)
"""Channels of a picture: grey, RGB or RGBA."""
HOST = ("cpu", "cuda-pinned")
"""Devices whose memory the host reads."""
ARRAY_ERRORS = (BufferError, RuntimeError, TypeError, ValueError)
"""What libraries raise for an array that they do not share."""


def read_array(source: FileSource, limits: Limits = SAFE) -> Numbers:
    """The array of an .npy file; raises PictureError for anything but numbers of a size within the limits."""
    name = name_of(source)
    with fitting(name), opened(source, name, ARRAY, limits) as file:
        return read_npy(file, name, limits)


def is_array_file(source: FileSource) -> bool:
    """Whether this is an .npy file: a path by its suffix, anything else by its content."""
    if isinstance(source, str | os.PathLike):
        return path_of(source).lower().endswith(".npy")
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source[: len(MAGIC)]) == MAGIC
    return starts_with(source, MAGIC, name_of(source))


def host_array(image: Any) -> Numbers | None:
    """The numbers of an array of any library, in NumPy, shared where they can be; None for what is no array.

    Raises PictureError for an array that its library does not share.
    """
    if isinstance(image, np.ndarray | np.generic | memoryview):
        return np.asarray(image)
    ways: list[Callable[[], Any]] = []
    place = Device("cpu")
    if callable(detach := getattr(image, "detach", None)):
        image = detach()  # PyTorch shares no tensor that requires a gradient
    if hasattr(image, "__dlpack__") and hasattr(image, "__dlpack_device__"):
        place = place_of(image)
        on_host = place.kind in HOST
        ways.append(lambda: np.from_dlpack(image) if on_host else np.from_dlpack(image, device="cpu"))
        ways += [] if on_host else [copy for copy in (getattr(image, "get", None), _through_cpu(image)) if copy]
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        ways.append(lambda: np.asarray(image))
    if ways or hasattr(image, "__cuda_array_interface__"):
        copies = (
            getattr(image, way, None) for way in ("numpy", "copy_to_host")
        )  # of TensorFlow, onnxruntime; of Numba
        ways += [copy for copy in copies if callable(copy)]
    why = ""
    for way in ways:
        try:
            array = way()
        except ARRAY_ERRORS as error:
            why = why or " ".join(str(error).split())[:160]
            continue
        if isinstance(array, np.ndarray) and array.dtype != object:
            return array
    if not ways and not hasattr(image, "__cuda_array_interface__"):
        return None
    why = why or "its library does not copy it"
    if place.kind not in HOST:
        raise PictureError(
            f"the array lies on {place}, and cannot be brought to the host ({why}); "
            f"give it there, such as tensor.cpu() or cupy.asnumpy(array)"
        )
    raise PictureError(
        f"the array cannot be shared through DLPack: {why}; give it as float32 or uint8, such as tensor.float().numpy()"
    )


def _through_cpu(image: Any) -> Callable[[], Any] | None:
    """PyTorch's way to the host, for versions whose DLPack does not copy."""
    cpu = getattr(image, "cpu", None)
    return (lambda: np.from_dlpack(cpu())) if callable(cpu) else None


def picture_of(array: Numbers, window: Window | None, name: str) -> tuple[Picture, tuple[Note, ...]]:
    """The array as a picture (height, width, 3), and notes on how it was read; transparent pixels lie over white.

    Raises PictureError for a shape or for values that no picture has.
    """
    pixels, notes = _as_bytes(channels_last(array, name), window, name)
    colours, alpha = (pixels[..., :-1], pixels[..., -1:]) if pixels.shape[2] in (2, 4) else (pixels, pixels[..., :0])
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    picture, transparent = laid_over_white(colours, alpha, name)
    return picture, (*notes, *transparent)


def is_picture_shape(array: Numbers) -> bool:
    """Whether the axes are those of a picture: (height, width), or with 1, 3 or 4 channels first or last.

    Bytes may have 2 channels, the last of them alpha, and every picture may be a batch of one.
    """
    shape = array.shape[1:] if array.ndim == 4 and len(array) == 1 else array.shape
    if not array.size or len(shape) not in (2, 3):
        return False
    return (
        len(shape) == 2 or shape[0] in CHANNELS or shape[2] in CHANNELS or (array.dtype == np.uint8 and shape[2] == 2)
    )


def channels_last(array: Numbers, name: str) -> Numbers:
    """(height, width, 1 to 4) of a picture in that order, channels first, without channels, or in a batch of one."""
    if not is_picture_shape(array):
        raise PictureError(f"{name}: a picture is (height, width, 3) RGB, or (3, height, width), not {array.shape}")
    if array.ndim == 4:
        array = array[0]
    if array.ndim == 2:
        return array[..., None]
    last = array.shape[2] in CHANNELS or array.shape[0] not in CHANNELS
    return array if last else np.moveaxis(array, 0, -1)


def _as_bytes(pixels: Numbers, window: Window | None, name: str) -> tuple[Bytes, tuple[Note, ...]]:
    """The numbers of a picture as 0 to 255."""
    kind = pixels.dtype.kind
    if kind == "b":
        return np.where(pixels, 255, 0).astype(np.uint8), ()
    if kind == "f":
        return _floats_as_bytes(pixels, window, name)
    if kind not in "iu":
        raise PictureError(f"{name}: a picture is made of numbers, not of {pixels.dtype}; convert it to float32")
    if window is not None:
        return windowed(pixels, window), ()
    if pixels.dtype == np.uint8:
        return pixels, ()
    low, high = int(pixels.min()), int(pixels.max())
    if low >= 0 and high <= 255:
        text = f"{name}: {pixels.dtype} numbers from {low} to {high} are taken for pixels from 0 to 255"
        return pixels.astype(np.uint8), (Note(NoteCode.WHOLE_NUMBERS, text),)
    return from_deep(pixels, None, name)


def _floats_as_bytes(pixels: Numbers, window: Window | None, name: str) -> tuple[Bytes, tuple[Note, ...]]:
    check_finite(pixels, name)
    if window is not None:
        return windowed(pixels, window), ()
    low, high = float(pixels.min()), float(pixels.max())
    factor = factor_of_range(low, high)
    if factor is None:
        raise PictureError(
            f"{name}: the floats of a picture lie in [0,1], or are pixels up to 255, but these go from {low:.4g} to "
            f"{high:.4g}; clip them, or say which become black and white: window (LOW, HIGH)"
        )
    text = f"{name}: floats from {low:.4g} to {high:.4g} are taken for pixels from 0 to 255"
    notes = (Note(NoteCode.VALUE_RANGE, text),) if factor == 1 else ()
    return by_rows(pixels, lambda rows: np.rint(np.clip(rows.astype(np.float64) * factor, 0, 255))), notes


def check_finite(values: Numbers, name: str) -> None:
    """Raises PictureError for NaN and infinity."""
    if not np.isfinite(values).all():
        raise PictureError(f"{name}: the image holds NaN or infinity; replace them first")


def as_float32(values: Numbers, name: str) -> Image:
    """The numbers in float32, contiguous. Raises PictureError for NaN, infinity and those that it does not hold."""
    return float32_and_range(values, name)[0]


def float32_and_range(values: Numbers, name: str) -> tuple[Image, float, float]:
    """as_float32(), and the least and the greatest of its numbers, which are read once for all of this."""
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(values, np.float32)
    low, high = float(image.min()), float(image.max())  # NaN where any number is NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        check_finite(values, name)
        raise PictureError(f"{name}: the image holds numbers beyond 3.4e38, float32's greatest; scale them first")
    return image, low, high


def pixel_factor(values: Numbers) -> int | None:
    """By what floats are multiplied to be pixels: 255 if they lie in [0,1], 1 up to 255, None if they are neither."""
    return factor_of_range(float(values.min()), float(values.max()))


def factor_of_range(low: float, high: float) -> int | None:
    """pixel_factor() of floats from low to high."""
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return 255
    return 1 if low >= -0.5 and LEAST_PIXEL < high <= 255.5 else None
