"""How far masked scores in a lower precision are from float32's: a few masks of each picture are scored in both.

They are chosen in proportion to their scores. Their float32 scores are kept, and rounding.py makes of the deviation a
bound on the map's error.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.types import AnyMasks, Doubles, Indices, Score, Scores

if TYPE_CHECKING:
    from onnxcam.methods.blocks import Probe

PAIRS = 8
"""Masks that are scored twice to measure, at most, and no more than half of those that were scored."""
LEAST_SHARE = 1e-6
"""The share of all scores that a score counts as, at least: a deviation over zero would be infinite."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""What a sum of scores that are all zero counts as."""


@dataclass(frozen=True, eq=False)
class Rounding:
    """in_float32 (K,): which of the scores are float32's. relative (T,): the share by which the others are off.

    That is a root mean square over scores in proportion to their size.
    """

    in_float32: npt.NDArray[np.bool_]
    relative: Doubles

    @property
    def is_none(self) -> bool:
        """Whether all scores are float32's."""
        return bool(self.in_float32.all())

    def of_all(self, count: int, scored: Indices) -> "Rounding":
        """The same for `count` scores, of which those at `scored` were computed and the others follow from them."""
        in_float32 = np.full(count, self.is_none)
        in_float32[scored] = self.in_float32
        return replace(self, in_float32=in_float32)


@dataclass(frozen=True, eq=False)
class RoundedScores:
    """scores (K,T) of masks, and what is known of their rounding."""

    scores: Scores
    rounding: Rounding

    def in_float32(self, probe: "Probe", masks: AnyMasks, chosen: Indices, score: Score) -> "RoundedScores":
        """The same with float32's scores of `chosen`, some of the masks (K,1,*grid); what has them is left out."""
        missing = np.setdiff1d(chosen, np.flatnonzero(self.rounding.in_float32))
        if not len(missing):
            return self
        scores, in_float32 = self.scores.copy(), self.rounding.in_float32.copy()
        scores[missing] = probe.score_in_float32(masks[missing], score)
        in_float32[missing] = True
        return RoundedScores(scores, replace(self.rounding, in_float32=in_float32))

    def with_more(self, probe: "Probe", masks: AnyMasks, score: Score) -> "RoundedScores":
        """The same with the scores of further masks, in float32 where all are so far."""
        exact, before = self.rounding.is_none, self.rounding.in_float32
        scores = probe.score_in_float32(masks, score) if exact and probe.reduced else probe.score(masks, score)
        in_float32 = np.concatenate([before, np.full(len(scores), exact)])
        return RoundedScores(np.concatenate([self.scores, scores]), replace(self.rounding, in_float32=in_float32))


def first_scores(probe: "Probe", masks: AnyMasks, score: Score) -> RoundedScores:
    """Scores of the first masks of a picture, with which a lower precision is measured."""
    scores = probe.score(masks, score)
    if probe.reduced:
        return measured(probe, masks, scores, score)
    return RoundedScores(scores, Rounding(np.ones(len(scores), bool), np.zeros(scores.shape[1])))


def measured(probe: "Probe", masks: AnyMasks, scores: Scores, score: Score) -> RoundedScores:
    """How far the scores (K,T) of the masks (K,1,*grid) are off. Some of them are scored once more, in float32."""
    chosen = choose(scores)
    rounding = Rounding(np.zeros(len(scores), bool), np.zeros(scores.shape[1]))
    better = RoundedScores(scores, rounding).in_float32(probe, masks, np.unique(chosen), score)
    off = relative(scores, better.scores[chosen], chosen)
    return replace(better, rounding=replace(better.rounding, relative=off))


def choose(scores: Scores) -> Indices:
    """Masks by their scores (K,T), in proportion to their size: the large ones make the map. One may come twice."""
    shares = _shares(scores).mean(axis=1)
    order = np.argsort(shares, kind="stable")
    count = max(1, min(PAIRS, len(scores) // 2))
    places = np.searchsorted(np.cumsum(shares[order]), (np.arange(count) + 0.5) / count)
    return order[np.minimum(places, len(order) - 1)]


def relative(scores: Scores, exact: Scores, chosen: Indices) -> Doubles:
    """(T,) the share by which scores (K,T) are off, where `exact` (n,T) are those of the masks `chosen` (n,).

    The mean over all masks of each target, in proportion to their scores.
    """
    shares = _shares(scores)
    reduced, drawn = scores[chosen].astype(np.float64), shares.mean(axis=1, keepdims=True)[chosen]
    total = np.maximum(np.abs(scores.astype(np.float64)).sum(axis=0), SMALLEST)
    off = (reduced - exact) / total
    return np.asarray(np.sqrt((np.square(off) / (shares[chosen] * drawn)).mean(axis=0)), np.float64)


def _shares(scores: Scores) -> Doubles:
    """(K,T) each score's share of all of its target's."""
    sizes = np.abs(scores.astype(np.float64))
    sizes = np.maximum(sizes, np.maximum(LEAST_SHARE * sizes.sum(axis=0), SMALLEST))
    return np.asarray(sizes / sizes.sum(axis=0), np.float64)
