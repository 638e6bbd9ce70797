"""ROAD: remove the most and the least salient pixels and impute them, so that the removal itself shows little."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.metrics.arguments import NOT_FINITE, fitting_map, known_seed, numbers_of, single_target
from onnxcam.metrics.imputation import Bools, imputed
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.ranking import NO_ORDER, descending_ranks, is_constant
from onnxcam.types import Floats, Image, Indices, Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

PERCENTILES = (20, 40, 60, 80)
NOISE = 0.01


def road(
    scorer: "Scorer",
    saliency_map: npt.ArrayLike,
    *,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = NOISE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """ROAD combined: the mean of (LeRF - MoRF) / 2 over percentiles; higher is better (Rong 2022, arXiv:2202.00449).

    In [-0.5,0.5] for a probability. At percentile q, 100 - q % of the pixels are removed, the most salient first (MoRF)
    or the least salient (LeRF), and become the weighted mean of their neighbours plus Gaussian noise. Both remove
    exactly as many; equal pixels count in raster order. saliency_map: of the image's sides, any range. noise: its
    deviation, in units of the preprocessed image. curve: (fraction removed, (LeRF - MoRF) / 2), the value is the mean
    of the latter. None for a constant map, which has no order, and where a score is not finite. Raises OptionError for
    a map that does not fit, a Scorer of several targets, and options that make no sense.
    """
    single_target(scorer)
    numbers = fitting_map(saliency_map, scorer)
    chosen, noise = _checked(percentiles, noise)
    options = {"percentiles": chosen, "noise": noise, "seed": known_seed(seed)}
    if is_constant(numbers):
        return Measurement("road", None, reason=NO_ORDER, options=options)
    masks = kept_pixels(descending_ranks(numbers), chosen)

    def rows(chunk: Indices) -> Floats:
        return np.stack([_noisy(scorer.image, masks[row], noise, (seed, int(row))) for row in chunk])

    scores = scorer.images(rows, count=len(masks), progress=progress)[:, 0].astype(np.float64)
    if not np.isfinite(scores).all():
        return Measurement("road", None, reason=NOT_FINITE, options=options, passes=len(masks))
    most_first, least_first = np.split(scores, 2)
    halves = (least_first - most_first) / 2
    curve = np.stack([1 - masks[: len(chosen)].reshape(len(chosen), -1).mean(axis=1), halves], axis=1)[::-1]
    return Measurement(
        "road", float(halves.mean()), curve=np.asarray(curve, np.float32), options=options, passes=len(masks)
    )


def _checked(percentiles: Sequence[float], noise: float) -> tuple[tuple[float, ...], float]:
    """The percentiles in order, and the noise. Raises OptionError."""
    chosen = sorted(numbers_of("percentiles", percentiles))
    if not chosen or not all(0 < q < 100 for q in chosen):
        raise OptionError(f"percentiles lie between 0 and 100, not {tuple(chosen)}")
    (deviation,) = numbers_of("noise", [noise])
    if not 0 <= deviation < np.inf:
        raise OptionError(f"noise is a deviation of 0 or more, not {deviation}")
    return tuple(chosen), deviation


def kept_pixels(ranks: Indices, percentiles: Sequence[float]) -> Bools:
    """(2P,*size) the pixels that stay: at each percentile the least salient, then at each the most salient ones.

    ranks: (*size) from 0 for the most salient pixel. As many stay as lie below numpy's percentile where no two pixels
    are equal: ceil((n - 1) q / 100) of n.
    """
    counts = [ceil(Fraction(q) * (ranks.size - 1) / 100) for q in percentiles]
    return np.stack([ranks >= ranks.size - count for count in counts] + [ranks < count for count in counts])


def _noisy(image: Image, kept: Bools, noise: float, seed: tuple[int, int]) -> Image:
    draws = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.asarray(imputed(image, kept) + np.where(kept, 0, noise * draws), np.float32)
