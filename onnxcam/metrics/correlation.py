"""Correlations of two lists of numbers, such as two maps or the scores of two rankings."""

import numpy as np
import numpy.typing as npt

from onnxcam.types import Doubles


def average_ranks(values: npt.ArrayLike) -> Doubles:
    """(n,) the rank of each value from 1 for the smallest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values).ravel(), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse.ravel()], np.float64)


def pearson(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """Pearson's r in [-1,1] of two arrays of one shape; None where it is undefined.

    It is undefined where one of them is constant, holds NaN or infinity, or has fewer than two values. Raises
    ValueError where the shapes differ.
    """
    one, other = _pair(a, b)
    if one.size < 2 or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    one, other = _standardised(one), _standardised(other)
    return float(np.clip(one @ other, -1, 1))


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float | None:
    """Spearman's rank correlation in [-1,1] of two arrays of one shape; ties share their average rank.

    None where it is undefined: one of them is constant, holds NaN or infinity, or has fewer than two values. Raises
    ValueError where the shapes differ.
    """
    one, other = _pair(a, b)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    return pearson(average_ranks(one), average_ranks(other))


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    one, other = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if one.shape != other.shape:
        raise ValueError(f"a correlation takes two arrays of one shape, not {one.shape} and {other.shape}")
    return one.ravel(), other.ravel()


def _standardised(values: Doubles) -> Doubles:
    """The values less their mean, of length 1. Scaled by the largest first, so that no square under- or overflows."""
    centred = values - values.mean()
    centred = centred / np.abs(centred).max()
    return np.asarray(centred / np.sqrt(centred @ centred))
