"""Means with bootstrap intervals, paired where the same pictures were measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.types import Doubles

RESAMPLES = 10_000
LEAST_PAIRS = 6
"""Pairs without which nothing is told apart: five that all point one way do so by chance in 6 % of cases."""
DRAWN = 1_000_000
"""Rows that are drawn at once, at most: 8 MB for each of a few arrays."""


@dataclass(frozen=True)
class Estimate:
    """A mean of n numbers. low, high: between which the middle 95 % of the bootstrap's means lie.

    Draws of few numbers are too much alike, and those of one are all the same: `interval` is what may be shown.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % percentile bootstrap interval; None for fewer than LEAST_PAIRS numbers."""
        return (self.low, self.high) if self.n >= LEAST_PAIRS else None

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is told apart from 0: by its interval, which needs at least LEAST_PAIRS pairs."""
        return self.interval is not None and not self.low <= 0 <= self.high


def mean_with_interval(values: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate | None:
    """The mean of (n,) numbers; None where there is none. Raises OptionError for what is not finite.

    The interval is the middle 95 % of the means of `resamples` draws of n numbers with replacement (Efron 1979).
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise OptionError(f"the values are finite numbers in a row, not of shape {array.shape}")
    return means_with_intervals(array[:, None], seed=seed, resamples=resamples)[0]


def means_with_intervals(
    table: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Estimate | None, ...]:
    """The mean of each column of (n,k) numbers; NaN is no number and is left out. None for a column of NaN alone.

    A draw takes n rows with replacement for all columns at once, so that 10,000 pictures by 300 columns take seconds.
    Where a column has no number in a draw, the draw does not count for it. Raises OptionError for infinity.
    """
    numbers = np.asarray(table, np.float64)
    if numbers.ndim != 2 or np.isinf(numbers).any():
        raise OptionError(f"the values are finite numbers in rows and columns, not of shape {numbers.shape}")
    if not numbers.size:
        return tuple(None for _ in range(numbers.shape[1]))
    defined = ~np.isnan(numbers)
    means = _drawn_means(np.where(defined, numbers, 0), defined, seed, resamples)
    return tuple(_estimate(numbers[defined[:, j], j], means[:, j]) for j in range(numbers.shape[1]))


def _estimate(values: Doubles, drawn: Doubles) -> Estimate | None:
    """drawn: the means of the draws, NaN where a draw had no number."""
    if not len(values):
        return None
    low, high = np.percentile(drawn[~np.isnan(drawn)], (2.5, 97.5))
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def _drawn_means(filled: Doubles, defined: npt.NDArray[np.bool_], seed: int, resamples: int) -> Doubles:
    """(resamples,k) the means of draws of n rows. filled: the table (n,k) with 0 in place of NaN."""
    rows, random = len(filled), np.random.default_rng(seed)
    patterns, which = np.unique(defined, axis=1, return_inverse=True)
    means = np.empty((resamples, filled.shape[1]))
    step = max(1, DRAWN // rows)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        drawn = random.integers(0, rows, (draws, rows)) + rows * np.arange(draws)[:, None]
        times = np.bincount(drawn.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float64)
        sums, counts = times @ filled, (times @ patterns.astype(np.float64))[:, which.ravel()]
        part = means[start : start + draws]
        part.fill(np.nan)
        np.divide(sums, counts, out=part, where=counts > 0)
    return means


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
