"""How far scores in a lower precision are off, from a few masks that are scored in both: sums by hand."""

import numpy as np
import pytest

from onnxcam.methods.estimate.rounded_scores import PAIRS, Rounding, choose, first_scores, relative
from onnxcam.types import Masks, Score, Scores

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


class Probe:
    """Scores of masks that are their numbers: float32's, and 1.25 times that in the lower precision."""

    def __init__(self, exact: Scores, *, reduced: bool = True) -> None:
        self.exact, self.reduced, self.passes = exact, reduced, 0

    def score(self, masks: Masks, score: Score) -> Scores:
        return self.exact[masks.ravel().astype(int)] * np.float32(1.25 if self.reduced else 1)

    def score_in_float32(self, masks: Masks, score: Score) -> Scores:
        self.passes += len(masks)
        return self.exact[masks.ravel().astype(int)]


MASKS = np.arange(500, dtype=np.float32).reshape(-1, 1, 1, 1)
EXACT = RNG.random((500, 1), np.float32)


def test_scores_that_were_computed_in_float32_are_kept() -> None:
    probe = Probe(EXACT)
    rounded = first_scores(probe, MASKS, Score.PROBABILITY)  # type: ignore[arg-type]
    exact = rounded.rounding.in_float32
    assert probe.passes == exact.sum() == len(np.unique(choose(EXACT)))
    np.testing.assert_array_equal(rounded.scores[exact], EXACT[exact])
    np.testing.assert_array_equal(rounded.scores[~exact], EXACT[~exact] * np.float32(1.25))
    assert rounded.rounding.relative == pytest.approx([0.2], rel=1e-5)


def test_a_mask_is_scored_in_float32_once() -> None:
    probe = Probe(EXACT)
    first = first_scores(probe, MASKS, Score.PROBABILITY)  # type: ignore[arg-type]
    every = first.in_float32(probe, MASKS, np.arange(500), Score.PROBABILITY)  # type: ignore[arg-type]
    assert probe.passes == 500
    np.testing.assert_array_equal(every.scores, EXACT)
    assert every.rounding.is_none
    assert not first.rounding.is_none
    assert every.in_float32(probe, MASKS, np.arange(9), Score.PROBABILITY) is every  # type: ignore[arg-type]


def test_further_masks_are_scored_in_float32_once_all_others_are() -> None:
    probe = Probe(EXACT)
    first = first_scores(probe, MASKS[:100], Score.PROBABILITY)  # type: ignore[arg-type]
    mended = first.in_float32(probe, MASKS[:100], np.arange(100), Score.PROBABILITY)  # type: ignore[arg-type]
    for so_far, factor in ((first, 1.25), (mended, 1.0)):
        both = so_far.with_more(probe, MASKS[100:], Score.PROBABILITY)  # type: ignore[arg-type]
        np.testing.assert_array_equal(both.scores[:100], so_far.scores)
        np.testing.assert_array_equal(both.scores[100:], EXACT[100:] * np.float32(factor))
        assert both.rounding.is_none == (factor == 1)


def test_float32_needs_no_second_scores() -> None:
    probe = Probe(EXACT, reduced=False)
    rounded = first_scores(probe, MASKS[:100], Score.PROBABILITY)  # type: ignore[arg-type]
    rounded = rounded.with_more(probe, MASKS[100:], Score.PROBABILITY)  # type: ignore[arg-type]
    np.testing.assert_array_equal(rounded.scores, EXACT)
    assert rounded.rounding.is_none
    assert probe.passes == 0


def test_what_was_not_scored_is_rounded_as_what_it_follows_from() -> None:
    rounding = Rounding(np.asarray([True, False]), np.asarray([0.1]))
    assert rounding.of_all(4, np.asarray([2, 0])).in_float32.tolist() == [False, False, True, False]
    assert Rounding(np.ones(2, bool), np.asarray([0.1])).of_all(4, np.asarray([2, 0])).is_none
