"""What a lower precision of masked scores does to a map: it is bounded, and kept within a limit.

A few masks were scored in float32 too, which tells by what share a score is off (rounded_scores.py). A map is off by as
much as scores that are off at random by that share move it. What is not random, such as weights that were rounded, is
in the factor, which is calibrated on photographs (tools/benchmarks/bfloat16.py). Where that is more than a limit, the
masks that move the map most are scored in float32.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from onnxcam.methods.estimate.quadrature import averaged
from onnxcam.methods.estimate.rounded_scores import RoundedScores, Rounding, measured
from onnxcam.methods.maps import Outcome, combined, weights_of
from onnxcam.products import product
from onnxcam.types import AnyMasks, Doubles, Features, Indices, Note, NoteCode, Score, Scores

if TYPE_CHECKING:
    from onnxcam.methods.blocks import Probe

FACTOR = 4.0
"""By which the error bound holds in 9 of 10 cases on photographs."""
LIMIT = 0.015
"""How far rounding may move the map of all masks, in units of Outcome.error. More masks are in float32 otherwise."""
LIMIT_OF_ESTIMATES = 0.045
"""The same of an estimated map, which float32 scores of a few masks do not mend: then all are scored in float32."""
RUN = 8
"""Masks that are scored in float32 are so many, or a multiple: whole runs."""
MOST = 0.5
"""The share of masks in float32 from which on all are."""


def exact_maps(probe: "Probe", maps: Features, masks: AnyMasks, scores: Scores, score: Score) -> list[Outcome]:
    """The maps of scores (K,T) in a lower precision of all masks (K,1,*grid), whose feature maps are maps (K,*grid).

    Scores as many masks in float32 as it takes for rounding to stay within LIMIT, which a note says.
    """
    return maps_within_limit(probe, maps, masks, measured(probe, masks, scores, score), score)


def maps_within_limit(
    probe: "Probe", maps: Features, masks: AnyMasks, rounded: RoundedScores, score: Score
) -> list[Outcome]:
    """exact_maps() of scores whose rounding was measured."""
    before = rounded
    while len(further := choose_for_float32(maps, rounded)):  # float32's scores change which masks move the map most
        rounded = rounded.in_float32(probe, masks, further, score)
    weights = weights_of(rounded.scores, softmax=False)
    outcomes = combined(maps, weights, probe.size)
    if rounded is not before:
        outcomes = [replace(o, notes=(*o.notes, _note(rounded.rounding))) for o in outcomes]
    return widened(outcomes, maps, weights, rounded.rounding)


def choose_for_float32(maps: Features, rounded: RoundedScores) -> Indices:
    """The masks that are to be scored in float32: the fewest that keep every target's map within LIMIT."""
    off = FACTOR * rounded.rounding.relative
    squares = np.square(off * influence(averaged(maps), weights_of(rounded.scores, softmax=False)))
    free = np.flatnonzero(~rounded.rounding.in_float32)
    free = free[np.argsort(-squares[free].sum(axis=1), kind="stable")]
    left = np.cumsum(squares[free][::-1], axis=0)[::-1]  # (n,T) d^2 of the masks from each one on
    count = int((left > LIMIT**2).any(axis=1).sum())
    count = -(-count // RUN) * RUN
    in_float32 = len(maps) - len(free) + count
    return free[:count] if in_float32 <= MOST * len(maps) else free


def widened(outcomes: Sequence[Outcome], maps: Features, weights: Doubles, rounding: Rounding) -> list[Outcome]:
    """The outcomes with an error of sqrt(e^2 + d^2): e of the estimate, 0 where nothing was estimated, d of rounding.

    maps (K,*grid), their weights (K,T), and what is known of them. A map without a bound keeps none, and so do one on
    the way and one of scores in float32.
    """
    if rounding.is_none:
        return list(outcomes)
    return [
        outcome if _unknown(outcome) else replace(outcome, error=math.hypot(outcome.error or 0.0, off))
        for outcome, off in zip(outcomes, deviations(maps, weights, rounding), strict=True)
    ]


def deviations(maps: Features, weights: Doubles, rounding: Rounding) -> list[float]:
    """d of each target: the root mean square by which its map in [0,1] is off in 9 of 10 cases, at most 1."""
    if rounding.is_none:
        return [0.0] * weights.shape[1]
    moved = influence(averaged(maps), weights)[~rounding.in_float32]
    off = FACTOR * rounding.relative * np.sqrt(np.square(moved).sum(axis=0))
    return [min(1.0, float(d)) for d in off]


def influence(maps: Features, weights: Doubles) -> Doubles:
    """(K,T) how far the map n(ReLU(sum_k a_k A_k)) moves with each weight, as a root mean square over its cells.

    maps (K,*grid), weights (K,T). In units of the weight: twice that weight would move the map by this, if a straight
    line led there. The smallest and the largest cell, which normalise the map, move too.
    """
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return np.stack([_influence(flat, column) for column in weights.T], axis=1)


def _influence(flat: Doubles, weights: Doubles) -> Doubles:
    """(K,) of maps (K,cells) and one target's weights (K,)."""
    raw = product(weights[None], flat)[0]
    if raw.max() > 0:
        flat, raw = np.where(raw > 0, flat, 0), np.maximum(raw, 0)
    low, high = int(raw.argmin()), int(raw.argmax())
    extent = raw[high] - raw[low]
    if not extent > 0:
        return np.zeros(len(weights))  # no map
    normalised = (raw - raw[low]) / extent
    slopes = flat - flat[:, low : low + 1] - np.outer(flat[:, high] - flat[:, low], normalised)
    return np.asarray(np.abs(weights) * np.sqrt(np.square(slopes).mean(axis=1)) / extent)


def _note(rounding: Rounding) -> Note:
    count, of = int(rounding.in_float32.sum()), len(rounding.in_float32)
    why = f"rounding alone would move a map of this picture by more than {LIMIT:g}"
    if rounding.is_none:
        text = f"{why}, so all masks were scored in float32: the map is exact"
    else:
        text = f"{why}, so {count} of {of} masks were scored in float32"
    return Note(NoteCode.IN_FLOAT32, text)


def _unknown(outcome: Outcome) -> bool:
    return outcome.error is None and (outcome.estimated > 0 or outcome.left > 0)
