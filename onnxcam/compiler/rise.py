"""RISE in a Loop: each turn makes a few of the random masks and scores them. methods/rise.py is the same.

The cells and shifts that its generator draws are in the file, a bit for each cell.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64
from onnxcam.compiler.fill_graph import fill_image
from onnxcam.compiler.loop_graph import LoopGraph, body_model, rows_of_a_turn
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.methods.maps import SAME
from onnxcam.methods.rise import RandomMasks
from onnxcam.resampling import bilinear_matrix, is_small
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.finish_map import stretched
from onnxcam.surgeon.graphs.masked_score import PROBABILITY, tensor_named
from onnxcam.surgeon.ir import Model, Value


def rise_graph(prepared: Prepared) -> Model:
    """The finished graph of rise."""
    options, size = prepared.method.options, prepared.size
    masks = RandomMasks(options["masks"], options["cells"], options["probability"], options["seed"])
    loop = LoopGraph(prepared, body_model(prepared), rows_of_a_turn(prepared))
    b, pixels = loop.b, math.prod(size)
    loop.fill_with(fill_image(loop))
    chosen = loop.choose_targets()
    turn = _Turn.of(loop, masks)
    loop.mask_with(b("Where", loop.first, b.constant(1, np.float32), turn.masks))
    scores = b.cast(tensor_named(loop.body, PROBABILITY), DOUBLE)
    zeros = loop.zeros([pixels], DOUBLE, of_targets=True)
    total, low, high = loop.state(zeros), *(loop.state(_level(loop, v)) for v in (math.inf, -math.inf))
    weights = b("Transpose", b("Where", turn.counts, scores, b.constant(0, np.float64)), perm=[1, 0])
    flat = b.cast(b.reshape(turn.masks, [loop.rows, pixels]), DOUBLE)
    loop.carry(total, b("Add", total.now, b("MatMul", weights, flat)))
    for state, end, none in ((low, "Min", math.inf), (high, "Max", -math.inf)):
        extreme = b.reduce(f"Reduce{end}", b("Where", turn.counts, scores, b.constant(none, np.float64)), [0])
        loop.carry(state, b(end, state.now, b("Transpose", extreme, perm=[1, 0])))
    ends = loop.close(b("Less", loop.turn, b.constant(math.ceil(masks.count / loop.rows), np.int64)))
    o = loop.outside
    mean = o.cast(o("Div", ends[total], o.constant(masks.count * masks.probability, np.float64)), FLOAT)
    raw = o.reshape(loop.sound(mean, ends[chosen], _differ(o, ends[low], ends[high])), [-1, 1, *size])
    return loop.publish(stretched(o, raw, range(2, 2 + len(size))), raw, ends[chosen])


def _level(loop: LoopGraph, value: float) -> Value:
    """(T,1) float64, all of this value."""
    return loop.outside("Add", loop.zeros([1], DOUBLE, of_targets=True), loop.outside.constant(value, np.float64))


def _differ(o: Builder, low: Value, high: Value) -> Value:
    """(T,1) bool: whether the scores from `low` to `high` differ by more than rounding."""
    largest = o("Max", o("Abs", low), o("Abs", high))
    return o("Greater", o("Sub", high, low), o("Mul", largest, o.constant(SAME, np.float64)))


@dataclass(frozen=True, eq=False)
class _Turn:
    """masks: (rows,1,*size) of this turn. counts: (rows,1) bool, which of them are masks and no padding."""

    masks: Value
    counts: Value

    @staticmethod
    def of(loop: LoopGraph, random: RandomMasks) -> "_Turn":
        b, size = loop.b, loop.prepared.size
        kept, shifts = (np.concatenate(parts) for parts in zip(*random.draws(size), strict=True))
        room = loop.rows * math.ceil(random.count / loop.rows)
        bits = np.packbits(kept.reshape(random.count, -1), axis=1, bitorder="little")
        turn = b("Max", b("Sub", loop.turn, b.constant(1, np.int64)), b.constant(0, np.int64))
        position = b("Mul", turn, b.constant(loop.rows, np.int64))
        places = b("Add", position, b.constant(np.arange(loop.rows), np.int64))
        cells = _unpacked(b, b("Gather", b.constant(_padded(bits, room), np.uint8), places, axis=0), kept.shape[1:])
        smallest = np.uint8 if shifts.max() < 256 else np.int32
        moved = b.cast(b("Gather", b.constant(_padded(shifts, room), smallest), places, axis=0), INT64)
        masks, sides = cells, list(kept.shape[1:])
        for side, (large, pixels) in enumerate(zip(random.large(size), size, strict=True)):
            if not is_small(random.cells, large):
                raise CompileError(f"rise cannot be compiled for a side of {pixels} numbers and cells of this size")
            masks = _enlarged(b, masks, sides, moved, side, bilinear_matrix(random.cells, large), pixels)
            sides[side] = pixels
        counts = b.unsqueeze(b("Less", places, b.constant(random.count, np.int64)), [1])
        never = b("And", counts, b("Not", loop.first))
        return _Turn(b.reshape(masks, [loop.rows, 1, *size]), never)


def _padded(table: npt.NDArray[np.generic], rows: int) -> npt.NDArray[np.generic]:
    return np.pad(table, [(0, rows - len(table)), (0, 0)])


def _unpacked(b: Builder, packed: Value, cells: tuple[int, ...]) -> Value:
    """Bytes (rows,n), the lowest bit first, to (rows,*cells) float32 of 0 and 1."""
    numbers = b.unsqueeze(b.cast(packed, FLOAT), [2])
    shifted = b("Floor", b("Div", numbers, b.constant(2.0 ** np.arange(8), np.float32)))
    halves = b("Floor", b("Mul", shifted, b.constant(0.5, np.float32)))
    bits = b("Sub", shifted, b("Mul", halves, b.constant(2, np.float32)))
    count = math.prod(cells)
    flat = b("Slice", b.reshape(bits, [0, -1]), *(b.constant([n], np.int64) for n in (0, count, 1)))
    return b.reshape(flat, [-1, *cells])


def _enlarged(
    b: Builder, x: Value, sides: list[int], shifts: Value, side: int, matrix: npt.NDArray[np.float32], pixels: int
) -> Value:
    """Grids (rows,*sides) enlarged along one side, and cropped to `pixels` from each one's shift on."""
    shift = b("Gather", shifts, b.constant([side], np.int64), axis=1)
    places = b("Add", shift, b.constant(np.arange(pixels), np.int64))
    cropped = b("Gather", b.constant(matrix, np.float32), places, axis=0)  # (rows,pixels,cells)
    order = [0, *(1 + i for i in range(len(sides)) if i != side), 1 + side]
    rows = b.reshape(b("Transpose", x, perm=order), [0, -1, sides[side]])
    longer = b("MatMul", rows, b("Transpose", cropped, perm=[0, 2, 1]))
    rest = [s for i, s in enumerate(sides) if i != side]
    return b("Transpose", b.reshape(longer, [-1, *rest, pixels]), perm=np.argsort(order).tolist())
