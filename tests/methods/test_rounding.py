"""The bound of a map whose masked scores are computed in a lower precision, on probes made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from onnxcam import opti_cam, score_cam
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import OptionError
from onnxcam.explainer.heads import check_precision
from onnxcam.methods import METHODS, method, reducible
from onnxcam.methods.estimate.rounding import FACTOR, deviations, widened
from onnxcam.methods.maps import Outcome

MAPS = np.random.default_rng(0).random((40, 5, 5)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).random((40, 2))
OUTCOME = Outcome(MAPS[0], MAPS[0])
BF16 = EngineOptions(precision="bf16")


def test_both_errors_are_squared_and_added() -> None:
    off = np.asarray([0.02, 0.3])
    estimated = replace(OUTCOME, error=0.03, estimated=4)
    exact, bound = widened([OUTCOME, estimated], MAPS, WEIGHTS, off)
    first, second = deviations(MAPS, WEIGHTS, off)
    assert exact.error == pytest.approx(first)
    assert bound.error == pytest.approx(np.sqrt(0.03**2 + second**2))
    assert 0 < first < second


def test_full_precision_leaves_outcomes_as_they_are() -> None:
    outcomes = [OUTCOME, replace(OUTCOME, error=0.03)]
    assert widened(outcomes, MAPS, WEIGHTS, None) == outcomes


def test_an_unknown_error_stays_unknown_and_so_does_that_of_a_map_on_the_way() -> None:
    unknown = [replace(OUTCOME, estimated=3), replace(OUTCOME, left=3)]
    assert [o.error for o in widened(unknown, MAPS, WEIGHTS, np.asarray([0.1, 0.1]))] == [None, None]


def test_the_deviation_is_that_of_maps_with_random_scores() -> None:
    """Of two maps with one cell each, of three cells in a column: raw is (1, b, 0), and b/1 is all that can be off.

    Enlarged twice the rows are 1, (3 + b)/4, (1 + 3b)/4, 3b/4, b/4 and 0.
    """
    maps = np.zeros((2, 3, 1), np.float32)
    maps[0, 0], maps[1, 1] = 1, 1
    noise = np.random.default_rng(0).standard_normal((8, 2))
    (off,) = deviations(maps, np.asarray([[1.0], [0.5]]), np.asarray([0.01]))
    moved = 0.5 * (1 + 0.01 * noise[:, 1]) / (1 + 0.01 * noise[:, 0]) - 0.5
    expected = np.sqrt((1 + 9 + 9 + 1) / 16 / 6 * np.square(moved).mean())
    assert off == pytest.approx(FACTOR * expected, rel=1e-4)


def test_small_deviations_add_up_in_proportion_and_large_ones_end_at_one() -> None:
    single, double, endless = (deviations(MAPS, WEIGHTS, np.asarray([q, q])) for q in (1e-4, 2e-4, np.inf))
    np.testing.assert_allclose(double, 2 * np.asarray(single), rtol=0.01)
    assert endless == [1.0, 1.0]


def test_a_maps_scores_all_off_by_one_factor_would_change_nothing() -> None:
    """What the noise must not do: a common factor is normalised away."""
    np.testing.assert_allclose(
        deviations(MAPS, 7 * WEIGHTS, np.ones(2) / 9), deviations(MAPS, WEIGHTS, np.ones(2) / 9), 1e-5
    )


@pytest.mark.parametrize("name", METHODS)
def test_methods_that_cannot_say_what_rounding_does_are_refused(name: str) -> None:
    chosen = method(name)
    check_precision(EngineOptions(), chosen)
    if name in reducible():
        check_precision(BF16, chosen)
        return
    with pytest.raises(OptionError, match=rf"score-cam.* leave it out for {name} as requested".replace("+", r"\+")):
        check_precision(BF16, chosen)


def test_which_methods_take_a_lower_precision() -> None:
    assert reducible() == ("score-cam",)
    assert score_cam(tolerance=0.02).reducible
    for other in (score_cam(variant="paper"), score_cam(convention="destructive"), opti_cam()):
        with pytest.raises(OptionError, match="as they are by default"):
            check_precision(BF16, other)
