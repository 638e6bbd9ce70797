"""Maps that explain nothing, for every table: a method that does not beat them has shown nothing."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.limits import SAFE, brief, is_whole
from onnxcam.types import Map


def ones(size: tuple[int, ...]) -> Map:
    """(*size) all 1: it keeps the whole image, so it drops nothing and has no order. Raises OptionError."""
    return np.ones(_sides(size), np.float32)


def centred_gaussian(size: tuple[int, ...]) -> Map:
    """(*size) a Gaussian in the middle of the image, 1 at its largest; sigma is a quarter of each side.

    Photographers put the object there, so it wins the pointing game on most photographs. Raises OptionError.
    """
    total = np.zeros(())
    for side in _sides(size):
        total = np.add.outer(total, ((np.arange(side) - (side - 1) / 2) / (side / 4)) ** 2)
    return np.asarray(np.exp((total.min() - total) / 2), np.float32)


def _sides(size: tuple[int, ...]) -> tuple[int, ...]:
    """The sides. Raises OptionError for what are none, and for more places than the limit of pixels."""
    if not isinstance(size, tuple | list) or not size or not all(is_whole(side, 1) for side in size):
        raise OptionError(f"the size of a map is its sides from 1 on, such as (224, 224), not {brief(size)}")
    if SAFE.pixels is not None and math.prod(size) > SAFE.pixels:
        raise OptionError(f"a map of the sides {brief(size)} has more than {SAFE.pixels:,} places; give a smaller size")
    return tuple(size)


BASELINES: Mapping[str, Callable[[tuple[int, ...]], Map]] = {"ones": ones, "gaussian": centred_gaussian}
"""By name, each from the sides of the model's input."""
