"""What the scored masks foretell of all others under each kernel, whatever their scores are.

Masks are only added, so a round computes the rows of its new masks and keeps those before. Targets share all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.methods.estimate import cholesky
from onnxcam.methods.estimate.kernel import LEVEL, Geometry, Hyperparameters, matern
from onnxcam.products import product
from onnxcam.types import Doubles, Indices

KEPT = 2**22
"""Most numbers of the inverse factors that are kept for the next round: several pictures may be under way at once."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """All masks given the n scored ones, for one kernel.

    inverse (n,n): of the lower factor of the covariance among the scored ones. whitened (n,K): inverse times their
    covariance with all. variance (K,): what is left of the variance, in units of the signal's.
    """

    inverse: Doubles
    whitened: Doubles
    variance: Doubles

    def mean(self, values: Doubles) -> Doubles:
        """(K,) expected numbers of all masks, from those of the scored ones (n,)."""
        return product(self.whitened.T, product(self.inverse, values[:, None]))[:, 0]


class Conditioning:
    """Grows with the scored masks of one image, for a fixed set of kernels."""

    def __init__(self, geometry: Geometry, kernels: Sequence[Hyperparameters]) -> None:
        self._geometry, self._kernels = geometry, tuple(kernels)
        self._forget()

    def _forget(self) -> None:
        none = np.zeros((0, len(self._geometry.points)))
        self._scored: Indices = np.zeros(0, np.int64)
        self._distances = none, none
        self._inverses = np.zeros((len(self._kernels), 0, 0))
        self._predictions: dict[Hyperparameters, Prediction] = {}

    def scored(self, masks: Indices) -> None:
        """Takes in that the masks (n,) are scored; begins anew unless they begin with those of the last call."""
        before = len(self._scored)
        if not np.array_equal(masks[:before], self._scored):
            self._forget()
            before = 0
        if len(masks) == before:
            return
        # The kernels that no target asked for after the last round are dropped: there are seldom more than six.
        self._predictions = {k: p for k, p in self._predictions.items() if len(p.whitened) == before}
        new = self._geometry.distances(masks[before:], slice(None))
        squared, inner = (np.concatenate([old, rows]) for old, rows in zip(self._distances, new, strict=True))
        self._scored, self._distances = masks, (squared, inner)
        self._inverses = cholesky.grown(self._inverses, self._among_scored(before))

    def _among_scored(self, start: int) -> Doubles:
        """(kernels,m,n) covariance of the scored masks from `start` on with all scored ones."""
        squared, inner = (rows[start:, self._scored] for rows in self._distances)
        smooth = {length: matern(squared, length) for length in dict.fromkeys(k.length for k in self._kernels)}
        nugget = np.eye(len(squared), len(self._scored), k=start)
        return np.stack([smooth[k.length] + k.linear * inner + LEVEL + k.noise * nugget for k in self._kernels])

    def release(self) -> None:
        """Gives up what takes much memory: the next round computes it anew."""
        if self._inverses.size > KEPT:
            self._forget()

    def whitened(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """(kernels,n) the scored masks' numbers (n,) times the inverse factor of each kernel, and log|factor|."""
        logs = -np.log(np.diagonal(self._inverses, axis1=1, axis2=2)).sum(axis=1)
        return product(self._inverses, values[:, None])[..., 0], logs

    def prediction(self, kernel: Hyperparameters) -> Prediction:
        """All masks given the scored ones."""
        known = self._predictions.get(kernel)
        if known is None or len(known.whitened) < len(self._scored):
            known = self._predictions[kernel] = self._grown(kernel, known)
        return known

    def _grown(self, kernel: Hyperparameters, known: Prediction | None) -> Prediction:
        if known is None:
            none = np.zeros((0, len(self._geometry.points)))
            known = Prediction(np.zeros((0, 0)), none, self._geometry.variance(kernel))
        start = len(known.whitened)
        squared, inner = (rows[start:] for rows in self._distances)
        # Single precision is enough for what is at most 1 beside a nugget of 1e-3.
        smooth = matern(squared.astype(np.float32), kernel.length)
        covariance = smooth.astype(np.float64) + kernel.linear * inner + LEVEL
        among = covariance[:, self._scored] + kernel.noise * np.eye(len(covariance), len(self._scored), k=start)
        inverse = cholesky.grown(known.inverse, among)
        # L21 of the factor is the whitened covariance of the scored masks before with the new ones.
        below = known.whitened[:, self._scored[start:]].T
        rows = product(inverse[start:, start:], covariance - product(below, known.whitened))
        variance = known.variance - np.einsum("nk,nk->k", rows, rows)
        return Prediction(inverse, np.concatenate([known.whitened, rows]), variance)
