"""How far scores in a lower precision are off, from a few masks that are scored in both: sums by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from onnxcam.network.packing import MaskRequest
from onnxcam.network.score_deviation import PAIRS, choose, largest, measure, relative
from onnxcam.types import Score

RNG = np.random.default_rng(0)


def test_masks_are_chosen_in_proportion_to_their_scores() -> None:
    scores = np.asarray([[0.0], [0.5], [0.0], [0.25], [0.25], [0.0], [0.0], [0.0]], np.float32)
    # Four of eight: two from the half of all that the first has, one from each quarter.
    assert sorted(choose(scores).tolist()) == [1, 1, 3, 4]
    assert len(choose(RNG.random((1000, 1), np.float32))) == PAIRS
    assert len(choose(np.zeros((5, 2), np.float32))) == 2
    assert choose(np.ones((1, 1), np.float32)).tolist() == [0]


def test_a_common_share_is_found_whichever_masks_are_chosen() -> None:
    exact = RNG.random((100, 3)) + 0.1
    scores = (exact * [1.01, 0.98, 1.0]).astype(np.float32)
    chosen = choose(scores)
    expected = np.asarray([0.01 / 1.01, 0.02 / 0.98, 0.0])
    # Shares are averaged over targets, so that each target's own weigh more or less: within a fifth here.
    np.testing.assert_allclose(
        relative(scores, exact[chosen].astype(np.float32), chosen), expected, rtol=0.2, atol=1e-6
    )
    one = scores[:, :1]
    np.testing.assert_allclose(relative(one, exact[chosen, :1].astype(np.float32), chosen), 0.01 / 1.01, rtol=1e-3)


def test_the_mean_is_over_masks_in_proportion_to_their_scores() -> None:
    scores = np.asarray([[0.3], [0.1]], np.float32)
    exact = np.asarray([[0.33], [0.09]], np.float32)
    chosen = np.asarray([0, 0, 0, 1])  # as often as their scores are large
    expected = np.sqrt((3 * 0.1**2 + 0.1**2) / 4)
    assert relative(scores, exact[chosen], chosen)[0] == pytest.approx(expected, rel=1e-5)


def test_scores_of_zero_give_numbers() -> None:
    zeros = np.zeros((6, 1), np.float32)
    chosen = choose(zeros)
    assert relative(zeros, zeros[chosen], chosen)[0] == 0
    assert relative(zeros, zeros[chosen] + 1, chosen)[0] > 1e6


def test_the_largest_scores_are_those_of_whole_runs() -> None:
    scores = RNG.permutation(500).astype(np.float32)[:, None]
    assert sorted(scores[largest(scores), 0]) == list(range(484, 500))  # 15, rounded to two runs of eight
    assert len(largest(scores[:100])) == 0


def test_scores_that_were_computed_in_float32_are_kept() -> None:
    exact = RNG.random((500, 1), np.float32)
    masks = np.arange(500, dtype=np.float32).reshape(-1, 1, 1, 1)
    network = SimpleNamespace(score_in_float32=lambda feeds, some, score: exact[some.ravel().astype(int)])
    reduced = exact * np.float32(1.25)
    scores, off, passes = measure(network, MaskRequest({}, masks, None), reduced, Score.PROBABILITY)  # type: ignore[arg-type]
    same = (scores == exact).ravel()
    assert passes == PAIRS + 16
    assert 16 <= same.sum() <= passes
    assert same[np.argsort(-exact[:, 0])[:16]].all()
    np.testing.assert_array_equal(scores[~same], reduced[~same])
    assert off == pytest.approx([0.2], rel=1e-5)
