"""What a lower precision of masked scores does to a map: the bound of its error is widened.

A few masks were scored in float32 too, which tells by what share a score is off (network/score_deviation.py). Maps with
scores that are off at random by that share show how much the map feels it. What is not random, such as weights that
were rounded, and the few scores that are float32's own are in the factor, which is calibrated on photographs
(tools/benchmarks/bfloat16.py).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxcam.methods.estimate.quadrature import averaged, normalised
from onnxcam.methods.maps import Outcome
from onnxcam.products import product
from onnxcam.resampling import upsample
from onnxcam.types import Doubles, Features

DRAWS = 8
"""Maps with random deviations."""
FACTOR = 3.5
"""By which the error bound holds in 9 of 10 cases on photographs."""


def widened(outcomes: Sequence[Outcome], maps: Features, weights: Doubles, deviation: Doubles | None) -> list[Outcome]:
    """The outcomes with an error of sqrt(e^2 + d^2): e of the estimate, 0 where nothing was estimated, d of rounding.

    maps (K,*grid) and the scores that weigh them (K,T). deviation (T,): Probe.score_deviation. A map without a bound
    keeps none, and so does one on the way.
    """
    if deviation is None:
        return list(outcomes)
    coarse = averaged(maps)
    return [
        outcome if _unknown(outcome) else replace(outcome, error=math.hypot(outcome.error or 0.0, off))
        for outcome, off in zip(outcomes, deviations(coarse, weights, deviation), strict=True)
    ]


def deviations(maps: Features, weights: Doubles, deviation: Doubles) -> list[float]:
    """d of each target: the root mean square by which its map in [0,1] is off in 9 of 10 cases, at most 1."""
    flat, (count, targets) = maps.reshape(len(maps), -1).astype(np.float64), weights.shape
    noise = np.random.default_rng(0).standard_normal((DRAWS, count))
    result = []
    for target in range(targets):
        scores = weights[:, target]
        if deviation[target] > 1:  # nothing is known of such scores
            result.append(1.0)
            continue
        raw = product(np.concatenate([scores[None], scores * (1 + deviation[target] * noise)]), flat)
        drawn = raw.reshape(-1, *maps.shape[1:]).astype(np.float32)
        up = normalised(upsample(drawn, tuple(2 * side for side in maps.shape[1:])))
        off = float(np.sqrt(np.square(up[1:] - up[0]).mean()))
        result.append(min(1.0, FACTOR * off))
    return result


def _unknown(outcome: Outcome) -> bool:
    return outcome.error is None and (outcome.estimated > 0 or outcome.left > 0)
