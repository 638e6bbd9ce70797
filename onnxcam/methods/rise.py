"""RISE: random masks, each weighed by what the model gives the picture through it."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import (
    Convention,
    Explored,
    Method,
    Probe,
    Search,
    class_score,
    four_blocks,
    positive,
    whole,
)
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import SAME, Outcome, flat, stretched, summed
from onnxcam.resampling import upsample
from onnxcam.types import Floats, MaskForm, Score

AT_ONCE = 32
"""Masks that are made at a time; they have the picture's size."""


def rise(
    *, masks: int = 4000, cells: int = 7, probability: float = 0.5, seed: int = 0, fill: Fill | str = ZERO
) -> Method:
    """RISE (Petsiuk et al. 2018, arXiv:1806.07421, equation 6).

    masks: how many; the paper takes 4000 for VGG-16 and 8000 for ResNet-50. cells: a side of the random grid, which is
    enlarged by one cell and cropped at a random place. probability: of a cell to be kept. seed: of the masks.
    """
    masks, cells, seed = whole(masks, "masks"), whole(cells, "cells"), whole(seed, "seed", 0)
    if positive(probability, "probability") >= 1:
        raise OptionError(f"probability must be below 1, not {probability!r}")
    return Method(
        name="rise",
        paper="Petsiuk et al. 2018, arXiv:1806.07421",
        cost=f"{masks} forward passes",
        stream=four_blocks(
            random_masks(masks, cells, probability, seed),
            class_score(Score.PROBABILITY, Convention.CONSTRUCTIVE),
            running_mean(probability),
        ),
        needs=frozenset(),
        asks=AT_ONCE,
        perturb=as_fill(fill),
        form=MaskForm(cell=1, normalised=False),
        options={"masks": f"{masks}", "cells": f"{cells}", "probability": f"{probability:g}", "seed": f"{seed}"},
    )


def random_masks(count: int, cells: int, probability: float, seed: int) -> Callable[[Probe], Search]:
    """Explorer: binary grids, enlarged to (cells + 1) times a cell's pixels and cropped at a random shift."""

    def explore(probe: Probe) -> Search:
        probe.expect(count)
        rng = np.random.default_rng(seed)
        if cells > min(probe.size):
            raise OptionError(f"cells must be at most the picture's shorter side ({min(probe.size)}), not {cells}")
        pixels = [-(-side // cells) for side in probe.size]
        large = tuple((cells + 1) * p for p in pixels)
        for start in range(0, count, AT_ONCE):
            now = min(AT_ONCE, count - start)
            grids = (rng.random((now, *[cells] * len(pixels))) < probability).astype(np.float32)
            shifts = rng.integers(0, pixels, (now, len(pixels)))
            enlarged = upsample(grids, large)
            yield np.stack([_cropped(m, s, probe.size) for m, s in zip(enlarged, shifts, strict=True)])[:, None]

    return explore


def _cropped(mask: Floats, shift: npt.NDArray[np.int64], size: tuple[int, ...]) -> Floats:
    return mask[tuple(slice(s, s + side) for s, side in zip(shift.tolist(), size, strict=True))]


def running_mean(probability: float) -> Callable[[Explored, Probe], Iterator[list[Outcome]]]:
    """Aggregator: sum(score * mask) / (count * probability) over the masks so far, kept as a running sum."""

    def aggregate(explored: Explored, probe: Probe) -> Iterator[list[Outcome]]:
        total, count = np.zeros((probe.targets, *probe.size)), 0
        low, high = np.full(probe.targets, np.inf), np.full(probe.targets, -np.inf)
        differ = False
        for masks, scores in explored:
            low, high = np.minimum(low, scores.min(axis=0)), np.maximum(high, scores.max(axis=0))
            if not np.isfinite(scores).all():
                raise UndefinedSaliency("the model's scores hold NaN or infinity on the masked pictures")
            total += summed(flat(masks), scores.astype(np.float64))
            count += len(masks)
            differ = not (high - low <= SAME * np.maximum(np.abs(low), np.abs(high))).any()
            if differ:
                raw = (total / (count * probability)).astype(np.float32)
                yield [Outcome(stretched(r), r) for r in raw]
        if not differ:
            raise UndefinedSaliency("every mask scores the same: the score does not depend on what the masks remove")

    return aggregate
