"""Links: between what a mask scores and a number that a Gaussian process may take for normal."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
NODES, _RAW = np.polynomial.hermite_e.hermegauss(5)
SHARES = _RAW / _RAW.sum()
ROUNDING = 1e-5
"""By which float32 makes a probability more than 1."""
SOFT = 1e-3
"""Of the largest probability seen: differences far below it do not show in the map, so the link flattens there."""


@dataclass(frozen=True)
class Link:
    """forward: a score to the process's number; backward: that number to the weight; weight: a score to its weight."""

    forward: Callable[[Vector], Vector]
    backward: Callable[[Vector], Vector]
    weight: Callable[[Vector], Vector]


def link(seen: Vector) -> Link:
    """For scores that are weights: a logit where all that were seen (n,) are probabilities, else the number itself."""
    probable = seen.min() >= 0 and seen.max() <= 1 + ROUNDING
    return _probability(seen) if probable else Link(np.asarray, np.asarray, np.asarray)


def _probability(seen: Vector) -> Link:
    """A logit that flattens where probabilities are small beside the largest one seen."""
    soft = max(SOFT * float(seen.max()), 1e-300)

    def forward(p: Vector) -> Vector:
        p = np.minimum(p, 1)
        return np.asarray(np.log((p + soft) / (1 - p + soft)))

    def backward(g: Vector) -> Vector:
        # exp(-log(1 + exp(-g))) keeps its digits where 1 / (1 + exp(-g)) is next to nothing.
        return np.asarray(np.clip(np.exp(-np.logaddexp(0, -g)) * (1 + 2 * soft) - soft, 0, 1))

    return Link(forward, backward, np.asarray)


def falling(link: Link, original: float) -> Link:
    """For weights that are how far the score falls below the original one."""
    return Link(link.forward, lambda g: original - link.backward(g), lambda s: original - s)


def exponential(seen: Vector, sign: int) -> Link:
    """For weights that are a softmax over the masks: exp of sign times the score, over the largest one seen."""
    top = float((sign * seen).max())

    def weight(z: Vector) -> Vector:
        return np.asarray(np.exp(np.minimum(sign * z - top, 30)))

    return Link(np.asarray, weight, weight)


def moments(link: Link, mean: Vector, deviation: Vector) -> tuple[Vector, Vector]:
    """(K,) mean and deviation of the weight where the process's number is normal; Gauss-Hermite, five nodes."""
    values = link.backward(mean + deviation * NODES[:, None])
    expected = SHARES @ values
    return expected, np.sqrt(np.maximum(SHARES @ (values - expected) ** 2, 0))
