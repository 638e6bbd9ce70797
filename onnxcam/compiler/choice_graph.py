"""Which masks a Loop scores next: those that take most of the map's posterior variance away, one after another.

Quadrature.choose() of methods/estimate does the same with the likeliest kernel; here the kernel stays, and the masks
that vary least are left to the estimate.
"""

from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.element_types import DOUBLE
from onnxcam.compiler.loop_graph import LoopGraph
from onnxcam.compiler.process_graph import SMALLEST, TINY, Points
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Value

LENGTH, LINEAR, NOISE = 1.2, 0.1, 1e-2
"""The kernel by which masks are chosen."""
CANDIDATES = 512
"""Masks that may be chosen, those that vary most."""


@dataclass(frozen=True, eq=False)
class Whitened:
    """What is known of the masks (M) by those that were chosen, of which there are at most `room`.

    rows (room,M): the whitened covariance. inverse (room,room): of its Cholesky factor. variance (M,1): of what is not
    known yet. All in float64 and carried.
    """

    loop: LoopGraph
    rows: Value
    inverse: Value
    variance: Value

    def with_mask(self, points: Points, place: Value, real: Value, slot: Value) -> tuple["Whitened", Value, Value]:
        """Conditions on one more mask, at `place` (1,), if it is `real` (1,1). slot (room,1): 1 where it is stored.

        Also returns the posterior covariance (M,1) with it, and its own variance (1,1) with noise.
        """
        b = self.loop.b
        known = b("Gather", self.rows, place, axis=1)
        prior = b.squeeze(points.covariance(points.take(place), [LENGTH], LINEAR), [0])
        column = b("Sub", prior, b("MatMul", b("Transpose", self.rows, perm=[1, 0]), known))
        its_own = b("Max", b("Gather", column, place, axis=0), b.constant(SMALLEST, np.float64))
        variance = b("Add", its_own, b.constant(NOISE, np.float64))
        root = b("Sqrt", variance)
        row = b("Mul", b("Div", b("Transpose", column, perm=[1, 0]), root), real)
        unit = b("Transpose", slot, perm=[1, 0])
        along = b("MatMul", b("Transpose", known, perm=[1, 0]), self.inverse)
        inverse = b("Mul", b("Div", b("Sub", unit, along), root), real)
        square = b("Transpose", b("Mul", row, row), perm=[1, 0])
        left = b("Max", b("Sub", self.variance, square), b.constant(SMALLEST, np.float64))
        rows = b("Add", self.rows, b("MatMul", slot, row))
        grown = b("Add", self.inverse, b("MatMul", slot, inverse))
        return Whitened(self.loop, rows, grown, left), column, variance


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each candidate adds to the map for each unit by which its score is off: by_mask (T,C,cells).

    covariance (T,C,cells): the posterior covariance of the candidates times that. total (T,1): the map's variance.
    """

    by_mask: Value
    covariance: Value
    total: Value


def contributions(
    whitened: Whitened, points: Points, shares: Value, weights: Value, off: Value, candidates: int
) -> Contributions:
    """shares (M,cells), weights and deviations (M,T). What normalising a map takes away does not count.

    Weights and deviations are divided by their largest, which the choice does not depend on: so the squares of those of
    an unlikely class are not lost where a host computes in float32.
    """
    b = whitened.loop.b
    weights, off = _by_largest(b, weights), _by_largest(b, off)
    raw = b("MatMul", b("Transpose", weights, perm=[1, 0]), shares)
    raw = b.unsqueeze(b("Sub", raw, b.reduce("ReduceMean", raw, [1])), [1])  # (T,1,cells)
    length = b("Max", b.reduce("ReduceSum", b("Mul", raw, raw), [2]), b.constant(TINY, np.float64))
    front = b.constant(np.arange(candidates), np.int64)
    of_candidates = b("Gather", off, front, axis=0)
    scaled = b("Mul", b.unsqueeze(b("Transpose", of_candidates, perm=[1, 0]), [2]), b("Gather", shares, front, axis=0))
    centred = b("Sub", scaled, b.reduce("ReduceMean", scaled, [2]))
    along = b.reduce("ReduceSum", b("Mul", centred, raw), [2])
    by_mask = b("Sub", centred, b("Mul", raw, b("Div", along, length)))
    rows, few = b("Gather", whitened.rows, front, axis=1), points.first(candidates)
    posterior = b(
        "Sub",
        b.squeeze(few.covariance(few, [LENGTH], LINEAR), [0]),
        b("MatMul", b("Transpose", rows, perm=[1, 0]), rows),
    )
    covariance = b("MatMul", posterior, by_mask)
    total = b.reduce("ReduceSum", b("Mul", covariance, by_mask), [1, 2])
    return Contributions(by_mask, covariance, b("Max", total, b.constant(TINY, np.float64)))


def _by_largest(b: Builder, numbers: Value) -> Value:
    """(M,T) with the largest of each column 1; zeros stay."""
    return b("Div", numbers, b("Max", b.reduce("ReduceMax", b("Abs", numbers), [0]), b.constant(TINY, np.float64)))


def choose(
    whitened: Whitened, points: Points, parts: Contributions, free: Value, candidates: int, position: Value, room: int
) -> tuple[Whitened, Value]:
    """The masks of the next turn: (rows,) int64 places, -1 where none is left.

    free (C,1) bool: candidates that were not scored. position (): where the first of the turn is stored.
    """
    b, loop = whitened.loop.b, whitened.loop
    front = b.constant(np.arange(candidates), np.int64)
    by_mask, covariance, picked = parts.by_mask, parts.covariance, []
    for i in range(loop.rows):
        square = b("Div", b.reduce("ReduceSum", b("Mul", covariance, covariance), [2]), parts.total)
        gain = b.reduce("ReduceSum", square, [0], keepdims=False)  # (C,1)
        noisy = b("Add", b("Gather", whitened.variance, front, axis=0), b.constant(NOISE, np.float64))
        ranked = b("Where", free, b("Div", gain, noisy), b.constant(-1, np.float64))
        # OpenVINO takes an ArgMax only of a rank that it knows, and it knows none of what a Loop carries.
        place = b("ArgMax", b.reshape(ranked, [candidates]), axis=0)  # (1,)
        is_real = b("Not", b("Less", b("Gather", ranked, place, axis=0), b.constant(0, np.float64)))  # (1,1)
        real = b.cast(is_real, DOUBLE)
        slots = b("Equal", b.constant(np.arange(room)[:, None], np.int64), b("Add", position, b.constant(i, np.int64)))
        whitened, column, variance = whitened.with_mask(points, place, real, b.cast(slots, DOUBLE))
        column = b("Mul", b("Gather", column, front, axis=0), real)
        is_it = b.unsqueeze(b("Equal", front, place), [1])  # (C,1)
        its_part = b("Gather", by_mask, place, axis=1)  # (T,1,cells)
        covariance = b("Sub", covariance, b("Mul", column, its_part))
        by_mask = b("Where", is_it, b.constant(0, np.float64), by_mask)
        along = b("Div", b("MatMul", b("Transpose", column, perm=[1, 0]), by_mask), variance)
        covariance = b("Sub", covariance, b("Mul", column, along))
        free = b("And", free, b("Not", is_it))
        picked.append(b("Where", b.squeeze(is_real, [1]), place, b.constant(-1, np.int64)))
    return whitened, b("Concat", *picked, axis=0) if len(picked) > 1 else picked[0]
