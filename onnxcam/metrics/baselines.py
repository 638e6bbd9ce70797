"""Maps that explain nothing, for every table: a method that does not beat them has shown nothing."""

from collections.abc import Callable, Mapping

import numpy as np

from onnxcam.types import Map


def ones(size: tuple[int, ...]) -> Map:
    """(*size) all 1: it keeps the whole image, so it drops nothing and has no order."""
    return np.ones(size, np.float32)


def centred_gaussian(size: tuple[int, ...]) -> Map:
    """(*size) a Gaussian in the middle of the image, 1 at its largest; sigma is a quarter of each side.

    Photographers put the object there, so it wins the pointing game on most photographs.
    """
    total = np.zeros(())
    for side in size:
        total = np.add.outer(total, ((np.arange(side) - (side - 1) / 2) / (side / 4)) ** 2)
    return np.asarray(np.exp((total.min() - total) / 2), np.float32)


BASELINES: Mapping[str, Callable[[tuple[int, ...]], Map]] = {"ones": ones, "gaussian": centred_gaussian}
"""By name, each from the sides of the model's input."""
