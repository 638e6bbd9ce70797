"""Normalisation: the affine function by which a graph changes its picture. normalisation.py reads it."""

from dataclasses import dataclass

import numpy as np

ROUNDING = 0.01
"""Relative error of constants in half precision, and of means that are given with three digits."""


@dataclass(frozen=True)
class Normalisation:
    """The graph computes scale * x + offset of each channel before its first layer.

    scale, offset: one number per channel that the layer takes. order: the input's channel that each of these is.
    lowest, highest: of the input's numbers, what the graph's quantisation can hold; None where it does not quantise.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    order: tuple[int, ...]
    lowest: float | None = None
    highest: float | None = None

    @property
    def is_identity(self) -> bool:
        """Whether the layer takes the input's own numbers, in their order."""
        return self.keeps_numbers and self.order == tuple(range(len(self.order)))

    @property
    def keeps_numbers(self) -> bool:
        """Whether scale is 1 and offset 0."""
        return bool(np.allclose(self.scale, 1, 0, 1e-6) and np.allclose(self.offset, 0, 0, 1e-6))

    @property
    def flips(self) -> bool:
        """Whether the first of three channels is swapped with the last."""
        return self.order == (2, 1, 0)
