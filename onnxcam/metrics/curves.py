"""Deletion and insertion: the score while the pixels of an image go, or come back, in the order of a map (RISE).

A curve holds the score after every step, both ends included, and the metric is the area under it over the fraction of
the pixels that were really changed, by the trapezoid rule. All rows of a curve are named by ranks, so a row costs the
graph eight bytes.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.limits import brief, is_whole
from onnxcam.metrics.arguments import NOT_FINITE, fitting_map, known_protocol, single_target
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.ranking import NO_ORDER, descending_ranks, is_constant
from onnxcam.metrics.replacements import REPLACEMENTS, SIGMA
from onnxcam.types import Floats, Indices, Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

PARTS = 28
"""The default step is this part of the pixels: 1792 pixels at 224x224."""

DELETION_PROTOCOLS = ("zero", "mean", "blur-rise", "blur-gaussian")
"""The first is the default, as in RISE."""
INSERTION_PROTOCOLS = ("blur-rise", "blur-gaussian", "zero", "mean")


def deletion(
    scorer: "Scorer",
    saliency_map: npt.ArrayLike,
    *,
    protocol: str = "zero",
    step: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Area under the score as pixels are replaced, the most salient ones first; lower is better (RISE, 1806.07421).

    In [0,1] for a probability. saliency_map: of the image's sides, any range. protocol: what replaces a pixel: 'zero'
    after preprocessing, 'mean' the image's mean colour, 'blur-rise' the image blurred by RISE's kernel, 'blur-gaussian'
    by a Gaussian of 5 pixels. step: pixels a step; None takes 1/28 of them. curve: (fraction replaced, score) of every
    step. The value is None for a constant map, which has no order, and where a score is not finite. Raises OptionError
    for a map that does not fit, a Scorer of several targets, an unknown protocol, and a step that is no number of
    pixels.
    """
    known_protocol("deletion", protocol, DELETION_PROTOCOLS)
    return _measured("deletion", scorer, saliency_map, protocol, step, progress)


def insertion(
    scorer: "Scorer",
    saliency_map: npt.ArrayLike,
    *,
    protocol: str = "blur-rise",
    step: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Area under the score as pixels come back to a blurred image, the most salient first; higher is better (RISE).

    protocol: the image that it starts from, by the same names as of deletion(). curve: (fraction put back, score). All
    else as of deletion().
    """
    known_protocol("insertion", protocol, INSERTION_PROTOCOLS)
    return _measured("insertion", scorer, saliency_map, protocol, step, progress)


def default_step(pixels: int) -> int:
    """Pixels a step: 1792 of 224x224, the same part of any other number, and at least 1."""
    return max(1, round(pixels / PARTS))


def area(fractions: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The area under a curve by the trapezoid rule, in float64. The last step may be shorter than the others."""
    x, y = np.asarray(fractions, np.float64), np.asarray(scores, np.float64)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def _measured(
    metric: str,
    scorer: "Scorer",
    saliency_map: npt.ArrayLike,
    protocol: str,
    step: int | None,
    progress: Progress | None,
) -> Measurement:
    single_target(scorer)
    order_by = fitting_map(saliency_map, scorer)
    pixels = order_by.size
    step = _step(step, pixels)
    options = {"step": step} | ({"sigma": SIGMA} if protocol == "blur-gaussian" else {})
    if is_constant(order_by):
        return Measurement(metric, None, protocol, NO_ORDER, options=options)
    changed = np.minimum(np.arange(0, pixels + step, step), pixels)
    starts, stops = (changed, np.full_like(changed, pixels)) if metric == "deletion" else (0 * changed, changed)
    fill = REPLACEMENTS[protocol](scorer.image)
    scores = scorer.ranks(descending_ranks(order_by), starts, stops, fill=fill, progress=progress)[:, 0]
    if not np.isfinite(scores).all():
        return Measurement(metric, None, protocol, NOT_FINITE, options=options, passes=len(changed))
    value = area(changed / pixels, scores)
    return Measurement(metric, value, protocol, None, _curve(changed, pixels, scores), options, len(changed))


def _curve(changed: Indices, pixels: int, scores: Floats) -> Floats:
    return np.stack([changed / pixels, scores], axis=1).astype(np.float32)


def _step(step: int | None, pixels: int) -> int:
    if step is None:
        return default_step(pixels)
    if not is_whole(step, 1) or step > pixels:
        raise OptionError(f"step is a number of pixels from 1 to {pixels}, not {brief(step)}")
    return int(step)
