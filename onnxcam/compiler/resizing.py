"""Resizes a picture of any size inside the graph, with Pillow's filters and OpenCV's as inputs/preprocess.py has them.

One of Pillow's filters is a product with a matrix for each side, rounded to bytes after each. The matrices hold the
filter's weights, made of the sides (picture_sides.py). Only what the network sees is read, and a matrix is cut into
groups of rows, as each row reads few pixels. `nearest` and OpenCV's filter gather the pixels instead. Needs opset 13.

Hosts without float64 compute the same to a few pixels that differ by 1: what can be is integer arithmetic, and sums are
kept small enough for float32 to hold them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.compiler.picture_sides import (
    DOUBLE,
    FLOAT,
    INT,
    Side,
    clipped,
    doubled_centres,
    floor_of,
    inner,
    integer,
    ordinals,
    real,
)
from onnxcam.inputs.presets import Interpolation
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import END, Value

HALF = 2**11
"""Pillow rounds the weights of a filter to 22 bits, which are kept in two halves here."""
GROUP = 16
"""Rows of a matrix that are computed together, over all pixels that any of them reads."""
GREY = (19595.0, 38470.0, 7471.0)
"""Weights of red, green and blue in a grey pixel, times 65536, as Pillow rounds them."""


def resized(
    b: Builder, picture: Value, rows: Side, columns: Side, interpolation: Interpolation, *, grey: bool
) -> Value:
    """The bytes of the network's input as whole float32 numbers: (3,H,W) in the order of the picture, or (1,H,W) grey.

    Beyond the edges of a letterbox the outermost pixels are repeated.
    """
    if interpolation == "nearest":
        for axis, side in enumerate((rows, columns)):
            picture = b("Gather", picture, _nearest(b, side), axis=axis)
        return _planes(b, picture, grey=grey)
    if interpolation == "cv2-linear":
        return _between_neighbours(b, picture, rows, columns, grey=grey)
    matrices = [_matrix(b, side, FILTERS[interpolation]) for side in (rows, columns)]
    across_first, down_first = _orders(b, rows, columns)
    one = _columns(b, _seen(b, picture, matrices, across_first, grey=grey), matrices[1], across_first)
    one = _rows(b, one, matrices[0], across_first)
    other = _rows(b, _seen(b, picture, matrices, down_first, grey=grey), matrices[0], down_first)
    other = _columns(b, other, matrices[1], down_first)
    pixels = b("Where", b.cast(across_first, onnx_ir.DataType.BOOL), one, other)
    return b("Transpose", pixels, perm=[2, 0, 1])


def _planes(b: Builder, pixels: Value, *, grey: bool) -> Value:
    """Pixels (h,w,3) uint8 as float32 (3,h,w), or (1,h,w) of grey."""
    return b("Transpose", _grey(b, pixels) if grey else b.cast(pixels, FLOAT), perm=[2, 0, 1])


def _grey(b: Builder, pixels: Value) -> Value:
    """(h,w,1) float32, as Pillow converts (h,w,3)."""
    weighted = b("MatMul", b.cast(pixels, FLOAT), b.constant([[weight] for weight in GREY], np.float32))
    return _rounded(b, _times(b, weighted, 1 / 65536))


def _rounded(b: Builder, numbers: Value) -> Value:
    return b("Floor", b("Add", numbers, b.constant(0.5, np.float32)))


@dataclass(frozen=True)
class _Matrix:
    """The weights of a filter along one side, in groups of GROUP pixels of the input.

    high, low: (groups,GROUP,width) float32 whole numbers; the weights are (high * 2^11 + low) / 2^22. So the products
    with bytes add up in float32 without rounding. taps: (groups,width) int64, the picture's pixels that the weights
    belong to, less `start`. start, end: (1,) int64, the picture's pixels that are read. size: of the input.
    """

    high: Value
    low: Value
    taps: Value
    start: Value
    end: Value
    size: int


def _matrix(b: Builder, side: Side, kernel: "Filter") -> _Matrix:
    """A filter widens with the scale of a picture that shrinks.

    With distances in pixels times 2 * resized, the filter's argument is distance / (2 * max(source, resized)).
    """
    centres = b.reshape(doubled_centres(b, side, -(-side.size // GROUP) * GROUP), [-1, GROUP])
    longer, unit = b("Max", side.source, side.resized), b("Mul", side.resized, integer(b, 2))
    taps = _taps(b, side, centres, b("Mul", longer, integer(b, 2 * kernel.support)), unit)
    middles = b("Mul", b("Add", b("Mul", taps, integer(b, 2)), integer(b, 1)), side.resized)
    distance = b("Sub", b.unsqueeze(middles, [1]), b.unsqueeze(centres, [2]))
    high, low = _fixed_point(b, kernel.weights(b, distance, b("Mul", longer, integer(b, 2))), kernel.dtype)
    start = b("Slice", b.reshape(taps, [-1]), b.constant([0], np.int64), b.constant([1], np.int64))
    last = b("Slice", b.reshape(taps, [-1]), b.constant([-1], np.int64), b.constant([END], np.int64))
    return _Matrix(high, low, b("Sub", taps, start), start, b("Add", last, integer(b, 1)), side.size)


def _taps(b: Builder, side: Side, centres: Value, reach: Value, unit: Value) -> Value:
    """(groups,width) the pixels within reach of the centres (groups,GROUP) of each group.

    unit: how many units of centres and reach a pixel has.
    """
    begins = b("Div", b("Max", b("Sub", centres, reach), integer(b, 0)), unit)
    first, final = (b("Slice", begins, *(b.constant([n], np.int64) for n in (at, at + 1, 1))) for at in (0, GROUP - 1))
    count = b("Add", b("Div", b("Mul", reach, integer(b, 2)), unit), integer(b, 2))
    widest = b.reduce("ReduceMax", b("Sub", final, first), [0, 1], keepdims=False)
    width = b("Min", b("Add", widest, count), side.source)
    first = b("Min", first, b("Sub", side.source, width))
    return b("Add", first, ordinals(b, width))


def _fixed_point(b: Builder, weights: Value, dtype: onnx_ir.DataType) -> tuple[Value, Value]:
    """(high, low) of weights (groups,GROUP,width), divided by the sum of their row and rounded as Pillow does.

    Of whole weights the rest is exact, so that low is right where float64 is computed in float32.
    """
    total = b.reduce("ReduceSum", weights, [2])
    half = b.constant(HALF, dtype.numpy())
    scaled = b("Mul", weights, half)
    divisor = b.cast(total, DOUBLE)
    high = b("Round", b("Div", b.cast(scaled, DOUBLE), divisor))
    rest = b("Sub", scaled, b("Mul", b.cast(high, dtype), total))
    low = b("Div", b.cast(b("Mul", rest, half), DOUBLE), divisor)
    return b.cast(high, FLOAT), b.cast(b("Floor", b("Add", low, real(b, 0.5))), FLOAT)


def _orders(b: Builder, rows: Side, columns: Side) -> tuple[Value, Value]:
    """(1 if Pillow resizes the columns first, 1 if it resizes the rows first): the other is 0. Both (1,) int64.

    Pillow 13 begins with the rows where they shrink by more than twice the pixels that the columns shrink by.
    """
    lost = [b("Sub", side.source, side.resized) for side in (rows, columns)]
    down = b("And", b("Greater", lost[0], integer(b, 0)), b("Less", b("Mul", lost[1], integer(b, 2)), lost[0]))
    flag = b.unsqueeze(b.cast(down, INT), [0])
    return b("Sub", integer(b, 1), flag), flag


def _seen(b: Builder, picture: Value, matrices: Sequence[_Matrix], used: Value, *, grey: bool) -> Value:
    """The part of the picture that the matrices read, (h,w,3) or (h,w,1) uint8, if used is 1.

    One pixel if it is 0, so that the order that Pillow does not take costs nothing.
    """
    starts, ends = (b("Concat", *(getattr(m, e) for m in matrices), axis=0) for e in ("start", "end"))
    ends = b("Max", b("Mul", ends, used), integer(b, 1))
    seen = b("Slice", picture, b("Mul", starts, used), ends, b.constant([0, 1], np.int64))
    return b.cast(_grey(b, seen), onnx_ir.DataType.UINT8) if grey else seen


def _rows(b: Builder, pixels: Value, matrix: _Matrix, used: Value) -> Value:
    """Resizes the first axis: (h,w,C) bytes of any type to (H,w,C) float32."""
    windows = b("Gather", pixels, b("Mul", matrix.taps, used), axis=0)
    flat = b.cast(b("Reshape", windows, b.constant([0, 0, -1], np.int64)), FLOAT)
    high, low = b("MatMul", matrix.high, flat), b("MatMul", matrix.low, flat)
    whole = b("Floor", _times(b, low, 1 / HALF))
    numbers = b("Add", b("Add", high, whole), b.constant(HALF / 2, np.float32))
    bytes_ = b("Floor", _times(b, numbers, 1 / HALF))
    bytes_ = b("Min", b("Max", bytes_, b.constant(0, np.float32)), b.constant(255, np.float32))
    others = b("Slice", b("Shape", pixels), b.constant([1], np.int64), b.constant([3], np.int64))
    groups = b("Reshape", bytes_, b("Concat", b.constant([-1], np.int64), others, axis=0))
    if matrix.size % GROUP == 0:
        return groups
    return b("Slice", groups, b.constant([0], np.int64), b.constant([matrix.size], np.int64))


def _columns(b: Builder, pixels: Value, matrix: _Matrix, used: Value) -> Value:
    """Resizes the second axis, as _rows() the first."""
    turned = b("Transpose", pixels, perm=[1, 2, 0])
    return b("Transpose", _rows(b, turned, matrix, used), perm=[2, 0, 1])


@dataclass(frozen=True)
class Filter:
    """A filter of Pillow's. support: its half width at scale 1. weights: function of distances from its centre.

    weights(b, distance, unit): both int64; distance / unit is the filter's argument. The weights are of `dtype`, times
    any factor.
    """

    support: int
    dtype: onnx_ir.DataType
    weights: Callable[[Builder, Value, Value], Value]


def _triangle(b: Builder, distance: Value, unit: Value) -> Value:
    return b("Max", b("Sub", unit, b("Abs", distance)), integer(b, 0))


def _quotient(b: Builder, distance: Value, unit: Value) -> Value:
    return b("Div", b.cast(distance, DOUBLE), b.cast(unit, DOUBLE))


def _cubic(b: Builder, distance: Value, unit: Value) -> Value:
    """Keys' cubic convolution with a = -1/2."""
    x = b("Abs", _quotient(b, distance, unit))
    near = _polynomial(b, x, 1.5, -2.5, 0.0, 1.0)
    far = _polynomial(b, x, -0.5, 2.5, -4.0, 2.0)
    outer = b("Where", b("Less", x, real(b, 2)), far, real(b, 0))
    return b("Where", b("Less", x, real(b, 1)), near, outer)


def _polynomial(b: Builder, x: Value, *coefficients: float) -> Value:
    result = real(b, coefficients[0])
    for coefficient in coefficients[1:]:
        result = b("Add", b("Mul", result, x), real(b, coefficient))
    return result


def _lanczos(b: Builder, distance: Value, unit: Value) -> Value:
    """sinc(x) * sinc(x / 3) within 3."""
    x = _quotient(b, distance, unit)
    product = b("Mul", _sinc(b, x), _sinc(b, b("Mul", x, real(b, 1 / 3))))
    return b("Where", b("Less", b("Abs", x), real(b, 3)), product, real(b, 0))


def _sinc(b: Builder, x: Value) -> Value:
    x = b("Mul", x, real(b, np.pi))
    centre = b("Equal", x, real(b, 0))
    return b("Where", centre, real(b, 1), b("Div", b("Sin", x), b("Where", centre, real(b, 1), x)))


FILTERS: Mapping[Interpolation, Filter] = {
    "bilinear": Filter(1, INT, _triangle),
    "bicubic": Filter(2, DOUBLE, _cubic),
    "lanczos": Filter(3, DOUBLE, _lanczos),
}
"""Filters that are matrices."""


def _nearest(b: Builder, side: Side) -> Value:
    """(size,) the pixels that Pillow's nearest takes: it adds up the step from one to the next, rounding errors too."""
    step = b("Div", b.cast(side.source, DOUBLE), b.cast(side.resized, DOUBLE))
    later = b("Expand", step, b.unsqueeze(b("Sub", side.resized, integer(b, 1)), [0]))
    steps = b("Concat", b.unsqueeze(b("Mul", step, real(b, 0.5)), [0]), later, axis=0)
    reached = b("Gather", b("CumSum", steps, integer(b, 0)), inner(b, side), axis=0)
    exact = b("Div", doubled_centres(b, side, side.size), b("Mul", side.resized, integer(b, 2)))
    return clipped(b, floor_of(b, exact, reached), b("Sub", side.source, integer(b, 1)))


def _between_neighbours(b: Builder, picture: Value, rows: Side, columns: Side, *, grey: bool) -> Value:
    """OpenCV's linear resize of bytes: weights of 11 bits, rows added after each lost 4 bits, then 16."""
    parts, across = [], _neighbours(b, columns)
    for row, down in _neighbours(b, rows):
        line = b("Gather", picture, row, axis=0)
        pixels = [
            b("Mul", _planes(b, b("Gather", line, column, axis=1), grey=grey), _times(b, weight, 1 / 16))
            for column, weight in across
        ]
        parts.append(_weighted(b, b("Floor", b("Add", *pixels)), b.reshape(down, [-1, 1])))
    return b("Floor", _times(b, b("Add", b("Add", *parts), b.constant(2, np.float32)), 1 / 4))


def _weighted(b: Builder, numbers: Value, weights: Value) -> Value:
    """Whole numbers times weights, without the lowest 16 bits.

    float32 does not hold the product, so the weights are cut in two.
    """
    high = b("Floor", _times(b, weights, 1 / 64))
    low = b("Sub", _times(b, weights, 1 / 64), high)
    product = b("Add", b("Mul", numbers, high), b("Floor", b("Mul", numbers, low)))
    return b("Floor", _times(b, product, 1 / 1024))


def _times(b: Builder, numbers: Value, factor: float) -> Value:
    return b("Mul", numbers, b.constant(factor, np.float32))


def _neighbours(b: Builder, side: Side) -> list[tuple[Value, Value]]:
    """[(index, weight), (index, weight)], each (size,): the two pixels that each of the input's lies between.

    The weights are float32, whole numbers that add up to 2048.
    """
    unit = b("Mul", side.resized, integer(b, 2))
    ahead = b("Add", doubled_centres(b, side, side.size), side.resized)  # by a pixel, so that none is below 0
    index = b("Sub", b("Div", ahead, unit), integer(b, 1))
    rest = b("Sub", ahead, b("Mul", b("Add", index, integer(b, 1)), unit))
    low = b.cast(index, FLOAT)
    # OpenCV rounds the position to float32, and so the share.
    position = b("Add", low, b.cast(b("Div", b.cast(rest, DOUBLE), b.cast(unit, DOUBLE)), FLOAT))
    share = b("Sub", position, low)
    highest = b("Sub", side.source, integer(b, 1))
    return [
        (clipped(b, index, highest), _weight(b, b("Sub", b.constant(1, np.float32), share))),
        (clipped(b, b("Add", index, integer(b, 1)), highest), _weight(b, share)),
    ]


def _weight(b: Builder, share: Value) -> Value:
    return b("Round", _times(b, share, 2048))
