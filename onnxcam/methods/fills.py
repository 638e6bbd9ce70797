"""Fills: what replaces the pixels that a mask removes. The choice moves published figures a lot, so results record it.

A Fill makes a replacement image of the network's input; the graph blends it in: x * M + fill * (1 - M).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxcam.errors import OptionError, near
from onnxcam.inputs.opencv import opencv
from onnxcam.inputs.preprocess import black
from onnxcam.inputs.presets import Preset
from onnxcam.limits import brief, is_number
from onnxcam.types import Image


@dataclass(frozen=True)
class Fill:
    """A replacement for removed pixels.

    name: recorded with every result. make: (image (C,H,W), its preset) -> (C,H,W); None fills with zeros. needs_preset:
    the replacement depends on the preprocessing, so an image that came preprocessed needs its preset too.
    """

    name: str
    make: Callable[[Image, Preset], Image] | None = None
    needs_preset: bool = False

    def replacement(self, image: Image, preset: Preset) -> Image | None:
        """The replacement (C,H,W) of this image; None stands for zeros.

        Raises OptionError where `make` is no function, or returns anything but an array of the image's shape.
        """
        if self.make is None:
            return None
        if not callable(self.make):
            raise OptionError(
                f"the fill {brief(self.name)} is made by a function of image and preset, not by {brief(self.make)}"
            )
        pixels = self.make(image, preset)
        if not isinstance(pixels, np.ndarray):
            raise OptionError(f"the fill {brief(self.name)} returned {type(pixels).__name__}, not an array")
        if pixels.shape != image.shape:
            raise OptionError(f"the fill {brief(self.name)} returned the shape {pixels.shape}, not {image.shape}")
        return pixels


def _black(image: Image, preset: Preset) -> Image:
    colour = black(preset, image.shape[0]).astype(np.float32)
    return np.broadcast_to(colour.reshape(-1, *[1] * (image.ndim - 1)), image.shape)


def mean_colour(image: Image) -> Image:
    """(C,*size) the image's mean colour in every pixel."""
    return np.broadcast_to(image.mean(axis=tuple(range(1, image.ndim)), keepdims=True), image.shape)


def gaussian_blur(image: Image, sigma: float) -> Image:
    """The image (C,*size) blurred by a Gaussian of `sigma` pixels.

    Frames of a volume are blurred one by one, a signal as an image of one row.
    """
    cv2 = opencv()
    blurred = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes(image)]
    return np.asarray(np.stack(blurred), np.float32).reshape(image.shape)


def planes(image: Image) -> Image:
    """(N,rows,columns) the channels of an image, the frames of a volume's channels, or the rows of a signal."""
    rows = image.shape[-2:] if image.ndim > 2 else (1, image.shape[-1])
    return np.ascontiguousarray(image).reshape(-1, *rows)


def _mean(image: Image, preset: Preset) -> Image:
    return mean_colour(image)


@dataclass(frozen=True)
class _Blur:
    """A Gaussian of `sigma` pixels, as a value that compares equal to another of that sigma."""

    sigma: float

    def __call__(self, image: Image, preset: Preset) -> Image:
        return gaussian_blur(image, self.sigma)


ZERO = Fill("zero")
"""Zero on the normalised tensor: the data set's mean colour (MUPPET, the official Score-CAM). The default."""

BLACK = Fill("black", _black, needs_preset=True)
"""Black pixels of the picture, as preprocessing turns them into numbers."""

MEAN = Fill("mean", _mean)
"""The image's own mean colour."""


def blur(sigma: float = 10.0) -> Fill:
    """The image blurred by a Gaussian of `sigma` pixels of the model's input (Fong & Vedaldi 2017 use 10).

    A volume is blurred frame by frame. Raises OptionError for a sigma that is not above 0.
    """
    if not (is_number(sigma) and sigma > 0):
        raise OptionError(f"blur needs a sigma above 0 in pixels, not {brief(sigma)}")
    sigma = float(sigma)
    short = f"{sigma:g}"
    return Fill(f"blur(sigma={short if float(short) == sigma else repr(sigma)})", _Blur(sigma))


FILLS: Mapping[str, Callable[[], Fill]] = {
    "zero": lambda: ZERO,
    "black": lambda: BLACK,
    "mean": lambda: MEAN,
    "blur": blur,
}
"""The short names, and what each makes."""


def fill_named(name: str) -> Fill:
    """The fill of that name: 'zero', 'black', 'mean', 'blur' or 'blur(sigma=3)'.

    `fill_named(fill.name)` is `fill` again. Raises OptionError, with the names that come near, for anything else.
    """
    if not isinstance(name, str):
        raise OptionError(f"a fill's name is a text such as 'zero', not {brief(name)}")
    match = re.fullmatch(r"blur\((?:sigma=)?([^()]+)\)", name.strip())
    if match is not None:
        try:
            sigma = float(match[1])
        except ValueError:
            raise OptionError(f"the sigma of blur is a number of pixels, not {match[1]!r}") from None
        return blur(sigma)
    if name not in FILLS:
        raise OptionError(f"no fill is called {brief(name)}; {near(name, FILLS)}")
    return FILLS[name]()


def as_fill(fill: Fill | str) -> Fill:
    """The fill itself, or the one of that name. Raises OptionError for anything else."""
    if isinstance(fill, Fill):
        return fill
    if not isinstance(fill, str):
        raise OptionError(f"a fill is made by a function such as blur(), or named, not {brief(fill)}")
    return fill_named(fill)
