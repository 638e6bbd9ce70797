"""How far masked scores in a lower precision are from float32's: a few masks of each picture are scored in both.

probe.py does so with the first masks that a method has scored. Their float32 scores are kept, and the method makes of
the deviation a bound on its map's error (methods/estimate/rounding.py).
"""

from dataclasses import dataclass

import numpy as np

from onnxcam.network.packing import MaskRequest
from onnxcam.network.scorer import Network
from onnxcam.types import Doubles, Indices, Score, Scores

PAIRS = 8
"""Masks that are scored twice, at most, and no more than half of the first ones."""
LARGEST = 0.03
"""Further masks that are scored twice, those with the largest scores: what rounds most and weighs most in the map."""
LEAST_SHARE = 1e-6
"""The share of all scores that a score counts as, at least: a deviation over zero would be infinite."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""What a sum of scores that are all zero counts as."""


@dataclass
class ScoreDeviation:
    """Of one picture. relative (T,): the share by which the scores of each target are off, as a root mean square.

    None before anything was scored, and where all is computed in float32.
    """

    relative: Doubles | None = None


def measure(network: Network, request: MaskRequest, scores: Scores, score: Score) -> tuple[Scores, Doubles, int]:
    """Scores some of the masks that got these scores (K,T) once more, in float32.

    Returns (the scores with those in their places, ScoreDeviation.relative, how many were scored once more).
    """
    masks = request.masks
    assert isinstance(masks, np.ndarray), "a lower precision runs on the host"
    pairs, further = choose(scores), largest(scores)
    again = np.concatenate([pairs, further])
    exact = network.score_in_float32(request.feeds, np.asarray(masks[again], np.float32), score)
    better = scores.copy()
    better[again] = exact
    return better, relative(scores, exact[: len(pairs)], pairs), len(again)


def largest(scores: Scores) -> Indices:
    """The masks with the largest scores (K,T), in whole runs of float32."""
    count = round(LARGEST * len(scores) / PAIRS) * PAIRS
    return np.argsort(-_shares(scores).mean(axis=1), kind="stable")[:count]


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
