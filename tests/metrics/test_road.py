"""ROAD: models whose scores are known, an independent count of what is removed, and the published slips."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer, weighted_sum

from onnxcam import Element, Explainer
from onnxcam.errors import OptionError
from onnxcam.metrics.imputation import imputed
from onnxcam.metrics.ranking import descending_ranks
from onnxcam.metrics.road import kept_pixels, road

LARGE = (20, 30)
RAMP = np.arange(24).reshape(SIDES) / 23


def naive_kept(values: np.ndarray, percentile: float, *, most: bool) -> np.ndarray:
    """The threshold of the authors' and others' code: below numpy's percentile stays. For maps without ties."""
    values = values if most else values.max() - values
    return values < np.percentile(values, percentile)


def naive_road(weights: np.ndarray, image: np.ndarray, values: np.ndarray, percentiles: tuple[float, ...]) -> float:
    """Without noise: the mean of half the difference of the scores."""
    halves = []
    for q in percentiles:
        least, most = (
            (weights * imputed(image[None].astype(np.float32), naive_kept(values, q, most=m))[0]).sum()
            for m in (False, True)
        )
        halves.append((least - most) / 2)
    return float(np.mean(halves))


def bright_object() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of an object of 6x5 pixels, an image that is 1 there and 0 elsewhere, and the object as a map."""
    inside = np.zeros(LARGE)
    inside[4:10, 6:11] = 1
    return inside / inside.sum(), inside, inside


def test_a_perfect_map_is_above_zero_and_the_worst_one_is_its_opposite() -> None:
    weights, image, inside = bright_object()
    distance = np.hypot(*(np.indices(LARGE) - np.array([7, 8]).reshape(2, 1, 1))) + 1e-4 * np.arange(600).reshape(LARGE)
    perfect = inside * 100 - distance
    with sum_scorer(weights, image) as scorer:
        # Whatever the percentile, most-first removes the object (30 of 600 pixels), whose place then shows the dark
        # surroundings: 0. Least-first leaves it: 1. So half the difference is 0.5.
        best, worst = road(scorer, perfect, noise=0), road(scorer, -perfect, noise=0)
        assert best.value == pytest.approx(0.5, abs=1e-6)
        assert worst.value == pytest.approx(-0.5, abs=1e-6)
        assert best.curve[:, 0] == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=2e-3)
        assert best.curve[:, 1] == pytest.approx([0.5] * 4, abs=1e-6)
        assert (best.metric, best.protocol, best.passes) == ("road", None, 8)


def test_road_is_the_mean_of_half_of_least_first_less_most_first() -> None:
    rng = np.random.default_rng(0)
    weights, image, values = rng.random(LARGE) / 300, rng.random(LARGE), rng.random(LARGE)
    with sum_scorer(weights, image) as scorer:
        for percentiles in ((20, 40, 60, 80), (50,), (10, 12.5, 99)):
            expected = naive_road(weights, image, values, percentiles)
            result = road(scorer, values, percentiles=percentiles, noise=0)
            assert result.value == pytest.approx(expected, abs=1e-6)
            assert result.value == pytest.approx(result.curve[:, 1].mean(), abs=1e-6)


@pytest.mark.parametrize("size", [(20, 30), (7, 9), (11,), (3, 4, 5)])
def test_without_ties_as_many_pixels_stay_as_below_the_percentile(size: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).permutation(int(np.prod(size))).reshape(size).astype(float)
    percentiles = (1, 12.5, 20, 33.3, 40, 60, 80, 99)
    kept = kept_pixels(descending_ranks(values), percentiles)
    for i, q in enumerate(percentiles):
        assert np.array_equal(kept[i], naive_kept(values, q, most=True)), q
        assert np.array_equal(kept[len(percentiles) + i], naive_kept(values, q, most=False)), q


def test_ties_remove_as_many_pixels_from_either_end() -> None:
    # Half of the map is zero, as ReLU leaves it. A threshold would remove everything at 20 % and 40 %.
    values = np.maximum(np.linspace(-1, 1, 600), 0).reshape(LARGE)
    kept = kept_pixels(descending_ranks(values), (20, 40, 60, 80)).reshape(2, 4, -1).sum(axis=2)
    assert kept.tolist() == [[120, 240, 360, 480]] * 2


def test_a_map_with_ties_at_every_percentile_has_a_value() -> None:
    weights, image, inside = bright_object()
    with sum_scorer(weights, image) as scorer:
        assert road(scorer, inside, noise=0).value == pytest.approx(0.5, abs=1e-6)


def test_a_constant_map_is_undefined() -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer:
        result = road(scorer, np.ones(SIDES))
        assert (result.value, result.reason, result.passes) == (
            None, "the map is constant, so its pixels have no order", 0,
        )  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_with_nan_or_infinity_is_refused(bad: float) -> None:
    values = RAMP.copy()
    values[0, 0] = bad
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer, pytest.raises(OptionError, match="NaN or infinity"):
        road(scorer, values)


def test_a_score_that_nothing_changes_gives_zero() -> None:
    for brightness in (0, 1):  # p = 0 and p = 1, and the imputed pixels are as bright as the others
        with sum_scorer(object_at([3, 9]), np.full(SIDES, brightness)) as scorer:
            assert float(scorer.whole[0]) == pytest.approx(brightness, abs=1e-6)
            assert road(scorer, RAMP, noise=0).value == pytest.approx(0, abs=1e-6)


def test_the_seed_makes_the_number_again_and_another_one_another() -> None:
    rng = np.random.default_rng(2)
    with sum_scorer(rng.random(LARGE) / 300, rng.random(LARGE)) as scorer:
        values = rng.random(LARGE)
        first, again, other = (road(scorer, values, noise=0.3, seed=seed) for seed in (7, 7, 8))
        assert first.value == again.value
        assert np.array_equal(first.curve, again.curve)
        assert first.value != other.value
        assert first.options == {"percentiles": (20, 40, 60, 80), "noise": 0.3, "seed": 7}


def test_the_noise_is_drawn_anew_for_every_image_with_its_deviation_on_removed_pixels_only() -> None:
    image, seen = np.zeros((1, 100, 100)), []

    class Recorder:
        size, targets = (100, 100), (None,)

        def __init__(self) -> None:
            self.image = image.astype(np.float32)

        def images(self, rows: object, *, count: int, progress: object) -> np.ndarray:
            seen.append(rows(np.arange(count)))
            return np.zeros((count, 1), np.float32)

    values = np.random.default_rng(3).random((100, 100))
    road(Recorder(), values, noise=0.2)
    (images,) = seen
    kept = kept_pixels(descending_ranks(values), (20, 40, 60, 80))
    for made, stays in zip(images[:, 0], kept, strict=True):
        assert (made[stays] == 0).all()
        assert made[~stays].std() == pytest.approx(0.2, rel=0.1)
        assert abs(made[~stays].mean()) < 0.02
    correlation = np.corrcoef(images[0][0][~kept[0] & ~kept[4]], images[4][0][~kept[0] & ~kept[4]])[0, 1]
    assert abs(correlation) < 0.1, "the layers of noise are drawn independently"


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_batch_size_does_not_change_the_number(batch: int) -> None:
    rng = np.random.default_rng(4)
    weights, image, values = rng.random(LARGE) / 300, rng.random(LARGE), rng.random(LARGE)
    with Explainer(weighted_sum(weights), "grad-cam", kind="elements", providers=["cpu"], batch=batch) as explainer:
        scorer = explainer.scorer(image[None].astype(np.float32), Element((0,)))
        with sum_scorer(weights, image) as other:
            assert road(scorer, values).value == pytest.approx(road(other, values).value, abs=1e-6)


@pytest.mark.parametrize("size", [(40,), (4, 5, 6)])
def test_signals_and_volumes_are_measured_too(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    weights, image, values = rng.random(size), rng.random(size), rng.random(size)
    with sum_scorer(weights, image) as scorer:
        result = road(scorer, values, noise=0)
        assert result.value == pytest.approx(naive_road(weights, image, values, (20, 40, 60, 80)), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentiles": ()}, "percentiles lie between 0 and 100"),
        ({"percentiles": (0, 50)}, "percentiles lie between 0 and 100"),
        ({"percentiles": (50, 100)}, "percentiles lie between 0 and 100"),
        ({"noise": -1}, "noise is a deviation"),
        ({"noise": float("nan")}, "noise is a deviation"),
        ({"percentiles": "20"}, "percentiles: real numbers"),
        ({"percentiles": None}, "percentiles: real numbers"),
        ({"noise": "a"}, "noise: real numbers"),
        ({"seed": -1}, "a seed is a whole number"),
        ({"seed": 1.5}, "a seed is a whole number"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer, pytest.raises(OptionError, match=message):
        road(scorer, RAMP, **options)


def test_percentiles_may_be_numbers_of_any_type() -> None:
    with sum_scorer(object_at([3]), np.ones(SIDES)) as scorer:
        values = [road(scorer, RAMP, percentiles=p).value for p in ((20.5, 40), np.array([20.5, 40], np.float32))]
    assert values[0] == values[1]


def test_a_score_that_is_not_finite_is_undefined() -> None:
    with sum_scorer(np.ones((1, 3)), np.array([[3e38, -3e38, 3e38]])) as scorer:
        result = road(scorer, np.array([[0.2, 0.5, 0.1]]))
        assert (result.value, result.reason) == (None, "the model's scores hold NaN or infinity")


def test_the_maps_scale_does_not_matter_its_order_does() -> None:
    rng = np.random.default_rng(6)
    weights, image, values = rng.random(LARGE) / 300, rng.random(LARGE), rng.random(LARGE)
    with sum_scorer(weights, image) as scorer:
        value = road(scorer, values).value
        for other in (1000 * values, values - 5, np.exp(values)):
            assert road(scorer, other).value == value


def test_the_number_is_an_area_over_percentiles_and_not_their_sum() -> None:
    weights, image, inside = bright_object()
    with sum_scorer(weights, image) as scorer:
        few, many = (road(scorer, inside, percentiles=q, noise=0) for q in ((50,), tuple(range(20, 90, 5))))
        assert few.value == pytest.approx(many.value, abs=1e-6)
        assert (few.passes, many.passes) == (2, 28)
