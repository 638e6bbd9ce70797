"""Which places of the way from the baseline to the image integrated gradients run, and what each of them weighs.

Places are numbers from 0 (the baseline) to 1 (the image). A Loop runs AT_ONCE of them in a turn. The first turns run
even places; the later ones the middles of the parts over which the trapezoid rule is off by the most. Tensors of places
are (R,slots) float64 in the order in which they were run; a slot without a place holds NOWHERE.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.methods.pixel_maps import AT_ONCE
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.cell_maps import part
from onnxcam.surgeon.ir import END, Value

NOWHERE = 2.0
"""Behind the image, so that it sorts last."""
BEHIND = 1.5
"""Places above it are none."""


@dataclass(frozen=True)
class Plan:
    """What the turns run.

    even: (turns,AT_ONCE) the places of the first turns, NOWHERE in turns that choose theirs. counts: (turns,) places of
    each turn; what it runs beyond them counts for nothing.
    """

    even: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @property
    def turns(self) -> int:
        return len(self.counts)

    @property
    def slots(self) -> int:
        return self.turns * AT_ONCE

    @property
    def steps(self) -> int:
        """Places in all."""
        return int(self.counts.sum())


def plan_of(steps: int) -> Plan:
    """The turns of so many steps. The image itself is the first place, so that its prediction is known at once."""
    places = np.linspace(0, 1, max(2, steps // 6))[::-1]
    chunks = [places[i : i + AT_ONCE] for i in range(0, len(places), AT_ONCE)]
    counts = [len(chunk) for chunk in chunks]
    while (done := sum(counts)) < steps:
        counts.append(min(AT_ONCE, steps - done, done - 1))  # a part has one middle
    even = np.full((len(counts), AT_ONCE), NOWHERE)
    for row, chunk in zip(even, chunks, strict=False):
        row[: len(chunk)] = chunk
    return Plan(even, np.asarray(counts, np.int64))


@dataclass(frozen=True)
class _Parts:
    """The parts between neighbouring places, (R,slots-1) each: ends, and the weight of the slope at either end."""

    left: Value
    right: Value
    weight_left: Value
    weight_right: Value


def rough_places(b: Builder, places: Value, logits: Value, totals: Value, plan: Plan) -> Value:
    """(R,AT_ONCE): the middles of the parts over which the trapezoid rule misses the logit's change by the most.

    logits, totals (R,slots): at each place, and the sum of the slope there.
    """
    order, ordered = _sorted(b, places, plan)
    parts = _parts(b, ordered, plan)
    logits, totals = (b("GatherElements", x, order, axis=1) for x in (logits, totals))
    terms = [
        b("Mul", parts.weight_right, part(b, totals, 1, 1, END)),
        b("Mul", parts.weight_left, part(b, totals, 1, 0, -1)),
    ]
    change = b("Sub", part(b, logits, 1, 1, END), part(b, logits, 1, 0, -1))
    missed = b("Abs", b("Sub", change, b("Add", *terms)))
    is_part = b("Less", parts.right, b.constant(BEHIND, np.float64))
    missed = b("Where", is_part, missed, b.constant(-1, np.float64))
    worst = b.several("TopK", missed, b.constant([min(AT_ONCE, plan.slots - 1)], np.int64), outputs=2, axis=1)[1]
    ends = [b("GatherElements", end, worst, axis=1) for end in (parts.left, parts.right)]
    middles = b("Mul", b("Add", *ends), b.constant(0.5, np.float64))
    if plan.slots <= AT_ONCE:  # one turn, which chooses nothing
        return b.constant(np.full((1, AT_ONCE), NOWHERE), np.float64)
    return middles


def weights_of_places(b: Builder, places: Value, plan: Plan) -> Value:
    """(R,slots) float64: the weight of the slope at each place in the trapezoid rule; 0 for a slot without a place."""
    order, ordered = _sorted(b, places, plan)
    parts = _parts(b, ordered, plan)
    is_part = b("Less", parts.right, b.constant(BEHIND, np.float64))
    zero = b.constant(0, np.float64)
    left, right = (b("Where", is_part, w, zero) for w in (parts.weight_left, parts.weight_right))
    column = b("Mul", part(b, places, 1, 0, 1), zero)
    weights = b("Add", b("Concat", column, right, axis=1), b("Concat", left, column, axis=1))
    return b("ScatterElements", b("Mul", places, zero), order, weights, axis=1)


def _sorted(b: Builder, places: Value, plan: Plan) -> tuple[Value, Value]:
    """(the slots in the order of their places, the places in order)."""
    count = b.constant([plan.slots], np.int64)
    ordered, order = b.several("TopK", places, count, outputs=2, axis=1, largest=0, sorted=1)
    return order, ordered


def _parts(b: Builder, ordered: Value, plan: Plan) -> _Parts:
    """The first part takes the slope at its right end alone, as methods/integrated_gradients.py says."""
    left, right = part(b, ordered, 1, 0, -1), part(b, ordered, 1, 1, END)
    half = b("Mul", b("Sub", right, left), b.constant(0.5, np.float64))
    first = np.arange(plan.slots - 1) == 0
    of_left, of_right = (
        b.constant(np.where(first, 0.0, 1.0), np.float64),
        b.constant(np.where(first, 2.0, 1.0), np.float64),
    )
    return _Parts(left, right, b("Mul", half, of_left), b("Mul", half, of_right))


def in_turn(b: Builder, state: Value, values: Value, turn: Value, plan: Plan) -> Value:
    """A state (R,slots) with the values (R,AT_ONCE) of this turn in its slots."""
    turns = b.constant(np.arange(plan.slots) // AT_ONCE, np.int64)
    return b("Where", b("Equal", turns, turn), b("Tile", values, b.constant([1, plan.turns], np.int64)), state)


def of_turn(b: Builder, table: npt.ArrayLike, dtype: npt.DTypeLike, turn: Value) -> Value:
    """The row of a constant table for this turn."""
    return b("Gather", b.constant(table, dtype), turn, axis=0)
