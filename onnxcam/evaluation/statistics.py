"""Means with bootstrap intervals, paired where the same pictures were measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean of n numbers with its 95 % percentile bootstrap interval. low and high are the mean where n is 1."""

    mean: float
    low: float
    high: float
    n: int


def mean_with_interval(values: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate | None:
    """The mean of (n,) numbers; None where there is none. Raises OptionError for what is not finite.

    The interval is the middle 95 % of the means of `resamples` draws of n numbers with replacement (Efron 1979).
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise OptionError(f"the values are finite numbers in a row, not of shape {array.shape}")
    if not len(array):
        return None
    drawn = np.random.default_rng(seed).integers(0, len(array), (resamples, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), (2.5, 97.5))
    return Estimate(float(array.mean()), float(low), float(high), len(array))


def paired_difference(
    values: npt.ArrayLike, others: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate | None:
    """The mean of values - others of the same pictures, in the same order.

    A pair that has a NaN, of a metric that is undefined there, is left out. None where no pair is left. Raises
    OptionError for different numbers of pictures.
    """
    first, second = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if first.shape != second.shape:
        raise OptionError(f"pairs need as many values on both sides, not {first.shape} and {second.shape}")
    difference = first - second
    return mean_with_interval(difference[~np.isnan(difference)], seed=seed, resamples=resamples)
