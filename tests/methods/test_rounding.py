"""The bound of a map whose masked scores are computed in a lower precision, on probes made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnxcam import opti_cam, score_cam
from onnxcam.engine.options import EngineOptions
from onnxcam.errors import OptionError
from onnxcam.explainer.heads import check_precision
from onnxcam.methods import METHODS, method, reducible
from onnxcam.methods.blocks import ClassScore, Convention, FeatureMaps, FourBlocks, WeightedSum, run
from onnxcam.methods.estimate.quadrature import normalised
from onnxcam.methods.estimate.rounded_scores import RoundedScores, Rounding
from onnxcam.methods.estimate.rounding import (
    FACTOR,
    LIMIT,
    RUN,
    choose_for_float32,
    deviations,
    influence,
    widened,
)
from onnxcam.methods.maps import Outcome
from onnxcam.types import Floats, Masks, NoteCode, Score, Scores

MAPS = np.random.default_rng(0).random((40, 5, 5)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).random((40, 2))
OUTCOME = Outcome(MAPS[0], MAPS[0])
BF16 = EngineOptions(precision="bf16")


def rounding(*relative: float, in_float32: Sequence[int] = ()) -> Rounding:
    chosen = np.zeros(len(MAPS), bool)
    chosen[list(in_float32)] = True
    return Rounding(chosen, np.asarray(relative))


def test_both_errors_are_squared_and_added() -> None:
    off = rounding(0.001, 0.02)
    estimated = replace(OUTCOME, error=0.03, estimated=4)
    exact, bound = widened([OUTCOME, estimated], MAPS, WEIGHTS, off)
    first, second = deviations(MAPS, WEIGHTS, off)
    assert exact.error == pytest.approx(first)
    assert bound.error == pytest.approx(np.sqrt(0.03**2 + second**2))
    assert 0 < first < second


def test_full_precision_leaves_outcomes_as_they_are() -> None:
    outcomes = [OUTCOME, replace(OUTCOME, error=0.03)]
    assert widened(outcomes, MAPS, WEIGHTS, rounding(0.1, 0.1, in_float32=range(40))) == outcomes


def test_an_unknown_error_stays_unknown_and_so_does_that_of_a_map_on_the_way() -> None:
    unknown = [replace(OUTCOME, estimated=3), replace(OUTCOME, left=3)]
    assert [o.error for o in widened(unknown, MAPS, WEIGHTS, rounding(0.1, 0.1))] == [None, None]


def test_influence_by_hand() -> None:
    """Of two maps with one cell each, of three cells: raw is (a, b, 0), and n is (1, b/a, 0)."""
    maps = np.zeros((2, 3, 1), np.float32)
    maps[0, 0], maps[1, 1] = 1, 1
    moved = influence(maps, np.asarray([[1.0, 0.5], [0.5, 1.0]]))
    np.testing.assert_allclose(moved, np.full((2, 2), 0.5 / np.sqrt(3)))  # either weight changes b/a by its half


@pytest.mark.parametrize("sign", [1, -1], ids=["rectified", "un-rectified"])
def test_influence_is_how_far_the_map_moves(sign: int) -> None:
    maps = sign * (MAPS - np.float32(0.5 if sign > 0 else 0))
    base = normalised((WEIGHTS[:, 0] @ maps.reshape(40, -1))[None].reshape(1, 5, 5))
    for mask, moved in enumerate(influence(maps, WEIGHTS[:, :1])[:, 0]):
        weights = WEIGHTS[:, 0].copy()
        weights[mask] *= 1 + 1e-6
        other = normalised((weights @ maps.reshape(40, -1))[None].reshape(1, 5, 5))
        assert np.sqrt(np.square(other - base).mean()) == pytest.approx(1e-6 * moved, rel=1e-3)


def test_the_deviation_is_that_of_scores_that_are_off_at_random_and_none_of_float32s() -> None:
    moved = influence(MAPS, WEIGHTS)
    off = deviations(MAPS, WEIGHTS, rounding(1e-3, 2e-3, in_float32=[3, 4]))
    rest = np.delete(moved, [3, 4], axis=0)
    np.testing.assert_allclose(off, FACTOR * np.asarray([1e-3, 2e-3]) * np.linalg.norm(rest, axis=0))
    draws = 1 + 1e-3 * np.random.default_rng(0).standard_normal((4000, 40))
    flat = MAPS.reshape(40, -1).astype(np.float64)
    drawn, base = normalised((draws * WEIGHTS[:, 0]) @ flat), normalised(WEIGHTS[None, :, 0] @ flat)
    (single, _) = deviations(MAPS, WEIGHTS, rounding(1e-3, 1e-3))
    assert single == pytest.approx(FACTOR * np.sqrt(np.square(drawn - base).mean()), rel=0.03)


def test_a_bound_ends_at_one() -> None:
    assert deviations(MAPS, WEIGHTS, rounding(1e9, 1e9)) == [1.0, 1.0]


def test_a_factor_of_all_scores_changes_nothing() -> None:
    np.testing.assert_allclose(
        deviations(MAPS, 7 * WEIGHTS, rounding(0.1, 0.1)), deviations(MAPS, WEIGHTS, rounding(0.1, 0.1)), 1e-5
    )


@pytest.mark.parametrize("share", [0.015, 0.02, 0.03])
def test_the_fewest_whole_runs_are_in_float32_that_keep_every_map_within_the_limit(share: float) -> None:
    maps = np.random.default_rng(2).random((400, 5, 5)).astype(np.float32)
    maps[:100] *= 8
    weights = np.random.default_rng(3).random((400, 2)).astype(np.float32)
    off = Rounding(np.zeros(400, bool), np.asarray([share, 0.3 * share]))
    assert max(deviations(maps, weights, off)) > LIMIT
    chosen = choose_for_float32(maps, RoundedScores(weights, off))
    assert len(chosen) % RUN == 0
    assert 0 < len(chosen) <= 200
    within, one_less = (
        max(deviations(maps, weights, replace(off, in_float32=np.isin(np.arange(400), some))))
        for some in (chosen, chosen[:-RUN])
    )
    assert within <= LIMIT < one_less


def test_nothing_is_scored_again_within_the_limit_and_everything_from_half_on() -> None:
    scores = WEIGHTS.astype(np.float32)
    assert len(choose_for_float32(MAPS, RoundedScores(scores, rounding(1e-5, 1e-5)))) == 0
    every = choose_for_float32(MAPS, RoundedScores(scores, rounding(0.5, 1e-5, in_float32=[7])))
    assert sorted(every) == [i for i in range(40) if i != 7]


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


class RoundedProbe:
    """A probe of random maps whose scores in the lower precision are off by random shares."""

    device_features, reduced, targets = None, True, 1

    def __init__(self, share: float, count: int = 200) -> None:
        rng = np.random.default_rng(5)
        self.features = rng.random((count, 5, 4), np.float32)
        self.size = (10, 8)
        self.exact = (0.1 + 0.8 * self.features[:, 2, 1] ** 2).astype(np.float32)
        self.rounded = (self.exact * (1 + share * rng.standard_normal(count))).astype(np.float32)
        self.passes = {"score": 0, "score_in_float32": 0}

    def expect(self, passes: int) -> None:
        pass

    def original(self, score: Score) -> Floats:
        return np.full(1, 0.9, np.float32)

    def _looked_up(self, scores: Floats, masks: Masks) -> Scores:
        indices = [np.flatnonzero((self.features == mask[0]).all(axis=(1, 2)))[0] for mask in masks]
        return scores[indices][:, None]

    def score(self, masks: Masks, score: Score) -> Scores:
        self.passes["score"] += len(masks)
        return self._looked_up(self.rounded if self.reduced else self.exact, masks)

    def score_in_float32(self, masks: Masks, score: Score) -> Scores:
        self.passes["score_in_float32"] += len(masks)
        return self._looked_up(self.exact, masks)


class FullProbe(RoundedProbe):
    reduced = False


def explained(probe: RoundedProbe, **options: Any) -> Outcome:
    return run(score_cam(**options), probe)[0]  # type: ignore[arg-type]


def codes(outcome: Outcome) -> list[NoteCode]:
    return [note.code for note in outcome.notes]


@pytest.mark.parametrize(("share", "says"), [(0.0, None), (1e-4, None), (0.05, "of 200 masks"), (0.3, "all masks")])
def test_an_exact_map_stays_within_the_limit_and_says_how(share: float, says: str | None) -> None:
    probe = RoundedProbe(share)
    made, exact = explained(probe), explained(FullProbe(share))
    assert probe.passes["score"] == 200
    if says == "all masks":
        assert made.error is None
        assert probe.passes["score_in_float32"] == 200
        np.testing.assert_array_equal(made.map, exact.map)
    else:
        assert made.error is not None
        assert np.sqrt(np.square(made.map - exact.map).mean()) <= made.error <= LIMIT
    assert codes(made) == ([] if says is None else [NoteCode.IN_FLOAT32])
    assert says is None or says in made.notes[0].text
    *_, (streamed,) = score_cam().stream(probe)  # type: ignore[arg-type, misc]
    np.testing.assert_allclose(streamed.map, made.map, atol=1e-6)
    assert streamed.error == (None if made.error is None else pytest.approx(made.error))
    assert codes(streamed) == codes(made)


def test_an_estimate_that_rounding_moves_too_far_goes_on_in_float32() -> None:
    probe = RoundedProbe(0.4)
    made, exact = explained(probe, tolerance=0.05), explained(FullProbe(0.4))
    assert codes(made) == [NoteCode.IN_FLOAT32]
    assert made.error is not None
    assert np.sqrt(np.square(made.map - exact.map).mean()) <= made.error <= 0.05  # of the estimate alone
    assert probe.passes["score"] < 40
    assert probe.passes["score_in_float32"] == made.channels


def test_an_estimate_that_rounding_hardly_moves_keeps_its_scores_and_holds_both_errors() -> None:
    probe = RoundedProbe(1e-3)
    made, full = explained(probe, budget=40), explained(FullProbe(1e-3), budget=40)
    assert codes(made) == []
    assert probe.passes == {"score": 40, "score_in_float32": 5}
    assert made.error is not None
    assert full.error is not None
    assert full.error * 0.9 < made.error < np.hypot(full.error, LIMIT) * 1.1


def test_all_masks_after_half_of_them_stay_within_the_limit_too() -> None:
    probe = RoundedProbe(0.04, 60)
    made, exact = explained(probe, tolerance=1e-4), explained(FullProbe(0.04, 60))
    assert codes(made) == [NoteCode.IN_FLOAT32, NoteCode.ALL_SCORED]
    assert made.error is not None
    assert np.sqrt(np.square(made.map - exact.map).mean()) <= made.error <= LIMIT
    assert probe.passes["score"] == 60


def test_all_masks_after_float32_are_exact() -> None:
    probe = RoundedProbe(0.4)
    made, exact = explained(probe, tolerance=0.01), explained(FullProbe(0.4))
    assert codes(made) == [NoteCode.IN_FLOAT32, NoteCode.ALL_SCORED]
    assert made.error is None
    np.testing.assert_allclose(made.map, exact.map, atol=1e-6)
    assert probe.passes["score_in_float32"] == 200


@pytest.mark.parametrize(
    ("attribute", "aggregate"),
    [
        (ClassScore(Score.LOGIT), WeightedSum()),
        (ClassScore(Score.PROBABILITY), WeightedSum(softmax=True)),
        (ClassScore(Score.PROBABILITY, Convention.DESTRUCTIVE), WeightedSum()),
        (lambda probe, masks: probe.score(masks, Score.PROBABILITY), WeightedSum()),
    ],
    ids=["other score", "softmax", "destructive", "own attributor"],
)
def test_blocks_whose_masks_cannot_be_scored_again_are_refused(attribute: Any, aggregate: WeightedSum) -> None:
    blocks = FourBlocks(FeatureMaps(), attribute, aggregate)
    with pytest.raises(OptionError, match="some masks are scored again in float32"):
        blocks(RoundedProbe(0.05))  # type: ignore[arg-type]


def test_blocks_of_the_logit_are_scored_again_by_the_logit() -> None:
    blocks = FourBlocks(FeatureMaps(), ClassScore(Score.LOGIT), WeightedSum(score=Score.LOGIT))
    (made,), (exact,) = blocks(RoundedProbe(0.3)), blocks(FullProbe(0.3))  # type: ignore[arg-type]
    np.testing.assert_allclose(made.map, exact.map, atol=1e-6)
