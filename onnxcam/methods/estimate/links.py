"""Link functions: they map the score of a mask to the number that the Gaussian process models, and back.

For a probability that is a logit, flattened where the probabilities are small beside the largest one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxcam.types import Doubles

_NEAR, _FAR = math.sqrt(5 - math.sqrt(10)), math.sqrt(5 + math.sqrt(10))
NODES = np.array([-_FAR, -_NEAR, 0, _NEAR, _FAR])
SHARES = np.array([7 - 2 * math.sqrt(10), 7 + 2 * math.sqrt(10), 32, 7 + 2 * math.sqrt(10), 7 - 2 * math.sqrt(10)]) / 60
"""Nodes and weights of Gauss-Hermite quadrature for a standard normal number."""
ROUNDING = 1e-5
"""How far above 1 float32 may put a probability."""
SOFT = 1e-3
"""The share of the largest probability below which the link flattens: smaller differences do not show in the map."""


@dataclass(frozen=True)
class Link:
    """forward: score to the process's number. backward: that number to the weight. weight: score to the weight."""

    forward: Callable[[Doubles], Doubles]
    backward: Callable[[Doubles], Doubles]
    weight: Callable[[Doubles], Doubles]


def link(scores: Doubles) -> Link:
    """For weights that are the scores (n,) themselves: a logit if all are probabilities, else the number itself."""
    probable = scores.min() >= 0 and scores.max() <= 1 + ROUNDING
    return _probability(scores) if probable else Link(np.asarray, np.asarray, np.asarray)


def _probability(scores: Doubles) -> Link:
    """A logit that flattens where probabilities are small beside the largest one."""
    soft = max(SOFT * float(scores.max()), 1e-300)

    def forward(p: Doubles) -> Doubles:
        p = np.minimum(p, 1)
        return np.asarray(np.log((p + soft) / (1 - p + soft)))

    def backward(g: Doubles) -> Doubles:
        # exp(-log(1 + exp(-g))) keeps its digits where 1 / (1 + exp(-g)) is next to nothing.
        return np.asarray(np.clip(np.exp(-np.logaddexp(0, -g)) * (1 + 2 * soft) - soft, 0, 1))

    return Link(forward, backward, np.asarray)


def falling(link: Link, original: float) -> Link:
    """For weights that are how far the score falls below the original one."""
    return Link(link.forward, lambda g: original - link.backward(g), lambda s: original - s)


def exponential(scores: Doubles, sign: int) -> Link:
    """For weights that are a softmax over the masks: exp of sign times the score, relative to the largest one."""
    top = float((sign * scores).max())

    def weight(z: Doubles) -> Doubles:
        return np.asarray(np.exp(np.minimum(sign * z - top, 30)))

    return Link(np.asarray, weight, weight)


def moments(link: Link, mean: Doubles, deviation: Doubles) -> tuple[Doubles, Doubles]:
    """(K,) mean and deviation of the weight, from mean and deviation (K,) of the process's number."""
    values = link.backward(mean + deviation * NODES[:, None])
    expected = SHARES @ values
    return expected, np.sqrt(np.maximum(SHARES @ (values - expected) ** 2, 0))
