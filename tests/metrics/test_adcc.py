"""ADCC: hand-worked values of a model that is a sum, its limits, and where it is undefined."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.metrics.adcc import adcc

OBJECT = object_at([3, 4, 9, 22])
PERFECT = (OBJECT > 0).astype(float)


def test_a_perfect_map_scores_the_harmonic_mean_of_1_1_and_its_emptiness() -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        result = adcc(scorer, PERFECT, lambda image: PERFECT)
    # Coherency 1, drop 0, complexity 4 / 24.
    assert result.value == pytest.approx(3 / (1 + 1 / (1 - 4 / 24) + 1), abs=1e-6)
    assert result.options == pytest.approx({"coherency": 1, "complexity": 4 / 24, "drop": 0}, abs=1e-6)
    assert (result.metric, result.protocol, result.passes) == ("adcc", None, 1)


def test_the_three_parts_by_hand() -> None:
    values, again = np.zeros(SIDES), np.zeros(SIDES)
    values.flat[[3, 4]], again.flat[[3, 9]] = (0.5, 1), (1, 1)
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        result = adcc(scorer, values, lambda image: again)
    r = np.corrcoef(values.ravel(), again.ravel())[0, 1]
    coherency, complexity, drop = (r + 1) / 2, 1.5 / 24, 1 - 1.5 / 4
    assert result.options == pytest.approx({"coherency": coherency, "complexity": complexity, "drop": drop}, abs=1e-6)
    assert result.value == pytest.approx(3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)), abs=1e-6)


def test_the_method_explains_the_image_times_the_map() -> None:
    seen = []
    values = np.linspace(0, 1, 24).reshape(SIDES)
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        adcc(scorer, values, lambda image: seen.append(image) or values)
    assert seen[0] == pytest.approx(0.8 * values[None], abs=1e-6)


@pytest.mark.parametrize("again", [1 - PERFECT, PERFECT])
def test_where_a_term_is_0_the_harmonic_mean_is_0(again: np.ndarray) -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        # The opposite map of the masked image: coherency 0. Or a map that loses everything: drop 1.
        values = PERFECT if again is not PERFECT else 1 - PERFECT
        assert adcc(scorer, values, lambda image: 1 - values).value == pytest.approx(0, abs=1e-6)


def test_a_constant_map_is_undefined() -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        ones = adcc(scorer, np.ones(SIDES), lambda image: PERFECT)
        assert (ones.value, ones.reason) == (None, "the map is constant, so the coherency is undefined")
        other = adcc(scorer, PERFECT, lambda image: np.ones(SIDES))
        assert (other.value, other.reason) == (
            None, "the map of the masked image is constant, so the coherency is undefined",
        )  # fmt: skip


def test_a_masked_image_without_a_map_is_undefined() -> None:
    def explain(image: np.ndarray) -> np.ndarray:
        raise UndefinedSaliency("the map is constant")

    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        result = adcc(scorer, PERFECT, explain)
    assert (result.value, result.reason) == (None, "the masked image is not explained: the map is constant")


def test_without_a_probability_to_lose_it_is_undefined() -> None:
    with sum_scorer(OBJECT, np.zeros(SIDES)) as scorer:
        result = adcc(scorer, PERFECT, lambda image: PERFECT)
    assert result.value is None
    assert "below 1e-12" in result.reason


def test_at_p_1_it_is_defined() -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        assert adcc(scorer, PERFECT, lambda image: PERFECT).value == pytest.approx(3 / (2 + 24 / 20), abs=1e-6)


@pytest.mark.parametrize("bad", [np.full(SIDES, np.nan), PERFECT[:2], 2 * PERFECT])
def test_maps_that_do_not_fit_are_refused(bad: np.ndarray) -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer, pytest.raises(OptionError, match="the map"):
        adcc(scorer, bad, lambda image: PERFECT)


@pytest.mark.parametrize("bad", [np.full(SIDES, np.nan), PERFECT[:2]])
def test_a_map_of_the_masked_image_that_does_not_fit_is_refused(bad: np.ndarray) -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer, pytest.raises(OptionError, match="the map"):
        adcc(scorer, PERFECT, lambda image: bad)


def test_the_value_of_a_set_is_the_mean_of_its_rows_and_not_made_of_mean_parts() -> None:
    rows, parts = [], []
    for brightness, values in ((0.8, PERFECT), (0.5, np.linspace(0, 1, 24).reshape(SIDES))):
        with sum_scorer(OBJECT, np.full(SIDES, brightness)) as scorer:
            result = adcc(scorer, values, lambda image: np.sqrt(image[0]))
            rows.append(result.value)
            parts.append([result.options[name] for name in ("coherency", "complexity", "drop")])
    coherency, complexity, drop = np.mean(parts, axis=0)
    of_means = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
    assert abs(np.mean(rows) - of_means) > 0.01
