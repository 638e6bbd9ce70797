"""Bayesian quadrature of a Score-CAM map: which masks to score, what the others would score, how far the map is off.

The map is a linear functional of the scores, sum_k w_k A_k, and a mask's score is a smooth function of the mask. So a
Gaussian process over the masks turns a few scores into a distribution over all of them, and hence over the map
(O'Hagan 1991, doi:10.1016/0378-3758(91)90002-V; with a link as in Osborne et al. 2012, "Active learning of model
evidence using Bayesian quadrature"). The next masks are those that take most of the map's posterior variance away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.methods.estimate.kernel import LEVEL, Geometry, Hyper, Indices, Matrix, Vector, matern
from onnxcam.methods.estimate.links import Link, moments
from onnxcam.methods.estimate.threads import one_thread
from onnxcam.resampling import upsample
from onnxcam.types import Features

GRID = tuple(Hyper(a, b, c) for a in (0.5, 0.7, 1.0, 1.4) for b in (0.0, 0.3, 1.0) for c in (1e-3, 1e-2, 1e-1))
FIRST = Hyper(1.0, 0.1, 1e-2)
"""Before anything was scored."""
MODELS, SHARE = 6, 0.02
"""Kernels of the grid that are averaged: the likeliest ones, and their least share."""
CELLS = 400
"""Of a map, for choosing masks and for the error; finer grids are averaged down to no more."""
DRAWS = 128
"""Maps drawn from the posterior for the error."""
CONFIDENCE = 0.9
INFLATION = 1.6
"""On the posterior's deviation; calibrated by tools/benchmark_budget.py (docs/benchmarks.md)."""
START, GROWTH, LEAST = 10, 4, 4
"""Masks of the first round; a round adds a GROWTH-th of what there is, LEAST at least."""


@dataclass(frozen=True, eq=False)
class Belief:
    """Of one target's scores, after some were seen.

    weights (K,): expected, or what was seen. h, scale: the likeliest kernel and its signal variance. reduced (n,K): its
    whitened covariance with what was seen. rows (K,cells): what a mask adds to the map for each unit by which its
    score's number is off, zero where it was seen. spread (K,cells): the posterior covariance times rows. left (K,): the
    posterior variance.
    """

    h: Hyper
    weights: Vector
    reduced: Matrix
    rows: Matrix
    spread: Matrix
    left: Vector
    scale: float

    def map_covariance(self) -> Matrix:
        """(cells,cells) of the map."""
        return self.scale * (self.rows.T @ self.spread)


@dataclass(frozen=True, eq=False)
class Quadrature:
    """shares (K,cells) of each mask in the map for a weight of 1, on a grid of no more than CELLS."""

    shares: Matrix
    grid: tuple[int, ...]
    geometry: Geometry

    @staticmethod
    def of(maps: Features, masks: Features) -> "Quadrature":
        """maps (K,*grid) are summed; masks (K,*grid) are what the picture is seen through, each varying over space."""
        coarse = averaged(maps)
        return Quadrature(coarse.reshape(len(maps), -1).astype(np.float64), coarse.shape[1:], Geometry.of(masks))

    @one_thread()
    def prior(self) -> Belief:
        count, rows = len(self.shares), self.shares
        spread = self.geometry.times(FIRST, rows)
        left = self.geometry.variance(FIRST)
        return Belief(FIRST, np.zeros(count), np.zeros((0, count)), rows, spread, left, 1.0)

    @one_thread()
    def belief(self, seen: Indices, scores: Vector, link: Link) -> Belief:
        """After scores (n,) of the masks that seen (n,) names."""
        values = link.forward(scores)
        level = float(values.mean())
        ranked = self._ranked(seen, values - level)
        near = self.geometry.distances(seen, slice(None))
        posteriors = [self._posterior(seen, values - level, h, near) for _, h, _ in ranked]
        shares, scales = np.asarray([r[0] for r in ranked]), np.asarray([r[2] for r in ranked])
        means, variances = np.stack([p[0] for p in posteriors]), np.stack([p[1] for p in posteriors])
        mean = shares @ means
        deviation = np.sqrt(shares @ (scales[:, None] * variances + (means - mean) ** 2))
        expected, off = moments(link, level + mean, deviation)
        (_, h, scale), (_, left, reduced) = ranked[0], posteriors[0]
        off = INFLATION * off / np.sqrt(scale * left)
        if not np.ptp(scores):
            # Nothing is known of how scores vary: the same is expected everywhere, and the prior chooses what is next.
            expected[:], off[:], scale = link.weight(scores[:1]), 1, 1.0
        expected[seen] = link.weight(scores)
        off[seen] = 0
        rows = self.shares * off[:, None]
        spread = self.geometry.times(h, rows) - reduced.T @ (reduced @ rows)
        return Belief(h, expected, reduced, rows, spread, left, scale)

    def _ranked(self, seen: Indices, values: Vector) -> list[tuple[float, Hyper, float]]:
        """(share, kernel, signal variance) of the likeliest kernels; the variance is at its most likely value each."""
        count = len(seen)
        squared, inner = self.geometry.distances(seen, seen)
        smooth = {length: matern(squared, length) for length in dict.fromkeys(h.length for h in GRID)}
        eye = np.eye(count)
        kernels = np.stack([smooth[h.length] + h.linear * inner + LEVEL + h.noise * eye for h in GRID])
        logs = np.log(np.diagonal(np.linalg.cholesky(kernels), axis1=1, axis2=2)).sum(axis=1)
        solved = np.linalg.solve(kernels, np.broadcast_to(values[:, None], (len(GRID), count, 1)))[..., 0]
        scales = np.maximum(solved @ values / count, 1e-12 * max(float(np.square(values).max()), 1e-200))
        likelihood = -0.5 * count * np.log(scales) - logs
        best = np.argsort(-likelihood, kind="stable")[:MODELS]
        shares = np.exp(likelihood[best] - likelihood[best[0]])
        best, shares = best[shares > SHARE], shares[shares > SHARE]
        shares /= shares.sum()
        return [(float(s), GRID[i], float(scales[i])) for s, i in zip(shares, best, strict=True)]

    def _posterior(
        self, seen: Indices, values: Vector, h: Hyper, near: tuple[Matrix, Matrix]
    ) -> tuple[Vector, Vector, Matrix]:
        """(K,) mean, (K,) variance in units of the signal's, and the whitened covariance with the seen (n,K).

        near: distances and products between the seen and all masks.
        """
        # Single precision is enough for what is at most 1 beside a nugget of 1e-3.
        smooth = matern(near[0].astype(np.float32), h.length)
        kernel = smooth.astype(np.float64) + h.linear * near[1] + LEVEL
        whiten = np.linalg.inv(np.linalg.cholesky(kernel[:, seen] + h.noise * np.eye(len(seen))))
        reduced = whiten @ kernel
        left = self.geometry.variance(h) - np.einsum("nk,nk->k", reduced, reduced)
        return reduced.T @ (whiten @ values), np.maximum(left, 1e-9), reduced

    @one_thread()
    def choose(self, beliefs: Sequence[Belief], seen: Indices, count: int) -> Indices:
        """The masks, one after another, that take most of the maps' variance away; targets count alike.

        A map's scale and offset are taken out of it first: normalisation does the same.
        """
        free = np.ones(len(self.shares), bool)
        free[seen] = False
        searches = [_Search(self, belief, count) for belief in beliefs]
        chosen: list[int] = []
        for _ in range(min(count, int(free.sum()))):
            gain = sum(search.gain() for search in searches)
            best = int(np.argmax(np.where(free, gain, -1)))
            free[best] = False
            chosen.append(best)
            for search in searches:
                search.take(best)
        return np.asarray(chosen, np.int64)

    @one_thread()
    def error(self, belief: Belief) -> float:
        """Root mean square by which the map in [0,1] is off, at most, in CONFIDENCE of the draws from the posterior."""
        raw = belief.weights @ self.shares
        values, vectors = np.linalg.eigh(belief.map_covariance())
        normal = np.random.default_rng(0).standard_normal((DRAWS, len(values)))
        draws = raw + (normal * np.sqrt(np.maximum(values, 0))) @ vectors.T
        both = np.concatenate([raw[None], draws]).reshape(-1, *self.grid).astype(np.float32)
        drawn = _normalised(upsample(both, tuple(2 * side for side in self.grid)))
        off = np.sqrt(np.square(drawn[1:] - drawn[0]).mean(axis=tuple(range(1, drawn.ndim))))
        return float(np.quantile(off, CONFIDENCE))


class _Search:
    """Greedy choice for one target: the belief as it will be once the chosen masks are seen, whatever they score."""

    def __init__(self, quadrature: Quadrature, belief: Belief, room: int) -> None:
        self._geometry, self._h = quadrature.geometry, belief.h
        directions = _seen_by_normalising(quadrature.shares, belief.weights)
        self._spread, self._left = belief.spread @ directions, belief.left.copy()
        self._reduced = np.concatenate([belief.reduced, np.zeros((room, len(belief.weights)))])
        self._seen = len(belief.reduced)
        self._projected = belief.rows @ directions
        self._whole = max(float(np.einsum("kc,kc->", self._projected, self._spread)), 1e-300)

    def gain(self) -> Vector:
        """(K,) the share of the map's variance that a mask would take away."""
        gain = np.einsum("kc,kc->k", self._spread, self._spread) / (self._left + self._h.noise)
        return np.asarray(gain / self._whole)

    def take(self, mask: int) -> None:
        known = self._reduced[: self._seen]
        column = self._geometry.covariance(self._h, slice(None), np.asarray([mask]))[:, 0] - known.T @ known[:, mask]
        own = max(float(column[mask]), 1e-9) + self._h.noise
        self._spread -= np.outer(column, self._projected[mask])
        self._projected[mask] = 0
        self._spread -= np.outer(column, (column @ self._projected) / own)
        self._reduced[self._seen] = column / np.sqrt(own)
        self._left = np.maximum(self._left - self._reduced[self._seen] ** 2, 1e-9)
        self._seen += 1


def _seen_by_normalising(shares: Matrix, weights: Vector) -> Matrix:
    """(cells,cells) projection of raw maps that takes their offset and the scale of the expected one out."""
    raw = weights @ shares
    raw -= raw.mean()
    directions = np.eye(len(raw)) - 1 / len(raw)
    length = float(raw @ raw)
    return directions - np.outer(raw, raw) / length if length > 0 else directions


def rounds(count: int, most: int) -> Iterator[int]:
    """How many masks are seen after each round."""
    seen = min(START, count, most)
    while True:
        yield seen
        if seen >= min(count, most):
            return
        seen = min(seen + max(LEAST, seen // GROWTH // LEAST * LEAST), count, most)


def _normalised(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """n(ReLU) of each of the maps (N,...), or n where ReLU leaves nothing; a constant one becomes zeros."""
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
