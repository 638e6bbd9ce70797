"""Faithfulness correlation: Xplique's formula as loops over subsets and pixels, and models that are sums."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer

from onnxcam.errors import OptionError
from onnxcam.metrics.faithfulness import (
    CORRELATION_PROTOCOLS,
    cell_of_each_pixel,
    drawn_subsets,
    faithfulness_correlation,
    subset_sums,
)

LARGE = (30, 40)


def naive_ranks(values: list[float]) -> np.ndarray:
    """Average ranks, by counting."""
    return np.array([sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values])


def xplique(weights: np.ndarray, image: np.ndarray, values: np.ndarray, subsets: np.ndarray) -> float:
    """Spearman of base - f(x * mask) and sum(phi * (1 - mask)), masks enlarged to the nearest cell. Grid 9x9."""
    drops, sums = [], []
    for removed in subsets.reshape(-1, 9, 9):
        mask = np.ones(LARGE)
        for row in range(LARGE[0]):
            for column in range(LARGE[1]):
                mask[row, column] = not removed[int((row + 0.5) * 9 / LARGE[0]), int((column + 0.5) * 9 / LARGE[1])]
        drops.append((weights * image).sum() - (weights * image * mask).sum())
        sums.append((values * (1 - mask)).sum())
    return float(np.corrcoef(naive_ranks(drops), naive_ranks(sums))[0, 1])


@pytest.mark.parametrize("protocol", CORRELATION_PROTOCOLS)
def test_the_number_is_that_of_xpliques_formula_on_the_same_subsets(protocol: str) -> None:
    rng = np.random.default_rng(0)
    weights, image, values = rng.random(LARGE) / 600, rng.random(LARGE), rng.normal(size=LARGE)
    values += 300 * weights
    subsets = drawn_subsets(81, 40, 0.2, 5, exactly=protocol == "fixed")
    with sum_scorer(weights, image) as scorer:
        result = faithfulness_correlation(scorer, values, protocol=protocol, samples=40, seed=5)
    assert result.value == pytest.approx(xplique(weights, image, values, subsets), abs=1e-6)
    assert result.passes == 40
    assert result.options == {"samples": 40, "removed": 0.2, "seed": 5}


@pytest.mark.parametrize("protocol", CORRELATION_PROTOCOLS)
def test_a_map_of_the_true_contributions_scores_1_and_its_opposite_minus_1(protocol: str) -> None:
    weights = np.random.default_rng(1).random(LARGE) / 600
    with sum_scorer(weights, np.ones(LARGE)) as scorer:
        assert faithfulness_correlation(scorer, weights, protocol=protocol).value == pytest.approx(1, abs=1e-6)
        assert faithfulness_correlation(scorer, -weights, protocol=protocol).value == pytest.approx(-1, abs=1e-6)


def test_scores_that_differ_by_rounding_only_rank_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(1).random(LARGE)
    with sum_scorer(weights * 1e-12, np.ones(LARGE)) as faint:
        assert faithfulness_correlation(faint, weights).value == pytest.approx(1, abs=1e-6)
    steps = np.random.default_rng(2).integers(0, 4, (200, 1))
    saturated = (1 - steps * 2.0**-24).astype(np.float32)
    with sum_scorer(weights, np.ones(LARGE)) as scorer:
        monkeypatch.setattr(scorer, "images", lambda images, count, progress: saturated)
        result = faithfulness_correlation(scorer, weights)
    assert result.value is None
    assert "score alike up to float32" in str(result.reason)


def test_a_random_map_correlates_where_subsets_differ_in_size_and_does_not_where_they_are_of_one() -> None:
    rng, size = np.random.default_rng(2), (18, 27)
    values: dict[str, list[float]] = {protocol: [] for protocol in CORRELATION_PROTOCOLS}
    for seed in range(10):
        with sum_scorer((1 + rng.random(size)) / 1000, np.ones(size)) as scorer:
            noise = 1 + rng.random(size)
            for protocol, of_seeds in values.items():
                of_seeds.append(faithfulness_correlation(scorer, noise, protocol=protocol, seed=seed).value)
    assert np.mean(values["independent"]) > 0.9
    assert abs(np.mean(values["fixed"])) < 0.15


def test_fixed_subsets_remove_16_of_81_cells_and_independent_ones_a_fifth_on_average() -> None:
    fixed, independent = (drawn_subsets(81, 500, 0.2, 0, exactly=exactly) for exactly in (True, False))
    assert (fixed.sum(axis=1) == 16).all()
    assert independent.mean() == pytest.approx(0.2, abs=0.01)
    assert independent.sum(axis=1).std() == pytest.approx(np.sqrt(81 * 0.2 * 0.8), rel=0.1)
    assert fixed.mean(axis=0) == pytest.approx(np.full(81, 16 / 81), abs=0.08)


@pytest.mark.parametrize(
    ("size", "cells"), [((224, 224), 81), ((30, 40), 81), ((5, 20), 45), ((100,), 81), ((9, 10, 3), 243)]
)
def test_every_cell_holds_a_pixel(size: tuple[int, ...], cells: int) -> None:
    counts = np.bincount(cell_of_each_pixel(size).ravel())
    assert len(counts) == cells
    assert counts.min() >= 1


def test_equal_sums_are_ties_whatever_their_order() -> None:
    cells, values = np.arange(6), np.array([0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    subsets = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]], bool)
    assert len(set(subset_sums(values, cells, subsets).tolist())) == 1


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_a_constant_map_is_undefined(level: float) -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer:
        result = faithfulness_correlation(scorer, np.full(SIDES, level))
        assert result.value is None
        assert "constant" in result.reason
        assert result.passes == 0


def test_a_score_that_nothing_changes_is_undefined_and_not_zero() -> None:
    # Xplique gives 0 there, which reads as a map that says nothing about a model that answers.
    with sum_scorer(object_at([3]), np.zeros(SIDES)) as scorer:
        result = faithfulness_correlation(scorer, np.arange(24).reshape(SIDES))
        assert result.value is None
        assert "score alike" in result.reason


def test_a_score_that_is_not_finite_is_undefined() -> None:
    with sum_scorer(np.ones((1, 3)), np.array([[3e38, -3e38, 3e38]])) as scorer:
        result = faithfulness_correlation(scorer, np.array([[0.2, 0.5, 0.1]]))
        assert (result.value, result.reason) == (None, "the model's scores hold NaN or infinity")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_with_nan_or_infinity_is_refused(bad: float) -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer, pytest.raises(OptionError, match="NaN or infinity"):
        faithfulness_correlation(scorer, np.full(SIDES, bad))


def test_the_seed_makes_the_number_again_and_another_one_another() -> None:
    rng = np.random.default_rng(4)
    with sum_scorer(rng.random(LARGE) / 600, np.ones(LARGE)) as scorer:
        values = rng.random(LARGE)
        first, again, other = (faithfulness_correlation(scorer, values, seed=s).value for s in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("size", [(100,), (9, 10, 11)])
def test_signals_and_volumes_are_measured_too(size: tuple[int, ...]) -> None:
    weights = np.random.default_rng(5).random(size) / np.prod(size)
    with sum_scorer(weights, np.ones(size)) as scorer:
        assert faithfulness_correlation(scorer, weights).value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 1},
        {"samples": 2.5},
        {"samples": "many"},
        {"removed": 0},
        {"removed": 1},
        {"removed": "half"},
        {"seed": -3},
        {"protocol": "some"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict) -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer, pytest.raises(OptionError):
        faithfulness_correlation(scorer, np.arange(24).reshape(SIDES), **options)


def test_the_maps_scale_and_the_scores_do_not_matter() -> None:
    # Infidelity, which is not offered, depends on the map's scale: a map ten times as large is another number there.
    rng = np.random.default_rng(6)
    weights, values = rng.random(LARGE) / 1200, rng.random(LARGE)
    with sum_scorer(weights, np.ones(LARGE)) as scorer, sum_scorer(weights, np.full(LARGE, 0.5)) as darker:
        value = faithfulness_correlation(scorer, values).value
        assert faithfulness_correlation(scorer, 1000 * values).value == pytest.approx(value, abs=1e-6)
        assert faithfulness_correlation(darker, values).value == pytest.approx(value, abs=1e-3)


def test_at_p_1_it_is_defined() -> None:
    weights = np.random.default_rng(7).random(LARGE)
    with sum_scorer(weights / weights.sum(), np.ones(LARGE)) as scorer:
        assert float(scorer.whole[0]) == pytest.approx(1, abs=1e-5)
        assert faithfulness_correlation(scorer, weights).value == pytest.approx(1, abs=1e-4)
