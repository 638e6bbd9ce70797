"""Opti-CAM's search, step by step: what it climbs, where it starts, when it stops, what it keeps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tiny import (  # fmt: skip
    GRID,
    IMAGE,
    SIZE,
    TARGET,
    Array,
    Net,
    Watched,
    adam,
    enlarge,
    explained,
    finite,
    model,
    probe,
    softmax,
    stretch,
    watched_adam,
)

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import run
from onnxcam.methods.maps import Outcome
from onnxcam.methods.opti_cam import opti_cam
from onnxcam.types import Score

NET = Net(model())
CONVENTIONS = ("constructive", "destructive")


class Climb(Watched):
    """A probe that remembers each step's scores too."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.scores: list[Array] = []

    def score_gradient(self, maps: Array, targets: Array, score: Score, shift: Any = None) -> tuple[Array, Array]:
        scored = super().score_gradient(maps, targets, score, shift)
        self.scores.append(scored[0])
        return scored


def climbed(targets: tuple[int, ...] = (TARGET,), **options: Any) -> tuple[list[Outcome], Climb]:
    method = opti_cam(**options)
    climb = Climb(probe(model(), method, targets=targets))
    return run(method, climb), climb


def through(mask: Array, convention: str = "constructive", target: int = TARGET) -> float:
    """The logit of the picture seen through a map (4,3), or with it removed."""
    large = stretch(enlarge(mask))
    return float(NET.logits((IMAGE * (large if convention == "constructive" else 1 - large))[None])[0, target])


@pytest.fixture
def adam_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Array, Array]]:
    """(u, the slope passed to Adam) of every step."""
    return watched_adam(monkeypatch)


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_slope_is_that_of_the_objective_by_finite_differences(
    adam_steps: list[tuple[Array, Array]], convention: str, score: Score
) -> None:
    """The objective as the forward-only scoring graph measures it: single precision, so a large nudge."""
    _, climb = climbed(convention=convention, score=score, max_iter=3, nb_premises_at_startup=2)
    sign = 1 if convention == "constructive" else -1

    def objective(u: Array) -> Array:
        masks = np.tensordot(softmax(u), climb.features, 1)[:, None]
        return sign * climb.score((sign * masks).astype(np.float32), score)[:, 0].astype(np.float64)

    assert len(adam_steps) == 3
    for u, slope in adam_steps:
        for row in range(2):
            expected = -finite(objective, u[row], 1e-3)
            np.testing.assert_allclose(slope[row], expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("options", [{}, {"score": "probability", "bounds": (0, 1)}, {"lr": 0.05, "bounds": (0.5, 2)}])
def test_the_whole_search_is_that_of_a_plain_loop(convention: str, options: dict[str, Any]) -> None:
    """As the paper has it; as MUPPET does, clamped; and from a start that the bounds move."""
    (outcome,), _ = climbed(convention=convention, max_iter=20, **options)
    features, low, high = NET.features(IMAGE[None])[0], *options.get("bounds", (-np.inf, np.inf))
    answer = NET.probabilities if "score" in options else NET.logits
    builds = convention == "constructive"

    def objective(u: Array) -> Array:
        large = stretch(enlarge(np.tensordot(softmax(u), features, 1)))[:, None]
        return answer(IMAGE * (large if builds else 1 - large))[:, TARGET] * (1 if builds else -1)

    start = np.full(8, np.clip(0, low, high))
    walk = adam(lambda u: -finite(objective, u), start, options.get("lr", 0.2), lambda u: np.clip(u, low, high))
    places = np.stack([next(walk) for _ in range(21)])
    expected = np.tensordot(softmax(places[objective(places).argmax()]), features, 1)
    np.testing.assert_allclose(outcome.map, stretch(enlarge(expected)), atol=1e-5)


def test_the_score_of_the_masked_picture_rises_along_the_search() -> None:
    (outcome,), climb = climbed()
    trace = np.concatenate(climb.scores)
    assert len(trace) == 101
    assert trace[-1] > trace[10] > trace[0] + 0.1
    assert through(outcome.raw) == pytest.approx(trace.max(), abs=1e-4)


def test_destructive_lowers_the_score_of_the_picture_without_the_mask() -> None:
    (outcome,), climb = climbed(convention="destructive")
    trace = np.concatenate(climb.scores)
    uniform = NET.features(IMAGE[None])[0].mean(axis=0)
    assert trace[0] == pytest.approx(through(uniform, "destructive"), abs=1e-4)
    assert through(outcome.raw, "destructive") == pytest.approx(trace.min(), abs=1e-4)
    assert trace.min() < trace[0] - 0.1
    (built,), _ = climbed()
    assert through(outcome.raw, "destructive") < through(built.raw, "destructive")


def test_what_normalising_cannot_see_moves_no_weight(adam_steps: list[tuple[Array, Array]]) -> None:
    """n(S) is the same for S shifted or scaled: a constant map has no slope, and all slopes sum to nothing.

    The probe's own slope, which knows no n(), has parts of both kinds.
    """
    seen = Scripted([[1.0], [2.0], [3.0]])
    seen.features[1] = 5
    run(opti_cam(max_iter=2), seen)
    assert len(adam_steps) == 2
    for _, slope in adam_steps:
        assert np.abs(slope[0, [0, 2]]).min() > 1e-3
        assert abs(slope[0, 1]) < 1e-9
        assert abs(slope.sum()) < 1e-9


def test_bounds_are_kept_and_reached(adam_steps: list[tuple[Array, Array]]) -> None:
    climbed(bounds=(-0.25, 0.5), max_iter=60, nb_premises_at_startup=3)
    seen = np.concatenate([u.ravel() for u, _ in adam_steps])
    assert (seen.min(), seen.max()) == (-0.25, 0.5)
    adam_steps.clear()
    climbed(max_iter=60)
    assert np.abs(adam_steps[-1][0]).max() > 0.5


def test_the_first_start_is_uniform_and_the_others_lie_within_the_bounds(adam_steps: list[tuple[Array, Array]]) -> None:
    climbed(nb_premises_at_startup=30, max_iter=1)
    climbed(nb_premises_at_startup=30, max_iter=1, bounds=(0, 3))
    for (starts, _), (low, high) in zip(adam_steps, ((-1, 1), (0, 3)), strict=True):
        assert not starts[0].any()
        assert low <= starts[1:].min() < low + 0.1 < high - 0.1 < starts[1:].max() <= high  # of 232 uniform numbers
        assert len(np.unique(starts, axis=0)) == 30


def test_the_best_of_all_starts_and_steps_wins() -> None:
    (outcome,), climb = climbed(nb_premises_at_startup=6, max_iter=8, lr=0.8)
    trace = np.stack(climb.scores)  # (9, 6)
    assert trace.shape == (9, 6)
    step, start = np.unravel_index(trace.argmax(), trace.shape)
    np.testing.assert_allclose(outcome.raw, climb.masks[step][start, 0], rtol=1e-6)
    assert through(outcome.raw) == pytest.approx(trace.max(), abs=1e-4)


def test_a_start_runs_as_it_would_alone() -> None:
    """Of seeds by which the uniform start wins, the map is the single start's; by others it is another."""
    (alone,), single = climbed(max_iter=5)
    won = []
    for seed in range(12):
        (several,), climb = climbed(max_iter=5, nb_premises_at_startup=2, seed=seed)
        trace = np.stack(climb.scores)
        np.testing.assert_allclose(trace[:, 0], np.concatenate(single.scores), atol=1e-5)
        won.append(bool(trace[:, 0].max() > trace[:, 1].max()))
        assert won[-1] == bool(np.allclose(several.map, alone.map, atol=1e-5))
    assert True in won
    assert False in won


@pytest.mark.parametrize("tolerance", [1e-10, 0.005, 0.02, 1e6])
def test_a_start_stops_when_its_score_moves_by_less_than_the_tolerance(tolerance: float) -> None:
    _, whole = climbed(tolerance=0, max_iter=40)
    full = np.concatenate(whole.scores).astype(np.float64)
    _, climb = climbed(tolerance=tolerance, max_iter=40)
    still = np.flatnonzero(np.abs(np.diff(full)) < tolerance)
    assert len(climb.scores) == (still[0] + 2 if len(still) else 41)
    np.testing.assert_allclose(np.concatenate(climb.scores), full[: len(climb.scores)], atol=1e-5)


def test_starts_that_stop_leave_the_others_running() -> None:
    (outcome,), climb = climbed(tolerance=0.01, nb_premises_at_startup=4, max_iter=60)
    running = [len(s) for s in climb.scores]
    assert running == sorted(running, reverse=True)
    assert running[0] == 4
    assert len(set(running)) > 2
    assert through(outcome.raw) == pytest.approx(max(s.max() for s in climb.scores), abs=1e-4)


class Scripted:
    """A probe whose scores are a script, a step an entry and a row a number; its gradient is all the same."""

    size, image = SIZE, IMAGE

    def __init__(
        self, script: Sequence[Sequence[float]], slope: float | Sequence[float] = 1.0, targets: int = 1
    ) -> None:
        self.script, self.targets = list(script), targets
        self.slope = np.broadcast_to(np.float32(slope), targets).reshape(-1, 1, 1, 1)
        self.features = np.random.default_rng(0).random((3, *GRID), np.float32)
        self.masks: list[Array] = []

    def expect(self, passes: int) -> None:
        pass

    def score_gradient(self, maps: Array, targets: Array, score: Score, shift: Any = None) -> tuple[Array, Array]:
        self.masks.append(maps)
        pattern = np.random.default_rng(1).standard_normal((1, 1, *GRID)).astype(np.float32)
        return np.asarray(self.script.pop(0), np.float32), self.slope[targets] * pattern


@pytest.mark.parametrize(("first", "slope"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)])
def test_a_first_score_or_slope_that_is_no_number_is_an_error(first: float, slope: float) -> None:
    with pytest.raises(UndefinedSaliency, match="NaN or infinite"):
        run(opti_cam(), Scripted([[first]], slope))


def test_a_later_score_that_is_no_number_ends_the_start_with_its_best_so_far() -> None:
    seen = Scripted([[1.0], [3.0], [2.0], [np.nan]])
    (outcome,) = run(opti_cam(), seen)
    np.testing.assert_allclose(outcome.raw, seen.masks[1][0, 0])
    (note,) = outcome.notes
    assert "no longer a number at step 3" in note.text


def test_a_start_that_breaks_does_not_stop_the_others() -> None:
    seen = Scripted([[1.0, 2.0], [2.0, np.nan], [5.0], [4.0]])
    (outcome,) = run(opti_cam(nb_premises_at_startup=2, max_iter=3), seen)
    assert [len(m) for m in seen.masks] == [2, 2, 1, 1]
    np.testing.assert_allclose(outcome.raw, seen.masks[2][0, 0])
    assert "step 1" in outcome.notes[0].text


def test_a_slope_of_zero_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(UndefinedSaliency, match="try the logit"):
        run(opti_cam(), Scripted([[1.0]], 0.0))


def test_one_target_without_a_slope_is_an_error_beside_others_that_have_one() -> None:
    """As it is alone: its map would be the uniform one, which says nothing about it."""
    with pytest.raises(UndefinedSaliency, match="gradient of the score is zero"):
        run(opti_cam(), Scripted([[1.0, 1.0], [2.0, 1.0], [3.0]], [1.0, 0.0], targets=2))


def test_features_that_are_constant_or_overflow_are_errors() -> None:
    for features, message in ((np.ones((3, *GRID)), "constant over space"), (np.full((3, *GRID), np.nan), "NaN")):
        seen = Scripted([])
        seen.features = features.astype(np.float32)
        with pytest.raises(UndefinedSaliency, match=message):
            run(opti_cam(), seen)


def test_bounds_and_conventions_that_make_no_sense_say_so() -> None:
    with pytest.raises(OptionError, match=r"the lower one first, not \(1, 0\)"):
        opti_cam(bounds=(1, 0))
    with pytest.raises(OptionError, match="did you mean logit"):
        opti_cam(score="logits")


def test_the_recorded_options_make_the_map_again() -> None:
    (saliency,) = explained(model(), opti_cam(max_iter=4, nb_premises_at_startup=2, seed=3))
    options = saliency.provenance.options
    again = opti_cam(
        convention=options["convention"], score=options["score"], max_iter=options["max_iter"], lr=options["lr"],
        nb_premises_at_startup=options["nb_premises_at_startup"], seed=options["seed"],
        tolerance=options["tolerance"], epsilon=options["epsilon"],
    )  # fmt: skip
    np.testing.assert_array_equal(explained(model(), again)[0].map, saliency.map)
