"""Score-CAM in a Loop: each turn scores a few of the feature maps as masks. methods/score_cam.py is the same.

Sums run in float64 there and here.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.budget import estimated_graph
from onnxcam.compiler.element_types import DOUBLE, FLOAT
from onnxcam.compiler.fill_graph import fill_image
from onnxcam.compiler.loop_graph import LoopGraph, State, body_model, rows_of_a_turn
from onnxcam.compiler.mask_queue import MaskQueue
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.methods.blocks import Convention
from onnxcam.methods.weighting import Variant, Weighting
from onnxcam.surgeon.graphs.finish_map import finished
from onnxcam.surgeon.graphs.masked_score import LOGIT, PROBABILITY, tensor_named
from onnxcam.surgeon.ir import Model, Value
from onnxcam.types import Score

LOWEST = -1e300
"""Below every logit."""


def score_cam_graph(prepared: Prepared) -> Model:
    """The finished graph of score-cam. Raises CompileError for a tolerance, which would need the error's bound."""
    options = prepared.method.options
    weighting = Weighting(Convention(options["convention"]), Variant(options["variant"]))
    if options["tolerance"] is not None:
        raise CompileError("score-cam can be compiled exact or with a budget, but not with a tolerance (--fast)")
    if options["budget"] is not None and options["budget"] < prepared.anatomy.features.channels:
        return rectified(*estimated_graph(prepared, weighting, options["budget"]))
    return _exact_graph(prepared, weighting)


def _exact_graph(prepared: Prepared, weighting: Weighting) -> Model:
    loop = LoopGraph(prepared, body_model(prepared), rows_of_a_turn(prepared))
    loop.fill_with(fill_image(loop))
    chosen, queue = loop.choose_targets(), MaskQueue.of(loop)
    maps = queue.next_maps()
    loop.mask_with(loop.b("Neg", maps) if weighting.destructive else maps)
    turn = _Turn(loop, queue.are_maps(), _flat(loop, maps), _weights(loop, weighting))
    total = turn.softmax_sum() if weighting.softmax else turn.sum()
    _, living = queue.fill()
    done = loop.b("Mul", loop.turn, loop.b.constant(loop.rows, np.int64))
    ends = loop.close(loop.b("Less", done, living))
    raw = ends[total.sum]
    if total.divisor is not None:
        raw = loop.outside("Div", raw, ends[total.divisor])
    return rectified(loop, raw, ends[chosen])


def rectified(loop: LoopGraph, raw: Value, chosen: Value) -> Model:
    """The finished model from raw maps (T,cells) in float64, which are not rectified yet, and classes (T,)."""
    o, features = loop.outside, loop.prepared.anatomy.features
    maps = o.reshape(loop.sound(o.cast(raw, FLOAT), chosen), [-1, 1, *features.grid])
    shown = finished(o, maps, features.grid, loop.prepared.size, coarse=False)
    return loop.publish(shown, maps, chosen)


@dataclass(frozen=True)
class Total:
    """sum: (T,cells) float64. divisor: (T,1) float64, by which the sum is divided; None for 1."""

    sum: State
    divisor: State | None = None


@dataclass(frozen=True, eq=False)
class _Turn:
    """are_maps (rows,1): which rows count. maps (rows,cells), weights (rows,T): float64."""

    loop: LoopGraph
    are_maps: Value
    maps: Value
    weights: Value

    def sum(self) -> Total:
        """Carries sum_k a_k A_k."""
        b = self.loop.b
        total = self._total()
        part = self._product(b("Where", self.are_maps, self.weights, b.constant(0, np.float64)))
        self.loop.carry(total, b("Add", total.now, part))
        return Total(total)

    def softmax_sum(self) -> Total:
        """Carries sum_k exp(a_k - top) A_k and sum_k exp(a_k - top), with the largest weight so far as `top`."""
        loop, b = self.loop, self.loop.b
        total, divisor = self._total(), loop.state(loop.zeros([1], DOUBLE, of_targets=True))
        lowest = loop.outside(
            "Sub", loop.zeros([1], DOUBLE, of_targets=True), loop.outside.constant(-LOWEST, DOUBLE.numpy())
        )
        top = loop.state(lowest)
        known = b("Where", self.are_maps, self.weights, b.constant(LOWEST, np.float64))
        now = b("Max", top.now, b("Transpose", b.reduce("ReduceMax", known, [0]), perm=[1, 0]))
        faded = b("Exp", b("Sub", top.now, now))
        grown = b("Exp", b("Sub", known, b("Transpose", now, perm=[1, 0])))
        grown = b("Where", self.are_maps, grown, b.constant(0, np.float64))
        sum_of_turn = b("Transpose", b.reduce("ReduceSum", grown, [0]), perm=[1, 0])
        loop.carry(top, now)
        loop.carry(total, b("Add", b("Mul", total.now, faded), self._product(grown)))
        loop.carry(divisor, b("Add", b("Mul", divisor.now, faded), sum_of_turn))
        return Total(total, divisor)

    def _total(self) -> State:
        cells = math.prod(self.loop.prepared.anatomy.features.grid)
        return self.loop.state(self.loop.zeros([cells], DOUBLE, of_targets=True))

    def _product(self, weights: Value) -> Value:
        b = self.loop.b
        return b("MatMul", b("Transpose", weights, perm=[1, 0]), self.maps)


def _flat(loop: LoopGraph, maps: Value) -> Value:
    cells = math.prod(loop.prepared.anatomy.features.grid)
    return loop.b.cast(loop.b.reshape(maps, [loop.rows, cells]), DOUBLE)


def _weights(loop: LoopGraph, weighting: Weighting) -> Value:
    """(rows,T) float64 weights of the turn's maps, of the softmax before it is taken."""
    b = loop.b
    scores = b.cast(tensor_named(loop.body, LOGIT if weighting.score is Score.LOGIT else PROBABILITY), DOUBLE)
    if not weighting.destructive:
        return scores
    original = loop.state(loop.zeros([1], DOUBLE, of_targets=True))
    unmasked = b("Transpose", b("Slice", scores, *(b.constant([n], np.int64) for n in (0, 1, 0))), perm=[1, 0])
    return b("Sub", b("Transpose", loop.carry_first(original, unmasked), perm=[1, 0]), scores)
