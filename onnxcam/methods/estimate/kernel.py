"""How alike masks are: the covariance that a Gaussian process has over them."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from onnxcam.types import Features

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Distances = TypeVar("Distances", npt.NDArray[np.float32], npt.NDArray[np.float64])
LEVEL = 100.0
"""Prior variance of the scores' common level: as good as none is assumed."""
BLOCK = 512
"""Rows of the covariance that are computed at a time; the whole is never held."""


class Hyper(NamedTuple):
    """Of a kernel in units of its signal variance. length: of the mean distance between masks; noise: a nugget."""

    length: float
    linear: float
    noise: float


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the masks lie. points (K,cells) centred; squares (K,) their lengths; spread: mean squared distance."""

    points: Matrix
    squares: Vector
    spread: float

    @staticmethod
    def of(maps: Features) -> "Geometry":
        """Distances are between the roots of the normalised masks.

        Networks answer to contrast: what is dimmed to a tenth is still seen. Measured, the root predicts scores better
        than the mask itself or its square.
        """
        flat = maps.reshape(len(maps), -1).astype(np.float64)
        low = flat.min(axis=1, keepdims=True)
        points = np.sqrt((flat - low) / (flat.max(axis=1, keepdims=True) - low))
        points -= points.mean(axis=0)
        squares = np.einsum("kc,kc->k", points, points)
        return Geometry(points, squares, max(2 * float(squares.mean()), 1e-12))

    def distances(self, rows: Indices | slice, columns: Indices | slice) -> tuple[Matrix, Matrix]:
        """Squared distances in units of the spread, and inner products in the same unit."""
        inner = self.points[rows] @ self.points[columns].T
        squared = self.squares[rows][:, None] + self.squares[columns][None] - 2 * inner
        return np.maximum(squared, 0) / self.spread, 2 * inner / self.spread

    def variance(self, h: Hyper) -> Vector:
        """(K,) of the prior."""
        return np.asarray(1 + LEVEL + h.linear * 2 * self.squares / self.spread)

    def covariance(self, h: Hyper, rows: Indices | slice, columns: Indices | slice) -> Matrix:
        squared, inner = self.distances(rows, columns)
        return np.asarray(matern(squared, h.length) + h.linear * inner + LEVEL)

    def times(self, h: Hyper, weights: Matrix) -> Matrix:
        """(K,cells): the prior covariance of all masks times weights (K,cells), in float32 where nothing cancels."""
        found = np.empty_like(weights)
        points, squares = self.points.astype(np.float32), self.squares.astype(np.float32)
        single = weights.astype(np.float32)
        for i in range(0, len(weights), BLOCK):
            part = slice(i, i + BLOCK)
            squared = squares[part][:, None] + squares[None] - 2 * (points[part] @ points.T)
            found[part] = matern(np.maximum(squared, 0) / np.float32(self.spread), h.length) @ single
        linear = self.points @ (self.points.T @ weights)
        return np.asarray(found + 2 * h.linear / self.spread * linear + LEVEL * weights.sum(axis=0))


def matern(squared: Distances, length: float) -> Distances:
    """Matern-5/2 of squared distances (Rasmussen & Williams 2006, equation 4.17)."""
    d: Distances = np.sqrt(squared * squared.dtype.type(5 / length**2))
    decay = np.exp(-d)
    d *= 1 + d / 3
    d += 1
    d *= decay
    return d
