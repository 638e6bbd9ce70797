"""RISE: random masks, each weighed by the class probability of the image seen through it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import ClassScore, FourBlocks, Method, Probe, ScoredMasks, Search
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import SAME, Outcome, as_maps, stretched, summed
from onnxcam.methods.options import non_negative_integer, positive_integer, positive_number
from onnxcam.resampling import upsample
from onnxcam.types import Floats, MaskForm, Score

AT_ONCE = 32
"""Masks that are made at a time; they have the image's size."""


def rise(
    *, masks: int = 4000, cells: int = 7, probability: float = 0.5, seed: int = 0, fill: Fill | str = ZERO
) -> Method:
    """RISE (Petsiuk et al. 2018, arXiv:1806.07421, equation 6).

    masks: how many; the paper takes 4000 for VGG-16 and 8000 for ResNet-50. cells: a side of the random grid, which is
    enlarged by one cell and cropped at a random place. probability: of a cell to be kept. seed: of the masks.
    """
    explore = RandomMasks(
        positive_integer(masks, "masks"),
        positive_integer(cells, "cells"),
        positive_number(probability, "probability"),
        non_negative_integer(seed, "seed"),
    )
    if explore.probability >= 1:
        raise OptionError(f"probability must be below 1, not {probability!r}")
    fill = as_fill(fill)
    return Method(
        name="rise",
        paper="Petsiuk et al. 2018, arXiv:1806.07421",
        cost=f"{explore.count} forward passes",
        stream=FourBlocks(explore, ClassScore(Score.PROBABILITY), RunningMean(explore.probability)),
        needs=frozenset(),
        smallest_batch=AT_ONCE,
        perturb=fill,
        form=MaskForm(cell=1, normalised=False),
        options={
            "masks": explore.count,
            "cells": explore.cells,
            "probability": explore.probability,
            "seed": explore.seed,
            "fill": fill.name,
        },
    )


@dataclass(frozen=True)
class RandomMasks:
    """Explorer: binary grids, enlarged to (cells + 1) times a cell's pixels and cropped at a random shift.

    Raises OptionError where there are more cells than pixels along a side of the image.
    """

    count: int
    cells: int
    probability: float
    seed: int

    def __call__(self, probe: Probe) -> Search:
        probe.expect(self.count)
        large = self.large(probe.size)
        for grids, shifts in self.draws(probe.size):
            enlarged = upsample(grids.astype(np.float32), large)
            yield np.stack([_cropped(m, s, probe.size) for m, s in zip(enlarged, shifts, strict=True)])[:, None]

    def large(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Sides of an enlarged mask of images of this size, one cell longer than the image."""
        return tuple((self.cells + 1) * pixels for pixels in self._cell_size(size))

    def draws(self, size: tuple[int, ...]) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
        """AT_ONCE by AT_ONCE: the cells that are kept (n,*cells), and where the enlarged mask is cropped (n,sides)."""
        rng = np.random.default_rng(self.seed)
        if self.cells > min(size):
            raise OptionError(f"cells must be at most the picture's shorter side ({min(size)}), not {self.cells}")
        pixels = self._cell_size(size)
        for start in range(0, self.count, AT_ONCE):
            now = min(AT_ONCE, self.count - start)
            kept = rng.random((now, *[self.cells] * len(pixels))) < self.probability
            yield kept, rng.integers(0, pixels, (now, len(pixels)))

    def _cell_size(self, size: tuple[int, ...]) -> list[int]:
        return [-(-side // self.cells) for side in size]


def _cropped(mask: Floats, shift: npt.NDArray[np.int64], size: tuple[int, ...]) -> Floats:
    return mask[tuple(slice(s, s + side) for s, side in zip(shift.tolist(), size, strict=True))]


@dataclass(frozen=True)
class RunningMean:
    """Aggregator: sum(score * mask) / (count * probability) over the masks so far, a map after each part of them.

    Maps are given as soon as every target's scores differ. Raises UndefinedSaliency where they never do, and on scores
    that are NaN or infinite.
    """

    probability: float

    def __call__(self, scored: ScoredMasks, probe: Probe) -> Iterator[list[Outcome]]:
        total, count = np.zeros((probe.targets, *probe.size)), 0
        low, high = np.full(probe.targets, np.inf), np.full(probe.targets, -np.inf)
        differ = False
        for masks, scores in scored:
            low, high = np.minimum(low, scores.min(axis=0)), np.maximum(high, scores.max(axis=0))
            if not np.isfinite(scores).all():
                raise UndefinedSaliency("the model's scores hold NaN or infinity on the masked pictures")
            total += summed(as_maps(masks), scores.astype(np.float64))
            count += len(masks)
            differ = not (high - low <= SAME * np.maximum(np.abs(low), np.abs(high))).any()
            if differ:
                raw = (total / (count * self.probability)).astype(np.float32)
                yield [Outcome(stretched(r), r) for r in raw]
        if not differ:
            raise UndefinedSaliency("every mask scores the same: the score does not depend on what the masks remove")
