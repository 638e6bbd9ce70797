"""Mask (meaningful perturbation): its objective, its jitter, and what it gives up on."""

from typing import Any

import cv2
import numpy as np
import pytest
from tiny import (
    GRID,
    IMAGE,
    SIZE,
    TARGET,
    Array,
    Net,
    Watched,
    adam,
    enlarge,
    finite,
    model,
    probe,
    stretch,
    watched_adam,
)

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import run
from onnxcam.methods.fills import MEAN, ZERO
from onnxcam.methods.mask import mask
from onnxcam.types import Score

NET = Net(model())
TRIED: list[dict[str, Any]] = [
    {"convention": "destructive", "area": 0.1, "variation": 0.0},
    {"convention": "destructive", "area": 0.0, "variation": 2.0, "beta": 1.5},
    {"convention": "constructive", "area": 0.1, "variation": 0.0},
    {"convention": "constructive", "area": 0.1, "variation": 2.0, "beta": 3.0},
]


def objective(m: Array, fill: Array, *, convention: str, area: float, variation: float, beta: float = 3.0) -> Array:
    """(N,) of masks (N,*cells), word for word."""
    large = enlarge(m)[:, None]
    score = NET.probabilities(IMAGE * large + fill * (1 - large))[:, TARGET]
    rough = sum(np.mean(np.abs(np.diff(m, axis=a)) ** beta, axis=(1, 2)) for a in (1, 2))
    if convention == "destructive":
        return score + area * (1 - m).mean(axis=(1, 2)) + variation * rough
    return -score + area * m.mean(axis=(1, 2)) + variation * rough


@pytest.fixture
def adam_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Array, Array]]:
    """(mask, the slope passed to Adam) of every step."""
    return watched_adam(monkeypatch)


@pytest.mark.parametrize("terms", TRIED)
def test_the_slope_of_score_area_and_variation_is_that_of_finite_differences(
    adam_steps: list[tuple[Array, Array]], terms: dict[str, Any]
) -> None:
    method = mask(max_iter=8, cell=4, jitter=0, fill=MEAN, **terms)
    original = probe(model(), method)
    run(method, original)
    assert len(adam_steps) == 8
    for m, slope in adam_steps[1::3]:
        expected = finite(lambda masks: objective(masks, original.fill, **terms), m[0])
        np.testing.assert_allclose(slope[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("terms", TRIED)
@pytest.mark.parametrize("jitter", [0, 3])
def test_the_whole_search_is_that_of_a_plain_loop(terms: dict[str, Any], jitter: int) -> None:
    """With jitter, picture, fill and mask are rolled by what the masks that were scored show."""
    method = mask(max_iter=12, cell=4, jitter=jitter, fill=MEAN, lr=0.05, **terms)
    rolls: list[tuple[int, ...]] = []

    class Rolled(Watched):
        def score_gradient(self, maps: Array, targets: Array, score: Score, shift: Any = None) -> tuple[Array, Array]:
            rolls.append(tuple(shift))
            return super().score_gradient(maps, targets, score, shift)

    seen = Rolled(probe(model(), method))
    (outcome,) = run(method, seen)
    assert len(rolls) == 12
    assert (len(set(rolls)) > 6) == (jitter > 0)
    assert np.abs(rolls).max() == jitter
    shifts = iter(rolls)

    def slope(m: Array) -> Array:
        roll = next(shifts)

        def rolled(masks: Array) -> Array:
            """The score alone: the penalties do not see the roll."""
            large = np.roll(enlarge(masks), roll, (1, 2))[:, None]
            picture, fill = (np.roll(a, roll, (1, 2)) for a in (IMAGE, seen.fill))
            score = NET.probabilities(picture * large + fill * (1 - large))[:, TARGET]
            return score if terms["convention"] == "destructive" else -score

        def penalties(masks: Array) -> Array:
            nothing = dict(terms, area=0.0, variation=0.0)
            return objective(masks, seen.fill, **terms) - objective(masks, seen.fill, **nothing)

        return finite(lambda masks: rolled(masks) + penalties(masks), m)

    start = np.full(GRID, 1.0 if terms["convention"] == "destructive" else 0.5)
    walk = adam(slope, start, 0.05, lambda m: np.clip(m, 0, 1))
    *_, last = (next(walk) for _ in range(13))
    shown = 1 - last if terms["convention"] == "destructive" else last
    np.testing.assert_allclose(outcome.raw, shown, atol=1e-4)
    np.testing.assert_allclose(outcome.map, stretch(enlarge(shown)), atol=1e-3)


def test_deletion_lowers_the_probability_and_preservation_raises_it() -> None:
    for convention, sign in (("destructive", -1), ("constructive", 1)):
        method = mask(max_iter=60, cell=4, jitter=0, fill=ZERO, convention=convention, variation=0.0)
        (outcome,) = run(method, probe(model(), method))
        keeps = 1 - outcome.raw if convention == "destructive" else outcome.raw
        before = np.full(SIZE, 1.0 if convention == "destructive" else 0.5)
        seen = NET.probabilities(IMAGE * np.stack([before, enlarge(keeps)])[:, None])[:, TARGET]
        assert sign * (seen[1] - seen[0]) > 0.3


def test_more_area_penalty_gives_a_smaller_region_and_more_variation_a_smoother_one() -> None:
    def learnt(**terms: float) -> Array:
        method = mask(max_iter=80, cell=4, jitter=0, fill=ZERO, **terms)
        return run(method, probe(model(), method))[0].raw

    assert learnt(area=0.3).mean() < learnt(area=0.01).mean() - 0.02
    rough = [np.abs(np.diff(learnt(variation=v), axis=0)).max() for v in (0.0, 5.0)]
    assert rough[1] < rough[0] / 2


def test_the_default_fill_is_the_picture_blurred_by_ten_pixels() -> None:
    method = mask()
    assert method.perturb.name == "blur(sigma=10)"
    expected = np.stack([cv2.GaussianBlur(c, (0, 0), 10) for c in IMAGE])
    np.testing.assert_allclose(probe(model(), method).fill, expected, atol=1e-6)


def test_without_jitter_the_seed_changes_nothing() -> None:
    maps = [run(m, probe(model(), m))[0].map for m in (mask(max_iter=5, jitter=0, seed=s) for s in (0, 1))]
    np.testing.assert_array_equal(*maps)


class Scripted:
    """A probe with one step's answer after another, for pictures of 16x12."""

    size = SIZE

    def __init__(self, scores: list[list[float]], slope: list[float]) -> None:
        self.scores, self.slope, self.targets = list(scores), np.asarray(slope, np.float32), len(slope)

    def expect(self, passes: int) -> None:
        pass

    def score_gradient(self, maps: Array, targets: Array, score: Score, shift: Any = None) -> tuple[Array, Array]:
        return np.asarray(self.scores.pop(0), np.float32), np.ones_like(maps) * self.slope[:, None, None, None]


def test_scores_that_are_no_number_are_an_error_at_any_step() -> None:
    for scores in ([[np.nan]], [[0.5], [0.5], [np.inf]]):
        with pytest.raises(UndefinedSaliency, match=f"no longer a number at step {len(scores) - 1}"):
            run(mask(), Scripted(scores, [1.0]))
    with pytest.raises(UndefinedSaliency, match="no longer a number at step 0"):
        run(mask(), Scripted([[0.5]], [np.nan]))


def test_a_target_whose_slope_is_zero_is_an_error_alone_and_beside_others() -> None:
    for slope in ([0.0], [1.0, 0.0]):
        with pytest.raises(UndefinedSaliency, match="without gradients such as rise"):
            run(mask(), Scripted([[0.5] * len(slope)] * 400, slope))
