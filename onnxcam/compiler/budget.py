"""Score-CAM with a budget in a Loop: some masks are chosen and scored, the scores of all others are estimated.

The method is that of methods/estimate: a Gaussian process over the masks, by which the next ones are chosen and the
weights of all maps are expected. The first masks are chosen before anything is known of the scores.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.choice_graph import CANDIDATES, LINEAR, Whitened, choose, contributions
from onnxcam.compiler.element_types import DOUBLE, INT64
from onnxcam.compiler.estimate_graph import expected_weights
from onnxcam.compiler.fill_graph import fill_image
from onnxcam.compiler.loop_graph import LoopGraph, State, body_model
from onnxcam.compiler.mask_queue import MaskQueue
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.process_graph import LinkGraph, Points, averaged
from onnxcam.methods.estimate.quadrature import START
from onnxcam.methods.weighting import Weighting
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.masked_score import LOGIT, PROBABILITY, tensor_named
from onnxcam.surgeon.ir import Value
from onnxcam.types import Score

ROWS = 4
"""Masks that are chosen and scored in one turn, for a model that takes any batch."""


def estimated_graph(prepared: Prepared, weighting: Weighting, budget: int) -> tuple[LoopGraph, Value, Value]:
    """The Loop, closed, the raw map (T,cells) float64 and the classes (T,). budget: rounded down to whole turns."""
    loop = LoopGraph(prepared, body_model(prepared), prepared.fixed or min(ROWS, budget))
    loop.fill_with(fill_image(loop))
    chosen = loop.choose_targets()
    search = _Search.of(loop, weighting, budget // loop.rows * loop.rows)
    goes_on = search.turn()
    ends, o = loop.close(goes_on), loop.outside
    grid = prepared.anatomy.features.grid
    maps = o.reshape(ends[search.queue.maps], [-1, math.prod(grid)])
    valid = _below(o, search.room_of_maps, ends[search.queue.living])
    points = Points.of(o, o("Neg", maps) if weighting.destructive else maps, valid)
    weights = expected_weights(o, weighting, points, ends[search.places], ends[search.scores], ends[search.original])
    weights = o("Where", valid, weights, o.constant(0, np.float64))
    if weighting.softmax:
        weights = o("Div", weights, o.reduce("ReduceSum", weights, [0]))
    raw = o("MatMul", o("Transpose", weights, perm=[1, 0]), o.cast(maps, DOUBLE))
    return loop, raw, ends[chosen]


def _below(b: Builder, count: int, living: Value) -> Value:
    """(count,1) bool: whether the place is below the number of maps."""
    return b("Less", b.constant(np.arange(count)[:, None], np.int64), living)


@dataclass(frozen=True, eq=False)
class _Search:
    """The carried state. room: masks that are scored, at most.

    next (rows,) int64: what this turn scores, -1 for none. places (room,) int64, scores (room,T): what was scored, -1
    where nothing was yet. original (1,T): scores of the unmasked image. rows, inverse, variance: as Whitened has them.
    """

    loop: LoopGraph
    weighting: Weighting
    room: int
    queue: MaskQueue
    next: State
    places: State
    scores: State
    original: State
    rows: State
    inverse: State
    variance: State

    @staticmethod
    def of(loop: LoopGraph, weighting: Weighting, room: int) -> "_Search":
        o, queue = loop.outside, MaskQueue.of(loop)
        count = queue.room
        nothing = o("Sub", loop.zeros([room], INT64), o.constant(1, np.int64))
        table = loop.zeros([room], DOUBLE, of_targets=True)
        return _Search(
            loop, weighting, room, queue, loop.state(loop.zeros([loop.rows], INT64)), loop.state(nothing),
            loop.state(o("Transpose", table, perm=[1, 0])),
            loop.state(o("Transpose", loop.zeros([1], DOUBLE, of_targets=True), perm=[1, 0])),
            loop.state(loop.zeros([room, count], DOUBLE)), loop.state(loop.zeros([room, room], DOUBLE)),
            loop.state(loop.zeros([count, 1], DOUBLE)),
        )  # fmt: skip

    @property
    def room_of_maps(self) -> int:
        return self.queue.room

    def turn(self) -> Value:
        """Scores what was chosen, and chooses what is next. Returns whether there is another turn."""
        loop, b = self.loop, self.loop.b
        maps = b("Gather", self.queue.maps.now, self.next.now, axis=0)
        loop.mask_with(b("Neg", maps) if self.weighting.destructive else maps)
        all_maps, living = self.queue.fill()
        places, scores, original = self._remember()
        grid = loop.prepared.anatomy.features.grid
        flat = b.reshape(all_maps, [-1, math.prod(grid)])
        valid = _below(b, self.room_of_maps, living)
        points = Points.of(b, b("Neg", flat) if self.weighting.destructive else flat, valid)
        prior = points.variance(LINEAR)
        whitened = Whitened(loop, self.rows.now, self.inverse.now, b("Where", loop.first, prior, self.variance.now))
        weights, off = self._expected(whitened, places, scores, original)
        shares = averaged(b, all_maps, grid)
        candidates = min(CANDIDATES, self.room_of_maps)
        parts = contributions(
            whitened, points, shares, weights, b("Where", valid, off, b.constant(0, np.float64)), candidates
        )
        front = b.constant(np.arange(candidates), np.int64)
        scored = b("Gather", self._is_scored(places), front, axis=0)
        free = b("And", b("Gather", valid, front, axis=0), b("Not", scored))
        done = b("Mul", loop.turn, b.constant(loop.rows, np.int64))
        whitened, picked = choose(whitened, points, parts, free, candidates, done, self.room)
        for state, value in (
            (self.next, picked), (self.rows, whitened.rows), (self.inverse, whitened.inverse),
            (self.variance, whitened.variance),
        ):  # fmt: skip
            loop.carry(state, value)
        most = b("Min", living, b.constant(self.room, np.int64))
        return b("Less", done, most)

    def _remember(self) -> tuple[Value, Value, Value]:
        """Carries places, scores and original; returns them as they are behind this turn."""
        loop, b = self.loop, self.loop.b
        name = LOGIT if self.weighting.score is Score.LOGIT else PROBABILITY
        scores = b.cast(tensor_named(loop.body, name), DOUBLE)
        first = b("Slice", scores, *(b.constant([n], np.int64) for n in (0, 1, 0)))
        original = loop.carry_first(self.original, first)
        turn = b("Sub", loop.turn, b.constant(1, np.int64))
        position = b("Mul", turn, b.constant(loop.rows, np.int64))  # negative in the first turn, which no slot is
        numbers = b("Add", position, b.constant(np.arange(loop.rows)[None], np.int64))
        slots = b("Equal", b.constant(np.arange(self.room)[:, None], np.int64), numbers)  # (room,rows)
        row = b.unsqueeze(b("Add", self.next.now, b.constant(1, np.int64)), [0])
        added = b.reduce("ReduceSum", b("Mul", b.cast(slots, INT64), row), [1], keepdims=False)
        places = b("Add", self.places.now, added)
        all_scores = b("Add", self.scores.now, b("MatMul", b.cast(slots, DOUBLE), scores))
        loop.carry(self.places, places)
        loop.carry(self.scores, all_scores)
        return places, all_scores, original

    def _is_scored(self, places: Value) -> Value:
        """(M,1) bool."""
        b = self.loop.b
        hits = b("Equal", b.constant(np.arange(self.room_of_maps)[:, None], np.int64), b.unsqueeze(places, [0]))
        return b("Greater", b.reduce("ReduceSum", b.cast(hits, INT64), [1]), b.constant(0, np.int64))

    def _expected(self, whitened: Whitened, places: Value, scores: Value, original: Value) -> tuple[Value, Value]:
        """(M,T) expected weights, and by how much they may be off for each unit of the process; 0 where known.

        Before START masks are scored, nothing is expected, and all are off alike.
        """
        loop, b = self.loop, self.loop.b
        zero, one = b.constant(0, np.float64), b.constant(1, np.float64)
        known = b("Not", b("Less", b.unsqueeze(places, [1]), b.constant(0, np.int64)))  # (room,1)
        count = b("Max", b.reduce("ReduceSum", b.cast(known, DOUBLE), [0, 1]), one)
        link = LinkGraph.of(b, self.weighting, scores, known, original)
        numbers = b("Where", known, link.forward(scores), zero)
        level = b("Div", b.reduce("ReduceSum", numbers, [0]), count)
        u = b("MatMul", whitened.inverse, b("Where", known, b("Sub", numbers, level), zero))
        scale = b("Max", b("Div", b.reduce("ReduceSum", b("Mul", u, u), [0]), count), b.constant(1e-12, np.float64))
        mean = b("MatMul", b("Transpose", whitened.rows, perm=[1, 0]), u)
        deviation = b("Sqrt", b("Mul", whitened.variance, scale))
        expected, off = link.moments(b("Add", mean, level), deviation)
        is_scored = self._is_scored(places)
        hits = b.cast(
            b("Equal", b.constant(np.arange(self.room_of_maps)[:, None], np.int64), b.unsqueeze(places, [0])), DOUBLE
        )
        measured = b("MatMul", hits, b("Where", known, link.weight(scores), zero))
        started = b("Not", b("Less", loop.turn, b.constant(math.ceil(START / loop.rows), np.int64)))
        weights = b("Where", started, b("Where", is_scored, measured, expected), zero)
        by_unit = b("Where", started, b("Div", off, deviation), one)
        return weights, b("Where", is_scored, zero, by_unit)
