"""Average drop, increase and gain: how the target's score changes when the image is seen through the map.

p is the score of the whole image, o that of the masked one, both from the same graph. Each function gives the number of
one picture in percent; the number of a set is the mean over its pictures where it is defined.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from onnxcam.metrics.arguments import NOT_FINITE, ROUNDING, fitting_map, known_protocol, single_target, unit_map
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.ranking import NO_ORDER, descending_ranks, is_constant
from onnxcam.types import Doubles, Floats, Progress, Score

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

MASK_PROTOCOLS = ("mult", "half", "half-soft")
"""How the map becomes a mask.

mult: the image times the map (Opti-CAM, most tools). half: the floor(n / 2) pixels of n with the largest numbers are
kept as they are, the others become zero (the text of Score-CAM). half-soft: the image times the map on that half, zero
elsewhere.
"""
SMALLEST_P = 1e-12
"""Below it there is nothing to lose, so a drop is undefined."""
LARGEST_P = 1 - 1e-6
"""Above it there is nothing to gain, so a gain is undefined."""


def average_drop(
    scorer: "Scorer", saliency_map: npt.ArrayLike, *, protocol: str = "mult", progress: Progress | None = None
) -> Measurement:
    """Average drop: max(0, p - o) / p in percent, in [0,100]; lower is better (Grad-CAM++, arXiv:1710.11063).

    p is the target's probability on the image, o on what the map keeps of it. protocol: 'mult' keeps the preprocessed
    image times the map, 'half' the half of the pixels with the largest numbers, 'half-soft' these times the map.
    saliency_map: of the image's sides; in [0,1] where the protocol multiplies by it. None where p is below 1e-12, where
    the target's score is no probability, and for a constant map under a protocol that orders pixels. Raises OptionError
    for a map that does not fit, a Scorer of several targets, and an unknown protocol.
    """
    seen = _seen_through(scorer, saliency_map, "average_drop", protocol, progress)
    reason = seen.undefined or _no_probability(scorer, seen)
    if reason is None and seen.whole < SMALLEST_P:
        reason = "the target's probability is below 1e-12, so there is nothing to lose"
    value = None if reason is not None else max(0.0, seen.whole - seen.masked) / seen.whole * 100
    return Measurement("average_drop", value, protocol, reason, passes=seen.passes)


def average_increase(
    scorer: "Scorer", saliency_map: npt.ArrayLike, *, protocol: str = "mult", progress: Progress | None = None
) -> Measurement:
    """Average increase: 100 where o exceeds p by more than 1e-6, else 0; higher is better (Grad-CAM++).

    Over a set: the percentage of pictures whose score rises. Takes any finite score. saliency_map, None and what it
    raises: as of average_drop().
    """
    seen = _seen_through(scorer, saliency_map, "average_increase", protocol, progress)
    value = None if seen.undefined is not None else 100.0 if seen.masked > seen.whole + ROUNDING else 0.0
    return Measurement("average_increase", value, protocol, seen.undefined, passes=seen.passes)


def average_gain(
    scorer: "Scorer", saliency_map: npt.ArrayLike, *, protocol: str = "mult", progress: Progress | None = None
) -> Measurement:
    """Average gain: max(0, o - p) / (1 - p) in percent, in [0,100]; higher is better (Opti-CAM, arXiv:2301.07002).

    None where p is above 1 - 1e-6; else as of average_drop(), which says what it raises too.
    """
    seen = _seen_through(scorer, saliency_map, "average_gain", protocol, progress)
    reason = seen.undefined or _no_probability(scorer, seen)
    if reason is None and seen.whole > LARGEST_P:
        reason = "the target's probability is above 1 - 1e-6, so there is nothing to gain"
    value = None if reason is not None else max(0.0, seen.masked - seen.whole) / (1 - seen.whole) * 100
    return Measurement("average_gain", value, protocol, reason, passes=seen.passes)


class _Seen(NamedTuple):
    """The score of the whole image and of the masked one. undefined: why there is none, else None."""

    whole: float
    masked: float
    undefined: str | None
    passes: int


def _seen_through(
    scorer: "Scorer", saliency_map: npt.ArrayLike, metric: str, protocol: str, progress: Progress | None
) -> _Seen:
    single_target(scorer)
    known_protocol(metric, protocol, MASK_PROTOCOLS)
    weights = fitting_map(saliency_map, scorer) if protocol == "half" else unit_map(saliency_map, scorer)
    whole = float(scorer.whole[0])
    if protocol != "mult" and is_constant(weights):
        return _Seen(whole, np.nan, NO_ORDER, 0)
    if protocol == "mult":
        scores = scorer.masks(_rows(weights), progress=progress)
    elif protocol == "half":
        ranks, none = descending_ranks(weights), np.zeros(1, np.int64)
        scores = scorer.ranks(ranks, none, none + weights.size // 2, progress=progress)
    else:
        upper = descending_ranks(weights) < weights.size // 2
        scores = scorer.masks(_rows(np.where(upper, weights, 0)), progress=progress)
    masked = float(scores[0, 0])
    undefined = None if np.isfinite([whole, masked]).all() else NOT_FINITE
    return _Seen(whole, masked, undefined, 1)


def _rows(mask: Doubles) -> Floats:
    return np.asarray(mask[None], np.float32)


def _no_probability(scorer: "Scorer", seen: _Seen) -> str | None:
    """Why the score of the target is no probability; None if it is one."""
    (target,) = scorer.targets
    if scorer.score is Score.LOGIT and target.is_probability:
        return "the scores are logits; it needs probabilities"
    outside = [s for s in (seen.whole, seen.masked) if not -ROUNDING <= s <= 1 + ROUNDING]
    if outside:
        return f"the target's score is {outside[0]:.4g}, which is no probability"
    return None
