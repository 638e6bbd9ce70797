"""The covariance of a Gaussian process over masks: how alike the scores of two masks are expected to be."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np

from onnxcam.products import product
from onnxcam.types import Doubles, Features, Floats, Indices

Distances = TypeVar("Distances", Floats, Doubles)
LEVEL = 100.0
"""Prior variance of the scores' common level: so large that next to nothing is assumed of it."""
BLOCK = 512
"""Indices of the covariance that are computed at a time."""
KEPT = 2**23
"""Most numbers in float32 of covariances between all masks that are kept for the next product."""


class Hyperparameters(NamedTuple):
    """A kernel, in units of its signal variance.

    length: in units of the mean distance between masks. linear: the share of a linear kernel. noise: the nugget.
    """

    length: float
    linear: float
    noise: float


@dataclass(frozen=True, eq=False)
class Geometry:
    """The masks as points (K,coordinates), centred. squares (K,): squared lengths; spread: the mean squared distance.

    kept: the smooth covariances of the last lengths, in blocks of rows.
    """

    points: Doubles
    squares: Doubles
    spread: float
    kept: dict[float, Sequence[Floats]] = field(default_factory=dict)

    @staticmethod
    def of(maps: Features) -> "Geometry":
        """From masks (K,*grid), by three sets of coordinates that count alike: see _coordinates()."""
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        low = flat.min(axis=1, keepdims=True)
        masks = (flat - low) / (flat.max(axis=1, keepdims=True) - low)
        points = np.concatenate([*_coordinates(masks, maps.shape[1:])], axis=1)
        squares = np.einsum("kc,kc->k", points, points)
        return Geometry(points, squares, max(2 * float(squares.mean()), 1e-12))

    def distances(self, rows: Indices | slice, columns: Indices | slice) -> tuple[Doubles, Doubles]:
        """Squared distances in units of the spread, and inner products in the same unit."""
        inner = product(self.points[rows], self.points[columns].T)
        squared = self.squares[rows][:, None] + self.squares[columns][None] - 2 * inner
        return np.maximum(squared, 0) / self.spread, 2 * inner / self.spread

    def variance(self, kernel: Hyperparameters) -> Doubles:
        """(K,) prior variance of each mask's score."""
        return np.asarray(1 + LEVEL + kernel.linear * 2 * self.squares / self.spread)

    def covariance(self, kernel: Hyperparameters, rows: Indices | slice, columns: Indices | slice) -> Doubles:
        """(rows,columns) prior covariance."""
        squared, inner = self.distances(rows, columns)
        return np.asarray(matern(squared, kernel.length) + kernel.linear * inner + LEVEL)

    def times(self, kernel: Hyperparameters, weights: Doubles) -> Doubles:
        """(K,cells): the prior covariance of all masks times weights (K,cells), in float32 where nothing cancels."""
        single = weights.astype(np.float32)
        smooth = np.concatenate([product(block, single) for block in self._smooth(kernel.length)])
        points, cells = self.points, weights.shape[1]
        if len(points) < 2 * cells:  # few masks on a fine grid: less work
            linear = product(product(points, points.T), weights)
        else:
            linear = product(points, product(points.T, weights))
        return np.asarray(smooth + 2 * kernel.linear / self.spread * linear + LEVEL * weights.sum(axis=0))

    def _smooth(self, length: float) -> Iterable[Floats]:
        """The Matern covariance between all masks, in blocks of BLOCK rows; kept if there is room."""
        count = len(self.points)
        if count**2 > KEPT:
            return self._blocks(length)
        if length not in self.kept:
            while (len(self.kept) + 1) * count**2 > KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[length] = [*self._blocks(length)]
        return self.kept[length]

    def _blocks(self, length: float) -> Iterator[Floats]:
        points, squares = self.points.astype(np.float32), self.squares.astype(np.float32)
        for i in range(0, len(points), BLOCK):
            part = slice(i, i + BLOCK)
            squared = squares[part][:, None] + squares[None] - 2 * product(points[part], points.T)
            yield matern(np.maximum(squared, 0) / np.float32(self.spread), length)


def _coordinates(masks: Doubles, grid: tuple[int, ...]) -> Iterator[Doubles]:
    """Sets of coordinates (K,cells) of masks (K,cells) in [0,1], each centred and of the same spread.

    Networks respond to contrast: what is dimmed to a tenth is still seen, so the root of a mask predicts its score
    better than the mask alone. Masks that show a neighbouring cell score alike, which the blurred ones say. docs/
    benchmarks.md has what the three gain over the roots alone.
    """
    for values in (np.sqrt(masks), np.sqrt(_blurred(masks, grid)), masks):
        centred = values - values.mean(axis=0)
        yield centred / math.sqrt(max(float(np.square(centred).sum()) / len(centred), 1e-12))


def _blurred(masks: Doubles, grid: tuple[int, ...]) -> Doubles:
    """(K,cells) the mean of each cell and its neighbours along every axis of the grid; the edge counts again."""
    blurred = masks.reshape(-1, *grid)
    for axis in range(1, blurred.ndim):
        last = blurred.shape[axis] - 1
        first, end = blurred.take([0], axis), blurred.take([last], axis)
        before = np.concatenate([first, blurred.take(range(last), axis)], axis)
        after = np.concatenate([blurred.take(range(1, last + 1), axis), end], axis)
        blurred = (before + blurred + after) / 3
    return blurred.reshape(masks.shape)


def matern(squared: Distances, length: float) -> Distances:
    """Matern-5/2 of squared distances (Rasmussen & Williams 2006, equation 4.17)."""
    d: Distances = np.sqrt(squared * squared.dtype.type(5 / length**2))
    decay = np.exp(-d)
    d *= 1 + d / 3
    d += 1
    d *= decay
    return d
