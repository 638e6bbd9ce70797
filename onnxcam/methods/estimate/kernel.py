"""The covariance of a Gaussian process over masks: how alike the scores of two masks are expected to be."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from onnxcam.products import product
from onnxcam.types import Doubles, Features, Floats, Indices

Distances = TypeVar("Distances", Floats, Doubles)
LEVEL = 100.0
"""Prior variance of the scores' common level: so large that next to nothing is assumed of it."""
BLOCK = 512
"""Indices of the covariance that are computed at a time; the full matrix is never in memory."""


class Hyperparameters(NamedTuple):
    """A kernel, in units of its signal variance.

    length: in units of the mean distance between masks. linear: the share of a linear kernel. noise: the nugget.
    """

    length: float
    linear: float
    noise: float


@dataclass(frozen=True, eq=False)
class Geometry:
    """The masks as points (K,cells), centred. squares (K,): squared lengths; spread: the mean squared distance."""

    points: Doubles
    squares: Doubles
    spread: float

    @staticmethod
    def of(maps: Features) -> "Geometry":
        """From masks (K,*grid): their points are the square roots of the normalised masks.

        Networks respond to contrast: what is dimmed to a tenth is still seen. Measured, the root predicts scores better
        than the mask itself or its square.
        """
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        low = flat.min(axis=1, keepdims=True)
        points = np.sqrt((flat - low) / (flat.max(axis=1, keepdims=True) - low))
        points -= points.mean(axis=0)
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
        smooth = np.empty_like(weights)
        points, squares = self.points.astype(np.float32), self.squares.astype(np.float32)
        single = weights.astype(np.float32)
        for i in range(0, len(weights), BLOCK):
            part = slice(i, i + BLOCK)
            squared = squares[part][:, None] + squares[None] - 2 * product(points[part], points.T)
            smooth[part] = product(matern(np.maximum(squared, 0) / np.float32(self.spread), kernel.length), single)
        linear = product(self.points, product(self.points.T, weights))
        return np.asarray(smooth + 2 * kernel.linear / self.spread * linear + LEVEL * weights.sum(axis=0))


def matern(squared: Distances, length: float) -> Distances:
    """Matern-5/2 of squared distances (Rasmussen & Williams 2006, equation 4.17)."""
    d: Distances = np.sqrt(squared * squared.dtype.type(5 / length**2))
    decay = np.exp(-d)
    d *= 1 + d / 3
    d += 1
    d *= decay
    return d
