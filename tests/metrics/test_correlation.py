"""Rank correlations against the definition, written down as loops, and values worked by hand."""

import math

import numpy as np
import pytest

from onnxcam.metrics.correlation import average_ranks, pearson, spearman


def naive_ranks(values: list[float]) -> list[float]:
    """One more than the number of smaller values, and half a place for each other equal one."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def naive_pearson(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    product = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return product / math.sqrt(math.fsum((x - mean_a) ** 2 for x in a) * math.fsum((y - mean_b) ** 2 for y in b))


def test_ties_share_the_mean_of_their_ranks() -> None:
    assert average_ranks([10, 20, 20, 5, 20]).tolist() == [2, 4, 4, 1, 4]
    assert average_ranks(np.zeros((2, 2))).tolist() == [2.5] * 4


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_spearman_is_pearson_of_average_ranks_with_few_and_many_ties(levels: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, levels, (2, 40)).astype(float)
        expected = naive_pearson(naive_ranks(list(a)), naive_ranks(list(b)))
        assert spearman(a, b) == pytest.approx(expected, abs=1e-12)


def test_spearman_of_a_hand_worked_case() -> None:
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * (1 + 1 + 1 + 1) / (4 * 15) = 0.6.
    assert spearman([1, 5, 7, 100], [3, 2, 9, 4]) == pytest.approx(0.6, abs=1e-15)


def test_any_rising_function_correlates_perfectly_and_any_falling_one_inversely() -> None:
    x = np.linspace(-3, 3, 50).reshape(5, 10)
    assert spearman(x, np.exp(x)) == pytest.approx(1, abs=1e-12)
    assert spearman(x, -(x**3)) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("constant", [np.ones(6), np.full(6, 0.1), np.zeros(6)])
def test_a_constant_has_no_correlation(constant: np.ndarray) -> None:
    assert spearman(constant, np.arange(6)) is None
    assert spearman(np.arange(6), constant) is None
    assert pearson(np.arange(6), constant) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_have_no_correlation(bad: float) -> None:
    assert spearman([1, 2, bad], [1, 2, 3]) is None
    assert pearson([1, 2, 3], [1, 2, bad]) is None


def test_one_pair_or_none_has_no_correlation() -> None:
    assert spearman([1], [2]) is None
    assert spearman([], []) is None


def test_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        spearman(np.zeros((2, 3)), np.zeros(6))


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_pearson_does_not_depend_on_the_scale(scale: float) -> None:
    a, b = np.array([1.0, 2, 4, 3]), np.array([2.0, 1, 5, 4])
    assert pearson(a * scale, b) == pytest.approx(naive_pearson(list(a), list(b)), abs=1e-12)
