"""Average drop, increase and gain: hand-worked values of models whose score is a sum, and what is undefined."""

import numpy as np
import pytest
from known_scores import SIDES, object_at, sum_scorer
from small_models import CLASSIFIER, filled

from onnxcam import Explainer
from onnxcam.errors import OptionError
from onnxcam.metrics.average import MASK_PROTOCOLS, average_drop, average_gain, average_increase

OBJECT = object_at([3, 4, 9, 22])
PERFECT = (OBJECT > 0).astype(float)
WORST = 1 - PERFECT
ALL = (average_drop, average_increase, average_gain)


def test_a_perfect_map_drops_nothing_and_the_worst_one_all() -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.8)) as scorer:
        assert average_drop(scorer, PERFECT).value == pytest.approx(0, abs=1e-6)
        assert average_drop(scorer, WORST).value == pytest.approx(100, abs=1e-6)
        assert average_drop(scorer, 0.25 * PERFECT).value == pytest.approx(75, abs=1e-5)
        for value in (PERFECT, WORST):
            assert average_increase(scorer, value).value == 0
            assert average_gain(scorer, value).value == pytest.approx(0, abs=1e-5)


def test_a_map_that_removes_what_speaks_against_the_target_gains() -> None:
    # The object gives 0.8, the rest takes 0.3 of it: p = 0.5. The map keeps the object: o = 0.8.
    weights = OBJECT - 0.3 / 0.8 * WORST / WORST.sum()
    with sum_scorer(weights, np.full(SIDES, 0.8)) as scorer:
        assert float(scorer.whole[0]) == pytest.approx(0.5, abs=1e-6)
        assert average_gain(scorer, PERFECT).value == pytest.approx(0.3 / 0.5 * 100, abs=1e-4)
        assert average_increase(scorer, PERFECT).value == 100
        assert average_drop(scorer, PERFECT).value == 0


def test_half_keeps_the_upper_half_whole_and_half_soft_weighs_it() -> None:
    # 24 pixels, numbers 0 to 23 over 23 in raster order: the upper half is 12 to 23.
    ramp = np.arange(24).reshape(SIDES) / 23
    with sum_scorer(object_at([5, 12, 23]), np.full(SIDES, 0.9)) as scorer:
        seen = {"mult": (5 + 12 + 23) / 23 / 3, "half": 2 / 3, "half-soft": (12 + 23) / 23 / 3}
        for protocol, share in seen.items():
            result = average_drop(scorer, ramp, protocol=protocol)
            assert result.value == pytest.approx((1 - share) * 100, abs=1e-4)
            assert (result.protocol, result.passes) == (protocol, 1)


def test_an_odd_number_of_pixels_keeps_the_smaller_half_and_ties_go_by_raster() -> None:
    first_of_ties = np.array([[0.5, 0.5, 0.5, 0.5, 0.1]])
    with sum_scorer(np.array([[0.4, 0.3, 0.2, 0.1, 0.0]]), np.ones((1, 5))) as scorer:
        # floor(5 / 2) = 2 pixels: the first two in raster order, which score 0.7 of 1.
        assert average_drop(scorer, first_of_ties, protocol="half").value == pytest.approx(30, abs=1e-4)
        assert average_drop(scorer, first_of_ties, protocol="half-soft").value == pytest.approx(65, abs=1e-4)


def test_half_takes_a_map_of_any_range_and_mult_says_to_stretch_it() -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        assert average_drop(scorer, 7 * PERFECT - 3, protocol="half").value == pytest.approx(0, abs=1e-5)
        for protocol in ("mult", "half-soft"):
            with pytest.raises(OptionError, match=r"runs from -3 to 4.*\[0,1\].*stretch"):
                average_drop(scorer, 7 * PERFECT - 3, protocol=protocol)
        assert average_drop(scorer, PERFECT * np.nextafter(np.float32(1), np.float32(2))).value == 0


def test_without_a_probability_to_lose_a_drop_is_undefined() -> None:
    with sum_scorer(OBJECT, np.zeros(SIDES)) as scorer:
        result = average_drop(scorer, PERFECT)
        assert (result.value, result.reason) == (
            None, "the target's probability is below 1e-12, so there is nothing to lose",
        )  # fmt: skip
        assert average_increase(scorer, PERFECT).value == 0
        assert average_gain(scorer, PERFECT).value == 0


def test_without_a_probability_to_gain_a_gain_is_undefined() -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        result = average_gain(scorer, PERFECT)
        assert result.value is None
        assert result.reason == "the target's probability is above 1 - 1e-6, so there is nothing to gain"
        assert average_drop(scorer, WORST).value == pytest.approx(100, abs=1e-5)
        assert average_increase(scorer, WORST).value == 0


@pytest.mark.parametrize("brightness", [2.5, -1.0])
def test_a_score_that_is_no_probability_has_no_drop_and_no_gain(brightness: float) -> None:
    with sum_scorer(OBJECT, np.full(SIDES, brightness)) as scorer:
        for metric in (average_drop, average_gain):
            result = metric(scorer, PERFECT)
            assert result.value is None
            assert result.reason == f"the target's score is {brightness:.4g}, which is no probability"
        assert average_increase(scorer, WORST).value == (100 if brightness < 0 else 0)


def test_logits_have_no_drop_and_no_gain() -> None:
    image = np.random.default_rng(0).normal(size=(3, 16, 12)).astype(np.float32)
    with Explainer(filled(CLASSIFIER), "grad-cam", providers=["cpu"]) as explainer:
        scorer = explainer.scorer(image, 1, score="logit")
        for metric in (average_drop, average_gain):
            assert metric(scorer, np.ones((16, 12))).value is None
            assert metric(scorer, np.ones((16, 12))).reason == "the scores are logits; it needs probabilities"


def test_a_rise_within_rounding_is_no_increase() -> None:
    for rise, value in ((5e-7, 0), (3e-6, 100)):
        with sum_scorer(np.array([[0.5, -rise]]), np.ones((1, 2))) as scorer:
            assert average_increase(scorer, np.array([[1.0, 0.0]])).value == value


def test_the_map_of_ones_changes_nothing_and_has_no_half() -> None:
    with sum_scorer(OBJECT, np.full(SIDES, 0.3)) as scorer:
        for metric in ALL:
            assert metric(scorer, np.ones(SIDES)).value == 0
            for protocol in ("half", "half-soft"):
                result = metric(scorer, np.ones(SIDES), protocol=protocol)
                assert (result.value, result.passes) == (None, 0)
                assert result.reason == "the map is constant, so its pixels have no order"


def test_scores_that_are_not_finite_are_undefined() -> None:
    # Without the second pixel the sum is 3e38 + 3e38.
    with sum_scorer(np.array([[1.0, 1.0, 1.0]]), np.array([[3e38, -3e38, 3e38]])) as scorer:
        for metric in ALL:
            result = metric(scorer, np.array([[1.0, 0.0, 1.0]]))
            assert (result.value, result.reason) == (None, "the model's scores hold NaN or infinity")


@pytest.mark.parametrize("metric", ALL)
def test_what_does_not_fit_is_said(metric) -> None:
    with sum_scorer(OBJECT, np.ones(SIDES)) as scorer:
        with pytest.raises(OptionError, match=r"shape \(6, 4\), and the model's input 4x6"):
            metric(scorer, np.ones((6, 4)))
        with pytest.raises(OptionError, match="NaN or infinity"):
            metric(scorer, np.full(SIDES, np.nan))
        with pytest.raises(OptionError, match="real numbers"):
            metric(scorer, np.ones(SIDES) * 1j)
        with pytest.raises(OptionError, match=r"no protocol 'third'; known: mult, half, half-soft"):
            metric(scorer, PERFECT, protocol="third")
    with Explainer(filled(CLASSIFIER), "grad-cam", providers=["cpu"]) as explainer:
        two = explainer.scorer(np.zeros((3, 16, 12), np.float32), [0, 1])
        with pytest.raises(OptionError, match=r"one target, not of 2; use scorer.only\(i\)"):
            metric(two, np.ones((16, 12)))
        assert metric(two.only(1), np.ones((16, 12))).value == 0


@pytest.mark.parametrize("sides", [(7,), (4, 6), (2, 3, 5)], ids=["signal", "picture", "volume"])
@pytest.mark.parametrize("protocol", MASK_PROTOCOLS)
def test_signals_and_volumes_are_masked_like_pictures(sides: tuple[int, ...], protocol: str) -> None:
    rng = np.random.default_rng(1)
    weights, image, saliency = rng.random(sides), rng.random(sides), rng.random(sides)
    weights /= weights.sum()
    order = sorted(range(image.size), key=lambda i: -saliency.flat[i])
    kept = np.zeros(image.size)
    kept[order[: image.size // 2]] = 1
    kept = kept.reshape(sides)
    mask = {"mult": saliency, "half": kept, "half-soft": kept * saliency}[protocol]
    p, o = (weights * image).sum(), (weights * image * mask).sum()
    with sum_scorer(weights, image) as scorer:
        assert average_drop(scorer, saliency, protocol=protocol).value == pytest.approx((p - o) / p * 100, abs=1e-3)
