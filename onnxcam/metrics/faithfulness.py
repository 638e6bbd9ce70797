"""Faithfulness correlation (muFidelity): whether the map's sum over removed parts follows the score's drop."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.limits import brief, is_whole
from onnxcam.metrics.arguments import (
    NOT_FINITE,
    ROUNDING,
    fitting_map,
    known_protocol,
    known_seed,
    numbers_of,
    single_target,
)
from onnxcam.metrics.correlation import spearman
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.ranking import is_constant
from onnxcam.types import Doubles, Floats, Indices, Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

Bools = npt.NDArray[np.bool_]

CORRELATION_PROTOCOLS = ("fixed", "independent")
"""fixed: every subset removes as many cells, 16 of 81, as Bhatt et al. define it.

independent: each cell goes with probability 0.2, as in Xplique's code. The subsets then differ in size, and larger ones
both drop more and sum to more, so that any positive map correlates, even one drawn at random.
"""
CONSTANT = "the map is constant, so it ranks no subset above another"
ALIKE = "all subsets score alike up to float32's rounding, or the map sums to the same over all of them"
SAMPLES, REMOVED, MOST_SAMPLES = 200, 0.2, 10**6
CELLS = {1: 81, 2: 9, 3: 9}
"""Cells along each side, by the number of sides."""


def faithfulness_correlation(
    scorer: "Scorer",
    saliency_map: npt.ArrayLike,
    *,
    protocol: str = "fixed",
    samples: int = SAMPLES,
    removed: float = REMOVED,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """Spearman of the score's drop and the map's sum over random subsets, in [-1,1]; higher is better.

    Bhatt et al. 2020 (arXiv:2005.00631), with the grid of Xplique's muFidelity. A subset is some cells of a 9x9 grid,
    set to zero in the preprocessed image. protocol: 'fixed' removes `removed` of the cells each time, 'independent'
    each cell with that probability. saliency_map: of the image's sides, any range. None where the map is constant,
    where all subsets score or sum alike, and where a score is not finite. Raises OptionError for a map that does not
    fit, a Scorer of several targets, and options that make no sense.
    """
    single_target(scorer)
    known_protocol("faithfulness_correlation", protocol, CORRELATION_PROTOCOLS)
    numbers = fitting_map(saliency_map, scorer)
    (removed,) = numbers_of("removed", [removed])
    if not is_whole(samples, 2) or samples > MOST_SAMPLES or not 0 < removed < 1:
        raise OptionError(
            f"it takes 2 to {MOST_SAMPLES} samples and removes a part between 0 and 1, not {brief(samples)} and "
            f"{removed}"
        )
    options = {"samples": int(samples), "removed": removed, "seed": known_seed(seed)}
    name = "faithfulness_correlation"
    if is_constant(numbers):
        return Measurement(name, None, protocol, CONSTANT, options=options)
    cells = cell_of_each_pixel(scorer.size)
    subsets = drawn_subsets(int(cells.max()) + 1, samples, removed, seed, exactly=protocol == "fixed")

    def rows(chunk: Indices) -> Floats:
        return np.where(subsets[chunk][:, cells][:, None], np.float32(0), scorer.image)

    key = (name, protocol, samples, removed, seed)
    subset_scores = scorer.of_the_picture(key, lambda: scorer.images(rows, count=samples, progress=progress))
    scores = subset_scores[:, 0].astype(np.float64)
    if not np.isfinite(scores).all():
        return Measurement(name, None, protocol, NOT_FINITE, options=options, passes=samples)
    varies = float(np.ptp(scores)) > ROUNDING * float(np.abs(scores).max())
    value = spearman(scorer.whole[0] - scores, subset_sums(numbers, cells, subsets)) if varies else None
    reason = ALIKE if value is None else None
    return Measurement(name, value, protocol, reason, options=options, passes=samples)


def cell_of_each_pixel(size: tuple[int, ...]) -> Indices:
    """(*size) the number of the grid's cell that holds each pixel's centre; a side has no more cells than pixels."""
    cells = np.zeros((), np.int64)
    for side in size:
        along = min(CELLS[len(size)], side)
        cells = np.add.outer(cells * along, ((np.arange(side) + 0.5) * along / side).astype(np.int64))
    return cells


def drawn_subsets(cells: int, samples: int, removed: float, seed: int, *, exactly: bool) -> Bools:
    """(samples,cells) which cells each subset removes: floor(cells * removed) of them, or each with that chance."""
    draws = np.random.default_rng(seed).random((samples, cells))
    if not exactly:
        return np.asarray(draws <= removed)
    places = draws.argsort(axis=1).argsort(axis=1)
    return np.asarray(places < max(1, math.floor(cells * removed)))


def subset_sums(saliency_map: Doubles, cells: Indices, subsets: Bools) -> Doubles:
    """(samples,) the map's sum over each subset. Summed exactly, so that equal sums are ties whatever their order."""
    sums = np.bincount(cells.ravel(), saliency_map.ravel(), minlength=subsets.shape[1])
    return np.array([math.fsum(sums[subset]) for subset in subsets])
