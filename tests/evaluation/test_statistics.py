"""Means with bootstrap intervals against all resamples of a small set, written out."""

from itertools import product

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.evaluation.statistics import mean_with_interval, paired_difference


def test_the_interval_is_that_of_all_resamples() -> None:
    values = [0.0, 1.0, 4.0, 9.0, 20.0]
    every_mean = [np.mean(draw) for draw in product(values, repeat=5)]
    estimate = mean_with_interval(values)
    assert estimate is not None
    assert estimate.mean == pytest.approx(6.8)
    assert (estimate.low, estimate.high) == pytest.approx(np.percentile(every_mean, (2.5, 97.5)), abs=0.25)
    assert estimate.n == 5


def test_pairs_cancel_what_both_share() -> None:
    pictures = np.linspace(0, 100, 30)
    difference = paired_difference(pictures + 1, pictures)
    assert difference is not None
    assert (difference.mean, difference.low, difference.high) == pytest.approx((1, 1, 1))


def test_a_pair_with_an_undefined_value_is_left_out() -> None:
    difference = paired_difference([1.0, np.nan, 3.0], [0.0, 5.0, 1.0])
    assert difference is not None
    assert (difference.mean, difference.n) == (1.5, 2)


def test_fewer_than_six_numbers_have_no_interval() -> None:
    five, six = mean_with_interval([1.0, 2.0, 3.0, 4.0, 5.0]), mean_with_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert five is not None
    assert six is not None
    assert five.interval is None
    assert six.interval == (six.low, six.high)
    assert six.low < 3.5 < six.high


def test_no_values_have_no_mean() -> None:
    assert mean_with_interval([]) is None
    assert paired_difference([np.nan], [1.0]) is None


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).random(20)
    assert mean_with_interval(values) == mean_with_interval(values)
    assert mean_with_interval(values) != mean_with_interval(values, seed=1)


def test_what_is_not_finite_or_not_paired_is_refused() -> None:
    with pytest.raises(OptionError, match="finite"):
        mean_with_interval([1.0, np.inf])
    with pytest.raises(OptionError, match="as many values"):
        paired_difference([1.0], [1.0, 2.0])
