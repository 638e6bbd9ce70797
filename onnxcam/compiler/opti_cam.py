"""Opti-CAM in a Loop: each turn is a step of the search, of all targets and starts. methods/opti_cam.py is the same.

A row of a state is one start of one target. What is outside the network is computed in float64 there and here.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.adam_graph import AdamGraph
from onnxcam.compiler.element_types import DOUBLE, FLOAT, INT64
from onnxcam.compiler.fill_graph import fill_image
from onnxcam.compiler.loop_graph import LoopGraph, State, step_body
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.methods.opti_cam import Settings
from onnxcam.surgeon.graphs.finish_map import stretched
from onnxcam.surgeon.graphs.masked_score import tensor_named, upsampled
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE
from onnxcam.surgeon.ir import Model, Value

PROBED = 2
"""Samples of the run that shows where the samples of an output lie."""


def opti_cam_graph(prepared: Prepared) -> Model:
    """The finished graph of opti-cam. Raises MissingGradient."""
    settings, features = Settings.of(prepared.method.options), prepared.anatomy.features
    if prepared.fixed is not None and settings.starts > 1:
        raise CompileError("this model takes one image at a time, so opti-cam can be compiled with one start only")
    loop = LoopGraph(prepared, step_body(prepared, settings.score), prepared.fixed or PROBED, one_row_a_target=True)
    loop.fill_with(fill_image(loop))
    chosen, search = loop.choose_targets(settings.starts), _Search.of(loop, settings)
    goes_on = search.step()
    ends, o = loop.close(goes_on), loop.outside
    weights = o("Softmax", search.best_coefficients(ends), axis=1)
    mask = o.cast(o("MatMul", weights, ends[search.maps]), FLOAT)
    sound = loop.sound(mask, ends[chosen], search.has_started(ends))
    raw = o.reshape(sound, [-1, 1, *features.grid])
    shown = stretched(o, upsampled(o, raw, features.grid, prepared.size), range(2, 2 + len(prepared.size)))
    return loop.publish(shown, raw, ends[chosen])


@dataclass(frozen=True, eq=False)
class _Search:
    """The carried state. maps: (K,cells) float64, zeros in the first turn.

    u, best_u (rows,K): the coefficients, and those of the best score. open, started (rows,1) bool: whether the row is
    moving, and whether its first step had a gradient. last, best (rows,1): scores times the sign of the settings.
    """

    loop: LoopGraph
    settings: Settings
    maps: State
    u: State
    best_u: State
    open: State
    started: State
    last: State
    best: State
    adam: AdamGraph

    @staticmethod
    def of(loop: LoopGraph, settings: Settings) -> "_Search":
        features, o = loop.prepared.anatomy.features, loop.outside
        channels, cells = features.channels, math.prod(features.grid)
        starts = o.constant(settings.coefficients(channels)[None], np.float64)
        counts = o("Concat", o("Shape", loop.target), o.constant([1, 1], np.int64), axis=0)
        u = o.reshape(o("Tile", starts, counts), [-1, channels])
        column = o("Mul", o.reduce("ReduceMean", u, [1]), o.constant(0, np.float64))
        is_zero = o("Equal", column, o.constant(0, np.float64))
        above, below = (o("Add", column, o.constant(end, np.float64)) for end in (math.inf, -math.inf))
        return _Search(
            loop, settings, loop.state(loop.zeros([channels, cells], DOUBLE)), loop.state(u), loop.state(u),
            loop.state(is_zero), loop.state(o("Not", is_zero)), loop.state(above), loop.state(below),
            AdamGraph.of(loop, u, settings.lr, settings.epsilon),
        )  # fmt: skip

    def step(self) -> Value:
        """One turn. Returns whether another one follows."""
        loop, b, features = self.loop, self.loop.b, self.loop.prepared.anatomy.features
        cells, sign = math.prod(features.grid), b.constant(self.settings.sign, np.float64)
        weights = b("Softmax", self.u.now, axis=1)
        masks = b("MatMul", weights, self.maps.now)
        loop.mask_with(b.reshape(b.cast(b("Mul", sign, masks), FLOAT), [-1, 1, *features.grid]))
        value = b("Mul", sign, b.unsqueeze(b.cast(tensor_named(loop.body, SCORE), DOUBLE), [1]))
        slope = b.cast(b.reshape(tensor_named(loop.body, GRADIENT), [-1, cells]), DOUBLE)
        going = self._learn(value, slope)
        self._move(going, weights, self._without_invariances(slope, masks))
        loop.carry_first(self.maps, b.cast(b.reshape(loop.features(), [features.channels, cells]), DOUBLE))
        any_going = b(
            "Greater", b.reduce("ReduceMax", b.cast(going, INT64), [0, 1], keepdims=False), b.constant(0, np.int64)
        )
        steps_left = b("Less", loop.turn, b.constant(self.settings.max_iter + 1, np.int64))
        return b("Or", loop.first, b("And", any_going, steps_left))

    def _learn(self, value: Value, slope: Value) -> Value:
        """Carries the best coefficients so far. Returns (rows,1) bool: which rows move on."""
        loop, b = self.loop, self.loop.b
        zero = b.constant(0, np.float64)
        nothing = b("Add", b("Mul", value, zero), b.reduce("ReduceSum", b("Mul", slope, zero), [1]))
        sound = b("Equal", nothing, zero)
        open_now = b("And", self.open.now, b("Not", loop.first))
        better = b("And", b("And", open_now, sound), b("Greater", value, self.best.now))
        loop.carry(self.best, b("Where", better, value, self.best.now))
        loop.carry(self.best_u, b("Where", better, self.u.now, self.best_u.now))
        change = b("Abs", b("Sub", value, self.last.now))
        moved = b("Not", b("Less", change, b.constant(self.settings.tolerance, np.float64)))
        loop.carry(self.last, b("Where", open_now, value, self.last.now))
        going = b("And", b("And", open_now, sound), moved)
        loop.carry(self.open, b("Or", b("And", loop.first, self.open.now), going))
        steep = b("Greater", b.reduce("ReduceMax", b("Abs", slope), [1]), zero)
        begins = b("Equal", loop.turn, b.constant(1, np.int64))
        start = b("And", begins, b("And", sound, steep))
        loop.carry(self.started, b("Or", start, b("And", b("Not", begins), self.started.now)))
        return going

    def _move(self, going: Value, weights: Value, by_mask: Value) -> None:
        """Carries the coefficients, one step of Adam further where rows move on."""
        loop, b = self.loop, self.loop.b
        by_u = b("Mul", weights, b("MatMul", by_mask, b("Transpose", self.maps.now, perm=[1, 0])))
        moved = self.adam.step(self.u.now, b("Neg", by_u))
        if self.settings.bounds is not None:
            low, high = (b.constant(end, np.float64) for end in self.settings.bounds)
            moved = b("Min", b("Max", moved, low), high)
        loop.carry(self.u, b("Where", going, moved, self.u.now))

    def _without_invariances(self, slope: Value, masks: Value) -> Value:
        """d score / dS without its parts along a constant and along S, as methods/opti_cam.py says."""
        b = self.loop.b
        slope, centred = (b("Sub", x, b.reduce("ReduceMean", x, [1])) for x in (slope, masks))
        square, along = (b.reduce("ReduceSum", b("Mul", x, centred), [1]) for x in (centred, slope))
        length = b("Max", square, b.constant(np.finfo(np.float64).tiny, np.float64))
        return b("Sub", slope, b("Mul", centred, b("Div", along, length)))

    def has_started(self, ends: dict[State, Value]) -> Value:
        """(T,1) bool: whether any start of the target had a gradient."""
        o = self.loop.outside
        each = o.reshape(o.cast(ends[self.started], INT64), [-1, self.settings.starts])
        return o("Greater", o.reduce("ReduceMax", each, [1]), o.constant(0, np.int64))

    def best_coefficients(self, ends: dict[State, Value]) -> Value:
        """(T,K) of each target's best start."""
        o, starts = self.loop.outside, self.settings.starts
        if starts == 1:
            return ends[self.best_u]
        channels = self.loop.prepared.anatomy.features.channels
        best = o("ArgMax", o.reshape(ends[self.best], [-1, starts]), axis=1, keepdims=1)
        is_best = o("Equal", best, o.constant(np.arange(starts)[None], np.int64))
        each = o.reshape(ends[self.best_u], [-1, starts, channels])
        kept = o("Where", o.unsqueeze(is_best, [2]), each, o.constant(0, np.float64))
        return o.reduce("ReduceSum", kept, [1], keepdims=False)
