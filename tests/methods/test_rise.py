"""RISE: what its masks are, what it sums, and that it keeps none of them."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from tiny import IMAGE, SIZE, TARGET, Array, Net, enlarge, model, probe, stretch

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import run
from onnxcam.methods.rise import AT_ONCE, RandomMasks, RunningMean, rise
from onnxcam.types import Score


class AnySize:
    """A probe of any size that gives each mask its mean, or what `answer` gives."""

    def __init__(self, size: tuple[int, ...], answer: Any = None, targets: int = 1) -> None:
        self.size, self.targets, self.answer, self.expected = size, targets, answer, 0
        self.lengths: list[int] = []
        self.total, self.count = np.zeros(size), 0

    def expect(self, passes: int) -> None:
        self.expected = passes

    def original(self, score: Score) -> Array:
        return np.ones(self.targets, np.float32)

    def score(self, masks: Array, score: Score) -> Array:
        assert score is Score.PROBABILITY
        self.lengths.append(len(masks))
        self.total += masks[:, 0].sum(axis=0, dtype=np.float64)
        scores = masks.mean(axis=tuple(range(1, masks.ndim)))[:, None] if self.answer is None else self.answer(masks)
        return np.repeat(scores, self.targets, axis=1).astype(np.float32)


def drawn(count: int, cells: int, probability: float, size: tuple[int, ...] = SIZE, seed: int = 0) -> Array:
    search = RandomMasks(count, cells, probability, seed)(AnySize(size))  # type: ignore[arg-type]
    parts = [next(search)]
    while sum(map(len, parts)) < count:
        parts.append(search.send(np.zeros((len(parts[-1]), 1), np.float32)))
    return np.concatenate(parts)[:, 0]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_every_pixel_is_kept_with_the_probability_that_was_asked_for(probability: float) -> None:
    masks = drawn(4000, 4, probability)
    assert (masks.min(), masks.max()) == (0, 1)
    # A pixel is a mean of up to four cells: its spread is that of one cell at the most.
    error = np.sqrt(probability * (1 - probability) / 4000)
    assert np.abs(masks.mean(axis=0) - probability).max() < 5 * error


@pytest.mark.parametrize("size", [(16, 12), (9,), (6, 8, 10)])
def test_every_mask_is_a_binary_grid_enlarged_and_cropped(size: tuple[int, ...]) -> None:
    """Of 3 cells a side: the grid and the crop are recovered by trying them all, and the crop wanders."""
    cells = 3
    pixels = [-(-side // cells) for side in size]
    large = tuple((cells + 1) * p for p in pixels)
    masks = drawn(12, cells, 0.5, size).reshape(12, -1).astype(np.float64)
    # What each cell gives to each pixel of the enlarged grid; the mask is a sum of a few of them, cropped.
    parts = enlarge(np.eye(cells ** len(size)).reshape(-1, *[cells] * len(size)), large).reshape(-1, *large)
    left = []
    for shift in np.ndindex(*pixels):
        crop = tuple(slice(s, s + side) for s, side in zip(shift, size, strict=True))
        basis = parts[(slice(None), *crop)].reshape(len(parts), -1).T
        grid = np.linalg.lstsq(basis, masks.T, rcond=None)[0].round()
        left.append(np.abs(basis @ grid - masks.T).max(axis=0))
    assert np.min(left, axis=0).max() < 1e-5
    assert len(set(np.argmin(left, axis=0))) >= min(6, len(left))


def test_the_map_is_the_sum_of_score_times_mask_over_count_times_probability() -> None:
    masks = drawn(70, 3, 0.25, seed=9).astype(np.float64)
    scores = Net(model()).probabilities(IMAGE * masks[:, None])[:, TARGET]
    expected = np.tensordot(scores, masks, 1) / (70 * 0.25)
    method = rise(masks=70, cells=3, probability=0.25, seed=9)
    (outcome,) = run(method, probe(model(), method))
    np.testing.assert_allclose(outcome.raw, expected, rtol=1e-4)
    np.testing.assert_allclose(outcome.map, stretch(expected), atol=1e-4)


def test_a_model_that_hardly_looks_has_the_same_mean_everywhere() -> None:
    """A score of about one for every mask: the map is the masks' mean over the probability, which is about one."""
    any_size = AnySize(SIZE, lambda masks: 1 + 1e-4 * masks[:, :, 3, 3])
    (outcome,) = run(rise(masks=3000, cells=4), any_size)  # type: ignore[arg-type]
    np.testing.assert_allclose(outcome.raw, any_size.total / 1500, rtol=2e-4)
    assert np.abs(outcome.raw - 1).max() < 0.1


def test_a_model_that_does_not_look_at_all_is_an_error() -> None:
    any_size = AnySize(SIZE, lambda masks: np.ones((len(masks), 1)))
    with pytest.raises(UndefinedSaliency, match="every mask scores the same"):
        run(rise(masks=40), any_size)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at most the picture's shorter side"):
        run(rise(masks=3, cells=13), any_size)  # type: ignore[arg-type]


def test_more_masks_bring_the_maps_of_two_seeds_together() -> None:
    def correlation(masks: int) -> float:
        methods = [rise(masks=masks, cells=4, seed=s) for s in (0, 1)]
        maps = [run(m, probe(model(), m))[0].map.ravel() for m in methods]
        return float(np.corrcoef(*maps)[0, 1])

    assert correlation(3000) > 0.95
    assert correlation(3000) > correlation(60)


def test_masks_come_a_few_at_a_time_and_memory_does_not_grow_with_their_number() -> None:
    def peak(count: int) -> int:
        any_size = AnySize((64, 64), lambda masks: masks[:, :, 3, 3])
        tracemalloc.start()
        run(rise(masks=count), any_size)  # type: ignore[arg-type]
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(any_size.lengths) == count == any_size.expected
        assert max(any_size.lengths) <= AT_ONCE
        return used

    peak(AT_ONCE)  # what is loaded at the first call
    assert peak(20 * AT_ONCE) < 1.2 * peak(2 * AT_ONCE)


def test_scores_that_are_no_number_are_an_error() -> None:
    for answer in (np.nan, np.inf):
        any_size = AnySize(SIZE, lambda masks, answer=answer: np.full((len(masks), 1), answer))
        with pytest.raises(UndefinedSaliency, match="scores hold NaN or infinity"):
            run(rise(masks=3), any_size)  # type: ignore[arg-type]


def test_the_running_sum_is_kept_for_each_target() -> None:
    masks = np.random.default_rng(0).random((6, 1, *SIZE), np.float32)
    scores = np.random.default_rng(1).random((6, 2), np.float32)
    explored = iter([(masks[:4], scores[:4]), (masks[4:], scores[4:])])
    streamed = list(RunningMean(0.5)(explored, AnySize(SIZE, targets=2)))  # type: ignore[arg-type]
    assert len(streamed) == 2
    for count, outcomes in zip((4, 6), streamed, strict=True):
        for t in range(2):
            expected = sum(scores[k, t] * masks[k, 0].astype(np.float64) for k in range(count)) / (count / 2)
            np.testing.assert_allclose(outcomes[t].raw, expected, rtol=1e-5)
