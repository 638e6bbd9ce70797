"""Resizes a picture of any size inside the graph, with Pillow's filters and OpenCV's as inputs/preprocess.py has them.

One of Pillow's filters is a product with a matrix for each side, rounded to bytes after each. The matrices hold the
filter's weights, made of the sides (picture_sides.py). Only what the network sees is read, and a matrix is cut into
groups of rows, as each row reads few pixels. `nearest` and OpenCV's filter gather the pixels instead. Needs opset 13.

Hosts that compute float64 in float32 and int64 in int32, as OpenVINO, give the same bytes: what can be is integer
arithmetic, and sums are kept small enough for float32 to hold them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64
from onnxcam.compiler.picture_sides import Side, clipped, doubled_centres, floor_of, inner, integer, ordinals, real
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
    high, low = _fixed_point(b, *kernel.weights(b, distance, b("Mul", longer, integer(b, 2))))
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


def _fixed_point(b: Builder, whole: Value, part: Value | None) -> tuple[Value, Value]:
    """(high, low) of weights (groups,GROUP,width), divided by the sum of their row and rounded as Pillow does.

    The rest of the whole numbers is exact, so that low is right where float64 is computed in float32.
    """
    total = b.reduce("ReduceSum", whole, [2])
    divisor = b.cast(total, DOUBLE)
    scaled = b("Mul", whole, integer(b, HALF))
    high = b("Round", b("Div", b.cast(scaled, DOUBLE), divisor))
    rest = b.cast(b("Sub", scaled, b("Mul", b.cast(high, INT64), total)), DOUBLE)
    if part is not None:
        sum_of_parts = b.reduce("ReduceSum", part, [2])
        rest = b("Add", rest, b("Sub", b("Mul", part, real(b, HALF)), b("Mul", high, sum_of_parts)))
        divisor = b("Add", divisor, sum_of_parts)
    low = b("Div", b("Mul", rest, real(b, HALF)), divisor)
    return b.cast(high, FLOAT), b.cast(b("Floor", b("Add", low, real(b, 0.5))), FLOAT)


def _orders(b: Builder, rows: Side, columns: Side) -> tuple[Value, Value]:
    """(1 if Pillow resizes the columns first, 1 if it resizes the rows first): the other is 0. Both (1,) int64.

    Pillow 13 begins with the rows where they shrink by more than twice the pixels that the columns shrink by.
    """
    lost = [b("Sub", side.source, side.resized) for side in (rows, columns)]
    down = b("And", b("Greater", lost[0], integer(b, 0)), b("Less", b("Mul", lost[1], integer(b, 2)), lost[0]))
    flag = b.unsqueeze(b.cast(down, INT64), [0])
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

    weights(b, distance, unit): both int64; distance / unit is the filter's argument. The weights, times any factor, are
    whole numbers (int64) and what these lack (float64, at most 1/2; None for nothing).
    """

    support: int
    weights: Callable[[Builder, Value, Value], tuple[Value, Value | None]]


def _triangle(b: Builder, distance: Value, unit: Value) -> tuple[Value, None]:
    return b("Max", b("Sub", unit, b("Abs", distance)), integer(b, 0)), None


CELLS, LARGEST = 2**7, 2.0**19
"""Pieces of a filter for each unit of its argument. What stands for a weight of 1: HALF times that fits into int32."""


def _tabled(support: int, series: Callable[[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]]) -> Filter:
    """A filter by its Taylor series at the beginning of each of CELLS pieces.

    series(x): the values, the derivatives, half the second derivatives and so on, at x.

    A series has a large constant term, a whole number from a table, and small ones: so float32 gives 30 bits.
    """
    terms = np.stack(series(np.arange(support * CELLS) / CELLS)) * LARGEST
    terms /= np.float64(CELLS) ** np.arange(len(terms))[:, None]
    table = np.pad(terms, [(0, 0), (0, 1)])  # nothing at the support and beyond it
    whole = np.round(table[0])
    table[0] -= whole

    def weights(b: Builder, distance: Value, unit: Value) -> tuple[Value, Value]:
        at = b("Mul", b("Abs", distance), integer(b, CELLS))
        piece = b("Div", at, unit)
        within = b("Div", b.cast(b("Sub", at, b("Mul", piece, unit)), DOUBLE), b.cast(unit, DOUBLE))
        piece = b("Min", piece, integer(b, support * CELLS))
        parts = [b("Gather", b.constant(term, np.float64), piece) for term in reversed(table)]
        result = parts[0]
        for part in parts[1:]:
            result = b("Add", b("Mul", result, within), part)
        more = b("Round", result)
        return b("Add", b("Gather", b.constant(whole, np.int64), piece), b.cast(more, INT64)), b("Sub", result, more)

    return Filter(support, weights)


def _cubic(x: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Keys' cubic convolution with a = -1/2."""
    near, far = (np.polynomial.Polynomial(c) for c in ((1, 0, -2.5, 1.5), (2, -4, 2.5, -0.5)))
    return [
        np.where(x < 1, *((p.deriv(order) if order else p)(x) for p in (near, far))) / math.factorial(order)
        for order in range(4)
    ]


def _lanczos(x: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """sinc(x) * sinc(x / 3), to the 8th power."""
    slow = [term / 3**order for order, term in enumerate(_sinc(x / 3))]
    fast = _sinc(x)
    return [sum(fast[i] * slow[order - i] for i in range(order + 1)) for order in range(len(fast))]


def _sinc(x: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """The Taylor series of sinc: the mean of cos(pi x t) over t in [0,1], by Gauss and Legendre."""
    nodes, shares = np.polynomial.legendre.leggauss(32)
    t = np.pi * (nodes + 1) / 2
    angles = np.multiply.outer(x, t)
    return [np.cos(angles + order * np.pi / 2) @ (shares / 2 * t**order) / math.factorial(order) for order in range(9)]


FILTERS: Mapping[Interpolation, Filter] = {
    "bilinear": Filter(1, _triangle),
    "bicubic": _tabled(2, _cubic),
    "lanczos": _tabled(3, _lanczos),
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
