"""Nodes that reorder a feature tensor to maps, and back: what CellOrder does in numpy, in a graph."""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.analysis.cell_order import CellOrder
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import END, Value


def cell_maps(b: Builder, x: Value, order: CellOrder, sides: Sequence[int]) -> Value:
    """The tensor (N,*sides), in its own axis order, to maps (N,K,*grid) without extra tokens."""
    if order.extra is not None:
        axis, first, last = order.extra
        x = part(b, x, axis, first, last)
    if list(order.parts) != list(sides):
        x = b.reshape(x, [-1, *order.parts])
    if list(order.order) != sorted(order.order):
        x = b("Transpose", x, perm=list(order.order))
    x = b.reshape(x, [-1, order.channels, *order.grid])
    for side, first in order.rolled:
        x = _rolled(b, x, 2 + side, order.grid[side], first)
    return _turned(b, x, order)


def cell_tensor(b: Builder, maps: Value, order: CellOrder, sides: Sequence[int], original: Value) -> Value:
    """The inverse: maps (N,K,*grid) to the tensor (N,*sides).

    original: (N,*sides), whose extra tokens are kept; it is not read where there are none.
    """
    x = _turned(b, maps, order)
    for side, first in order.rolled:
        x = _rolled(b, x, 2 + side, order.grid[side], order.grid[side] - first)
    x = b.reshape(x, [-1, *(order.parts[i - 1] for i in order.order[1:])])
    x = b("Transpose", x, perm=np.argsort(order.order).tolist())
    if order.extra is None:
        return b.reshape(x, [-1, *sides])
    axis, first, last = order.extra
    cells = b.reshape(x, [-1, *(last - first if i + 1 == axis else d for i, d in enumerate(sides))])
    pieces = [part(b, original, axis, 0, first)] if first > 0 else []
    pieces += [cells, *([part(b, original, axis, last, END)] if last < sides[axis - 1] else [])]
    return b("Concat", *pieces, axis=axis)


def part(b: Builder, x: Value, axis: int, first: int, last: int) -> Value:
    """What lies from first to last, which is not in it, along one axis."""
    return b("Slice", x, *(b.constant([n], np.int64) for n in (first, last, axis)))


def _rolled(b: Builder, x: Value, axis: int, cells: int, shift: int) -> Value:
    """numpy.roll of an axis of so many cells."""
    ends = [(cells - shift, cells), (0, cells - shift)]
    return b("Concat", *(part(b, x, axis, *piece) for piece in ends), axis=axis)


def _turned(b: Builder, x: Value, order: CellOrder) -> Value:
    for side in order.mirrored:
        x = b("Slice", x, *(b.constant([n], np.int64) for n in (-1, -END, 2 + side, -1)))
    return x
