"""Mask (meaningful perturbation) in a Loop: each turn is a step of the descent. methods/mask.py is the same.

What is outside the network is computed in float64 there and here.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.compiler.adam_graph import AdamGraph
from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64
from onnxcam.compiler.fill_graph import fill_image
from onnxcam.compiler.loop_graph import LoopGraph, step_body
from onnxcam.compiler.opti_cam import PROBED
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.methods.mask import SCORE as SCORED
from onnxcam.methods.mask import Settings
from onnxcam.resampling import bilinear_matrix, is_small
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.cell_maps import part
from onnxcam.surgeon.graphs.finish_map import stretched
from onnxcam.surgeon.graphs.masked_score import tensor_named, upsampled
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE
from onnxcam.surgeon.ir import Model, Value


def mask_graph(prepared: Prepared) -> Model:
    """The finished graph of mask. Raises MissingGradient."""
    settings, size = Settings.of(prepared.method.options), prepared.size
    grid = settings.grid(size)
    loop = LoopGraph(prepared, step_body(prepared, SCORED), prepared.fixed or PROBED, one_row_a_target=True)
    b, o, fill = loop.b, loop.outside, fill_image(loop)
    shift = _shift(loop, settings)
    loop.see(_rolled_image(loop, loop.image, shift))
    loop.fill_with(None if fill is None else _rolled_image(loop, fill, shift))
    chosen = loop.choose_targets()
    start = o("Add", loop.zeros(grid, DOUBLE, of_targets=True), o.constant(settings.start, np.float64))
    m, adam = loop.state(start), AdamGraph.of(loop, start, settings.lr, 1e-8)
    large = _rolled(
        b, upsampled(b, b.unsqueeze(b.cast(m.now, FLOAT), [1]), grid, size), shift, range(2, 2 + len(size)), size
    )
    loop.mask_with(b("Where", loop.first, b.constant(1, np.float32), large))
    gradient = tensor_named(loop.body, GRADIENT)
    back = _rolled(b, gradient, b("Neg", shift), range(2, 2 + len(size)), size)
    by_m = _down(b, b.cast(b.squeeze(back, [1]), DOUBLE), size, grid)
    slope = b("Add", by_m if settings.deletes else b("Neg", by_m), _slope_of_penalties(b, m.now, settings, grid))
    moved = b("Min", b("Max", adam.step(m.now, slope), b.constant(0, np.float64)), b.constant(1, np.float64))
    loop.carry(m, b("Where", loop.first, m.now, moved))
    broken = loop.state(loop.zeros([1], DOUBLE, of_targets=True))
    loop.carry(broken, b("Add", broken.now, _is_broken(loop, gradient)))
    ends = loop.close(b("Less", loop.turn, b.constant(settings.max_iter, np.int64)))
    one = o.constant(1, np.float64)
    cells = o.cast(o.reshape(o("Sub", one, ends[m]) if settings.deletes else ends[m], [0, -1]), FLOAT)
    sound = loop.sound(cells, ends[chosen], o("Equal", ends[broken], o.constant(0, np.float64)))
    raw = o.reshape(sound, [-1, 1, *grid])
    return loop.publish(stretched(o, upsampled(o, raw, grid, size), range(2, 2 + len(size))), raw, ends[chosen])


def _shift(loop: LoopGraph, settings: Settings) -> Value:
    """(sides,) int64: pixels by which the turn rolls image and mask; none in the first turn."""
    b = loop.b
    table = np.concatenate([np.zeros((1, len(loop.prepared.size)), np.int64), settings.shifts(len(loop.prepared.size))])
    stored = b.constant(table, np.int32)
    return b.cast(b("Gather", stored, loop.turn, axis=0), INT64)


def _rolled_image(loop: LoopGraph, image: Value, shift: Value) -> Value:
    """An image in the model's layout, rolled."""
    entry = loop.prepared.anatomy.image
    axes = [entry.layout.index(letter) for letter in entry.letters]
    return _rolled(loop.b, image, shift, axes, loop.prepared.size)


def _rolled(b: Builder, x: Value, shift: Value, axes: Sequence[int], size: Sequence[int]) -> Value:
    """numpy.roll of x along these axes, of these sides, by the numbers of shift."""
    for side, (axis, length) in enumerate(zip(axes, size, strict=True)):
        by = b("Gather", shift, b.constant([side], np.int64), axis=0)
        places = b("Mod", b("Sub", b.constant(np.arange(length), np.int64), by), b.constant(length, np.int64))
        x = b("Gather", x, places, axis=axis)
    return x


def _down(b: Builder, gradient: Value, size: Sequence[int], grid: Sequence[int]) -> Value:
    """(T,*size) to (T,*grid): the transpose of upsampling, one side after another."""
    sides = list(size)
    for i, (length, cells) in enumerate(zip(size, grid, strict=True)):
        if not is_small(cells, length):
            raise CompileError(f"mask cannot be compiled for a side of {length} numbers and cells of this size")
        matrix = b.cast(b.constant(bilinear_matrix(cells, length), np.float32), DOUBLE)
        order = [0, *(1 + k for k in range(len(sides)) if k != i), 1 + i]
        rest = [side for k, side in enumerate(sides) if k != i]
        shorter = b("MatMul", b.reshape(b("Transpose", gradient, perm=order), [0, -1, length]), matrix)
        gradient = b("Transpose", b.reshape(shorter, [-1, *rest, cells]), perm=np.argsort(order).tolist())
        sides[i] = cells
    return gradient


def _slope_of_penalties(b: Builder, m: Value, settings: Settings, grid: Sequence[int]) -> Value:
    """d (area and variation) / d m, (T,*grid)."""
    cells = int(np.prod(grid))
    total = b.constant((-settings.area if settings.deletes else settings.area) / cells, np.float64)
    for i, side in enumerate(grid):
        if side == 1:
            continue
        later, earlier = (part(b, m, 1 + i, *ends) for ends in ((1, side), (0, side - 1)))
        steps = b("Sub", later, earlier)
        scale = settings.variation * settings.beta / (cells // side * (side - 1))
        size = b("Pow", b("Abs", steps), b.constant(settings.beta - 1, np.float64))
        pull = b("Mul", b("Mul", b.constant(scale, np.float64), b("Sign", steps)), size)
        low, high = [0] * 2 * (1 + len(grid)), [0] * 2 * (1 + len(grid))
        low[1 + i], high[len(grid) + 2 + i] = 1, 1
        pads = [b("Pad", pull, b.constant(each, np.int64)) for each in (low, high)]
        total = b("Add", total, b("Sub", *pads))
    return total


def _is_broken(loop: LoopGraph, gradient: Value) -> Value:
    """(T,1) float64: 1 where score or gradient are no numbers, or where the first step has no gradient; else 0."""
    b = loop.b
    flat = b.reshape(gradient, [0, -1])
    score = b.unsqueeze(tensor_named(loop.body, SCORE), [1])
    zero = b.constant(0, np.float32)
    nothing = b("Add", b("Mul", score, zero), b.reduce("ReduceSum", b("Mul", flat, zero), [1]))
    still = b("Equal", b.reduce("ReduceMax", b("Abs", flat), [1]), zero)
    stuck = b("And", still, b("Equal", loop.turn, b.constant(1, np.int64)))
    broken = b("Or", b("Not", b("Equal", nothing, zero)), stuck)
    return b.cast(b("And", broken, b("Not", loop.first)), DOUBLE)
