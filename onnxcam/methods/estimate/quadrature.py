"""Bayesian quadrature of a Score-CAM map: which masks to score, what the others would score, how far the map is off.

The map is a linear functional of the scores, sum_k w_k A_k, and a mask's score is a smooth function of the mask. So a
Gaussian process over the masks turns a few scores into a distribution over all of them, and hence over the map
(O'Hagan 1991, doi:10.1016/0378-3758(91)90002-V; with a link as in Osborne et al. 2012, "Active learning of model
evidence using Bayesian quadrature"). The next masks are those that take most of the map's posterior variance away.
rounds.py scores the masks that Quadrature.choose() names and gives the scores to Quadrature.posterior().
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.methods.estimate import cholesky
from onnxcam.methods.estimate.conditioning import Conditioning
from onnxcam.methods.estimate.kernel import Geometry, Hyperparameters
from onnxcam.methods.estimate.links import Link, moments
from onnxcam.products import product
from onnxcam.resampling import upsample
from onnxcam.types import Doubles, Features, Floats, Indices

GRID = tuple(
    Hyperparameters(length, linear, noise)
    for length in (0.5, 0.7, 1.0, 1.4)
    for linear in (0.0, 0.3, 1.0)
    for noise in (1e-3, 1e-2, 1e-1)
)
"""The kernels that are tried."""
FIRST = Hyperparameters(1.0, 0.1, 1e-2)
"""The kernel before anything was scored."""
MODELS, SHARE = 6, 0.02
"""How many kernels of the grid are averaged, the likeliest ones, and the least share of each."""
CELLS = 400
"""Cells of a map, at most, for choosing masks and for the error; finer grids are averaged down."""
DRAWS = 128
"""Maps drawn from the posterior for the error."""
CONFIDENCE = 0.9
"""The share of the drawn maps that the error bound covers."""
INFLATION = 1.5
"""A factor on the posterior's deviation, so that the error bound holds in CONFIDENCE of the cases on photographs."""
START, GROWTH, LEAST = 10, 4, 4
"""Masks of the first round; each later round adds a GROWTH-th of those scored so far, at least LEAST."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of one target's scores after some masks were scored.

    kernel: the likeliest one. weights (K,): expected weight of each map, or the known one. whitened (n,K): the whitened
    covariance of all masks with the n scored ones. contributions (K,cells): what a mask adds to the map for each unit
    by which its score is off, zero where it was scored. covariance (K,cells): the posterior covariance times the
    contributions. variance (K,): the posterior variance, in units of the signal's. scale: the signal variance.
    """

    kernel: Hyperparameters
    weights: Doubles
    whitened: Doubles
    contributions: Doubles
    covariance: Doubles
    variance: Doubles
    scale: float

    def map_covariance(self) -> Doubles:
        """(cells,cells) posterior covariance of the map."""
        return self.scale * product(self.contributions.T, self.covariance)


@dataclass(frozen=True, eq=False)
class Quadrature:
    """The masks of one image. shares (K,cells): their maps on a grid of at most CELLS. geometry: their distances.

    conditioning: what those that were scored foretell.
    """

    shares: Doubles
    grid: tuple[int, ...]
    geometry: Geometry
    conditioning: Conditioning

    @staticmethod
    def of(maps: Features, masks: Features) -> "Quadrature":
        """maps (K,*grid) are summed up; masks (K,*grid) cover the image, and each varies over space."""
        coarse, geometry = averaged(maps), Geometry.of(masks)
        shares = coarse.reshape(len(maps), -1).astype(np.float64)
        return Quadrature(shares, coarse.shape[1:], geometry, Conditioning(geometry, GRID))

    def prior(self) -> Posterior:
        """Before anything was scored."""
        count = len(self.shares)
        covariance = self.geometry.times(FIRST, self.shares)
        variance = self.geometry.variance(FIRST)
        return Posterior(FIRST, np.zeros(count), np.zeros((0, count)), self.shares, covariance, variance, 1.0)

    def posterior(self, scored: Indices, scores: Doubles, link: Link) -> Posterior:
        """After the masks `scored` (n,) got these scores (n,)."""
        values = link.forward(scores)
        level = float(values.mean())
        self.conditioning.scored(scored)
        ranked = self._ranked(values - level)
        known = [self.conditioning.prediction(kernel) for _, kernel, _ in ranked]
        shares, scales = np.asarray([r[0] for r in ranked]), np.asarray([r[2] for r in ranked])
        means = np.stack([each.mean(values - level) for each in known])
        variances = np.maximum(np.stack([each.variance for each in known]), 1e-9)
        mean = shares @ means
        deviation = np.sqrt(shares @ (scales[:, None] * variances + (means - mean) ** 2))
        expected, off = moments(link, level + mean, deviation)
        (_, kernel, scale), variance, whitened = ranked[0], variances[0], known[0].whitened
        off = INFLATION * off / np.sqrt(scale * variance)
        if not np.ptp(scores):
            # Nothing is known of how scores vary: the same is expected everywhere, and the prior chooses what is next.
            expected[:], off[:], scale = link.weight(scores[:1]), 1, 1.0
        expected[scored] = link.weight(scores)
        off[scored] = 0
        contributions = self.shares * off[:, None]
        covariance = self.geometry.times(kernel, contributions) - product(whitened.T, product(whitened, contributions))
        self.conditioning.release()
        return Posterior(kernel, expected, whitened, contributions, covariance, variance, scale)

    def _ranked(self, values: Doubles) -> list[tuple[float, Hyperparameters, float]]:
        """(share, kernel, signal variance) of the likeliest kernels, each with its most likely signal variance."""
        count = len(values)
        whitened, logs = self.conditioning.whitened(values)
        squares = np.square(whitened).sum(axis=1)
        scales = np.maximum(squares / count, 1e-12 * max(float(np.square(values).max()), 1e-200))
        likelihood = -0.5 * count * np.log(scales) - logs
        best = np.argsort(-likelihood, kind="stable")[:MODELS]
        shares = np.exp(likelihood[best] - likelihood[best[0]])
        best, shares = best[shares > SHARE], shares[shares > SHARE]
        shares /= shares.sum()
        return [(float(s), GRID[i], float(scales[i])) for s, i in zip(shares, best, strict=True)]

    def choose(self, posteriors: Sequence[Posterior], scored: Indices, count: int) -> Indices:
        """The next `count` masks, one after another, that take most of the maps' variance away; targets count alike.

        A map's scale and offset are taken out of it first, as normalisation does.
        """
        free = np.ones(len(self.shares), bool)
        free[scored] = False
        choices = [_GreedyChoice(self, posterior, count) for posterior in posteriors]
        chosen: list[int] = []
        for _ in range(min(count, int(free.sum()))):
            gain = sum(choice.gain() for choice in choices)
            best = int(np.argmax(np.where(free, gain, -1)))
            free[best] = False
            chosen.append(best)
            for choice in choices:
                choice.take(best)
        return np.asarray(chosen, np.int64)

    def error(self, posterior: Posterior) -> float:
        """The root mean square by which the map in [0,1] is off, at most, in CONFIDENCE of draws from the posterior."""
        raw = product(posterior.weights[None], self.shares)[0]
        root = cholesky.root(posterior.map_covariance())
        normal = np.random.default_rng(0).standard_normal((DRAWS, len(root)))
        draws = raw + product(normal, root.T)
        both = np.concatenate([raw[None], draws]).reshape(-1, *self.grid).astype(np.float32)
        drawn = normalised(upsample(both, tuple(2 * side for side in self.grid)))
        off = np.sqrt(np.square(drawn[1:] - drawn[0]).mean(axis=tuple(range(1, drawn.ndim))))
        return _quantile(off.astype(np.float64))


class _GreedyChoice:
    """For one target, the posterior as it will be once the chosen masks are scored; their scores do not matter."""

    def __init__(self, quadrature: Quadrature, posterior: Posterior, room: int) -> None:
        """room: how many masks will be taken at most."""
        self._geometry, self._kernel = quadrature.geometry, posterior.kernel
        directions = _seen_by_normalising(quadrature.shares, posterior.weights)
        self._covariance, self._variance = product(posterior.covariance, directions), posterior.variance.copy()
        self._whitened = np.concatenate([posterior.whitened, np.zeros((room, len(posterior.weights)))])
        self._count = len(posterior.whitened)
        self._contributions = product(posterior.contributions, directions)
        total = float(np.einsum("kc,kc->", self._contributions, self._covariance))
        self._total = total if total > 1e-300 else np.inf  # nothing to gain, or what is left is rounding

    def gain(self) -> Doubles:
        """(K,) the share of the map's variance that each mask would take away."""
        gain = np.einsum("kc,kc->k", self._covariance, self._covariance) / (self._variance + self._kernel.noise)
        return np.asarray(gain / self._total)

    def take(self, mask: int) -> None:
        """Conditions on one more mask."""
        known = self._whitened[: self._count]
        prior = self._geometry.covariance(self._kernel, slice(None), np.asarray([mask]))[:, 0]
        column = prior - product(known.T, known[:, mask : mask + 1])[:, 0]
        variance = max(float(column[mask]), 1e-9) + self._kernel.noise
        removed = self._contributions[mask].copy()
        self._contributions[mask] = 0
        self._covariance -= np.outer(column, removed + product(column[None], self._contributions)[0] / variance)
        self._whitened[self._count] = column / np.sqrt(variance)
        self._variance = np.maximum(self._variance - self._whitened[self._count] ** 2, 1e-9)
        self._count += 1


def _seen_by_normalising(shares: Doubles, weights: Doubles) -> Doubles:
    """(cells,cells) projection of raw maps that takes their offset and the scale of the expected one out."""
    raw = product(weights[None], shares)[0]
    raw -= raw.mean()
    directions = np.eye(len(raw)) - 1 / len(raw)
    length = float(raw @ raw)
    return directions - np.outer(raw, raw) / length if length > 0 else directions


def _quantile(values: Doubles) -> float:
    """np.quantile(values (n,), CONFIDENCE), whose first call imports numpy.ma and takes longer than a map's errors."""
    if np.isnan(values).any():
        return math.nan
    return float(np.interp(CONFIDENCE * (len(values) - 1), np.arange(len(values)), np.sort(values)))


def rounds(count: int, most: int) -> Iterator[int]:
    """How many of `count` masks are scored after each round, `most` at most."""
    scored = min(START, count, most)
    while True:
        yield scored
        if scored >= min(count, most):
            return
        scored = min(scored + max(LEAST, scored // GROWTH // LEAST * LEAST), count, most)


def normalised(maps: Floats) -> Floats:
    """n(ReLU) of each of the maps (N,...), or n where ReLU leaves nothing; a constant map becomes zeros."""
    axes = tuple(range(1, maps.ndim))
    high = maps.max(axis=axes, keepdims=True)
    maps = np.where(high > 0, np.maximum(maps, 0), maps)
    low = maps.min(axis=axes, keepdims=True)
    return np.asarray((maps - low) / np.maximum(high - low, np.float32(1e-30)))


def averaged(maps: Features) -> Features:
    """Blocks of cells averaged until there are no more than CELLS; a last block may be smaller."""
    while np.prod(maps.shape[1:]) > CELLS:
        axis = 1 + int(np.argmax(maps.shape[1:]))
        starts = np.arange(0, maps.shape[axis], 2)
        sizes = np.diff(np.append(starts, maps.shape[axis]))
        sums = np.add.reduceat(maps, starts, axis)
        maps = np.asarray(sums / sizes.reshape(-1, *[1] * (maps.ndim - 1 - axis)), np.float32)
    return maps
