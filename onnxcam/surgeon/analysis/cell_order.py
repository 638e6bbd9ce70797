"""Where the cells of the grid lie in a feature tensor, and how it is reordered to maps (N,K,*grid) and back.

Any layout is described: NCHW, NHWC, tokens with a class token, columns before rows, windows, tokens in an unrolled
order. NumPy reorders arrays here; surgeon/graphs/device_kernels.py builds the same steps into a graph.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.analysis.factors import SPATIAL, Axes, Factor, Factored, extra_tokens, factors_of, is_spatial


@dataclass(frozen=True)
class CellOrder:
    """The steps from a tensor (N,...) to maps (N,K,*grid).

    extra: (axis, first, last) of the cells on an axis that has other tokens too, or None. parts: the sizes of the
    factors of all axes but the batch. order: the permutation of (batch, *parts) to batch, channels, cells. channels
    and grid are K and the sides. mirrored: the sides that run backwards. rolled: (side, the cell that comes first).
    """

    extra: tuple[int, int, int] | None
    parts: tuple[int, ...]
    order: tuple[int, ...]
    channels: int
    grid: tuple[int, ...]
    mirrored: tuple[int, ...] = ()
    rolled: tuple[tuple[int, int], ...] = ()

    def to_maps(self, tensor: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """(N,...) to (N,K,*grid) float32, without extra tokens."""
        data = np.asarray(tensor, np.float32)[self._cells(tensor.ndim)]
        maps = data.reshape(len(data), *self.parts).transpose(self.order).reshape(len(data), self.channels, *self.grid)
        for side, first in self.rolled:
            maps = np.roll(maps, first, 2 + side)
        return np.ascontiguousarray(self._turned(maps))

    def from_maps(self, maps: npt.NDArray[np.float32], tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The inverse: (N,K,*grid) in the tensor's own axes. tensor is that of one image; its extra tokens are kept."""
        permuted = (len(maps), *(self.parts[i - 1] for i in self.order[1:]))
        maps = self._turned(maps)
        for side, first in self.rolled:
            maps = np.roll(maps, -first, 2 + side)
        data = maps.reshape(permuted).transpose(np.argsort(self.order))
        cells = self._cells(tensor.ndim)
        if self.extra is None:
            return data.reshape(len(maps), *tensor.shape[1:])
        batch = np.repeat(tensor, len(maps), axis=0)
        batch[cells] = data.reshape(batch[cells].shape)
        return batch

    def _cells(self, rank: int) -> tuple[slice, ...]:
        index = [slice(None)] * rank
        if self.extra is not None:
            index[self.extra[0]] = slice(*self.extra[1:])
        return tuple(index)

    def _turned(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.flip(maps, tuple(2 + side for side in self.mirrored)) if self.mirrored else maps


@lru_cache(256)
def cell_order(axes: Axes, shape: tuple[int, ...]) -> CellOrder:
    """The order of the cells in a tensor with these axes and this shape, the batch first."""
    extra = None
    factors: list[tuple[Factor, bool]] = []  # with whether the axis lists cells
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if i == 0:
            continue
        if (others := extra_tokens(axis)) is not None:
            extra = (i, others[0], size - others[1])
        factors.extend((f, f.letter in SPATIAL) for f in factors_of(axis, size))
    letters = [n for n in SPATIAL if any(cell and f.letter == n for f, cell in factors)]
    channels = [i for i, (_, cell) in enumerate(factors) if not cell]
    cells = [
        i
        for n in letters
        for i in sorted((i for i, (f, _) in enumerate(factors) if f.letter == n), key=lambda i: -factors[i][0].stride)
    ]
    grid = tuple(math.prod(f.size for f, _ in factors if f.letter == n) for n in letters)
    mirrored = tuple(k for k, n in enumerate(letters) if any(f.letter == n and f.mirrored for f, _ in factors))
    shifts = [max((f.shift for f, _ in factors if f.letter == n), default=0) for n in letters]
    rolled = tuple((side, shift) for side, shift in enumerate(shifts) if shift)
    parts = tuple(f.size for f, _ in factors)
    order = (0, *(i + 1 for i in channels), *(i + 1 for i in cells))
    return CellOrder(extra, parts, order, math.prod(parts[i] for i in channels), grid, mirrored, rolled)


def layout_text(axes: Axes) -> str:
    """NCHW, NHWC, NTC (T=14x14) for tokens row by row, NTC (T=H2xW2xH4xW4) for another order."""
    letters, notes = [], []
    for axis in axes:
        if not is_spatial(axis) or isinstance(axis, str):
            letters.append(axis if isinstance(axis, str) else "?")
            continue
        assert isinstance(axis, Factored)
        letters.append("T")
        plain = [f.letter for f in axis.factors] == [n for n in SPATIAL if n in {f.letter for f in axis.factors}]
        whole = len(axis.factors) > 1 and plain and all(f.is_whole for f in axis.factors)
        sides = [f"{'' if whole else f.letter}{f.size}{_moved(f)}" for f in axis.factors]
        notes.append(f"T={'x'.join(sides)}")
    return "".join(letters) + (f" ({', '.join(notes)})" if notes else "")


def _moved(factor: Factor) -> str:
    return " mirrored" if factor.mirrored else f" rolled by {factor.shift}" if factor.shift else ""
