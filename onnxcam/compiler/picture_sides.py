"""The sides of a picture of any size as numbers of the graph: what it is resized to, and where it lies on the input.

As inputs/preprocess.py computes them, in float64 where that does. Needs opset 13.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.element_types import DOUBLE, INT64
from onnxcam.inputs.preprocess import before_crop
from onnxcam.inputs.presets import LETTERBOXES, Preset
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value


class SharingBuilder(Builder):
    """A Builder that stores equal constants once: hundreds of scalars would make a small model larger than itself."""

    def __init__(self, model: Model, prefix: str) -> None:
        super().__init__(model, prefix)
        self._stored: dict[tuple[str, tuple[int, ...], bytes], Value] = {}

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike) -> Value:
        """Stores an array of this type as an initializer, unless it did so before."""
        stored = np.asarray(array, dtype)
        key = (stored.dtype.str, stored.shape, stored.tobytes())
        if key not in self._stored:
            self._stored[key] = super().constant(stored, dtype)
        return self._stored[key]


@dataclass(frozen=True)
class Side:
    """One side of the picture, as int64 scalars of the graph.

    source: pixels of the picture. resized: pixels after the resize. corner: place of the first of these on the input,
    below 0 if the crop cuts it off. size: pixels of the network's input.
    """

    source: Value
    resized: Value
    corner: Value
    size: int


def integer(b: Builder, number: int) -> Value:
    """A constant int64 scalar."""
    return b.constant(number, np.int64)


def real(b: Builder, number: float) -> Value:
    """A constant float64 scalar."""
    return b.constant(number, np.float64)


def ordinals(b: Builder, count: Value) -> Value:
    """(count,) int64, from 0 on."""
    return b("Range", integer(b, 0), count, integer(b, 1))


def sides(b: Builder, picture: Value, preset: Preset, size: tuple[int, int]) -> tuple[Side, Side]:
    """(rows, columns) of a picture (H,W,3). size: (H,W) of the network's input."""
    shape = b("Shape", picture)
    sources = [b("Gather", shape, integer(b, axis), axis=0) for axis in (0, 1)]
    lengths = _lengths(b, sources, preset, size)
    corners = [_corner(b, length, side, preset) for length, side in zip(lengths, size, strict=True)]
    rows, columns = map(Side, sources, lengths, corners, size)
    return rows, columns


def _lengths(b: Builder, sources: list[Value], preset: Preset, size: tuple[int, int]) -> list[Value]:
    """What each side is resized to."""
    least = [before_crop(side, preset.crop) for side in size]
    if preset.resize == "squash":
        return [integer(b, side) for side in least]
    if preset.resize == "shortest" and least[0] == least[1]:
        short = b("Min", *sources)
        return [b("Div", b("Mul", integer(b, least[0]), source), short) for source in sources]
    if preset.resize == "letterbox-corner":
        return _lengths_below(b, sources, size)
    reals = [b.cast(source, DOUBLE) for source in sources]
    if preset.resize == "shortest":
        ratio = b("Min", *(b("Div", source, real(b, side)) for source, side in zip(reals, least, strict=True)))
        scaled = [b("Round", b("Div", source, ratio)) for source in reals]
    else:
        least = [1, 1]
        ratio = b("Min", *(b("Div", real(b, side), source) for source, side in zip(reals, size, strict=True)))
        scaled = [b("Round", b("Mul", source, ratio)) for source in reals]
    return [b("Max", integer(b, side), b.cast(length, INT64)) for side, length in zip(least, scaled, strict=True)]


def _lengths_below(b: Builder, sources: list[Value], size: tuple[int, int]) -> list[Value]:
    reals = [b.cast(source, DOUBLE) for source in sources]
    ratio = b("Min", *(b("Div", real(b, side), source) for side, source in zip(size, reals, strict=True)))
    products = [b("Mul", integer(b, side), other) for side, other in zip(size, sources[::-1], strict=True)]
    fits = b("Less", *products)  # the height: its ratio is the smaller one
    limit = b("Where", fits, *(integer(b, side) for side in size))
    divisor = b("Where", fits, *sources)
    lengths = []
    for source, number in zip(sources, reals, strict=True):
        exact = b("Div", b("Mul", source, limit), divisor)
        lengths.append(b("Max", floor_of(b, exact, b("Mul", number, ratio)), integer(b, 1)))
    return lengths


def floor_of(b: Builder, exact: Value, rounded: Value) -> Value:
    """The floor of a quotient that was computed in float64. exact: its floor in integers.

    A whole number may come out as just below itself, and its floor as one less. Float32 errs by more, so where that is
    all that a host has, the integers count.
    """
    below = b("Sub", b.cast(exact, DOUBLE), rounded)
    short = b("And", b("Greater", below, real(b, 0)), b("Less", below, real(b, 1e-8)))
    return b("Sub", exact, b.cast(short, INT64))


def _corner(b: Builder, length: Value, size: int, preset: Preset) -> Value:
    if preset.resize == "letterbox-corner":
        return integer(b, 0)
    rest = b("Sub", integer(b, size), length)
    if preset.resize in LETTERBOXES:
        return b("Div", rest, integer(b, 2))
    return b.cast(b("Round", b("Mul", b.cast(rest, DOUBLE), real(b, 0.5))), INT64)


def places(b: Builder, side: Side, count: int | None = None) -> Value:
    """(count,) for each pixel of the input its place on the resized picture, without clipping."""
    return b("Sub", ordinals(b, integer(b, side.size if count is None else count)), side.corner)


def inner(b: Builder, side: Side, count: int | None = None) -> Value:
    """As places(), with the edge of the picture for what lies beyond it. count: of the pixels, `size` by default."""
    return clipped(b, places(b, side, count), b("Sub", side.resized, integer(b, 1)))


def clipped(b: Builder, numbers: Value, highest: Value) -> Value:
    """Whole numbers from 0 to the highest."""
    return b("Min", b("Max", numbers, integer(b, 0)), highest)


def doubled_centres(b: Builder, side: Side, count: int) -> Value:
    """(count,) the centres of the input's pixels on the picture, in pixels times 2 * resized: whole numbers."""
    odd = b("Add", b("Mul", inner(b, side, count), integer(b, 2)), integer(b, 1))
    return b("Mul", odd, side.source)
