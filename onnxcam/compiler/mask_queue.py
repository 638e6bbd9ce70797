"""The feature maps that are masks, in the order in which a Loop scores them: those that vary most come first.

So what was summed up after any number of turns is a preview of the whole.
"""

import math
from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.element_types import FLOAT, INT64
from onnxcam.compiler.loop_graph import LoopGraph, State
from onnxcam.methods.blocks import VARIES
from onnxcam.surgeon.ir import Value


@dataclass(frozen=True, eq=False)
class MaskQueue:
    """A carried queue of feature maps, which is empty in the first turn.

    maps: (M,1,*grid), zeros behind the last map; M is a whole number of turns. living: () int64, how many maps there
    are. position: () int64, the place of the turn's first map.
    """

    loop: LoopGraph
    maps: State
    living: State
    position: Value

    @staticmethod
    def of(loop: LoopGraph) -> "MaskQueue":
        """An empty queue, which fill() fills in the first turn."""
        features, b = loop.prepared.anatomy.features, loop.b
        maps = loop.state(loop.zeros([_room(loop), 1, *features.grid], FLOAT))
        living = loop.state(loop.zeros([], INT64))
        turn = b("Max", b("Sub", loop.turn, b.constant(1, np.int64)), b.constant(0, np.int64))
        return MaskQueue(loop, maps, living, b("Mul", turn, b.constant(loop.rows, np.int64)))

    def next_maps(self) -> Value:
        """(rows,1,*grid) the maps that this turn scores."""
        b = self.loop.b
        start = b.unsqueeze(self.position, [0])
        stop = b("Add", start, b.constant([self.loop.rows], np.int64))
        return b("Slice", self.maps.now, start, stop, b.constant([0], np.int64))

    def are_maps(self) -> Value:
        """(rows,1) bool: which of next_maps() are maps and no padding."""
        b = self.loop.b
        places = b("Add", self.position, b.constant(np.arange(self.loop.rows)[:, None], np.int64))
        return b("Less", places, self.living.now)

    @property
    def room(self) -> int:
        """M."""
        return _room(self.loop)

    def fill(self) -> tuple[Value, Value]:
        """Puts the maps of the unmasked image into the queue, in the first turn.

        Returns the maps and their number as they are behind this turn. None are taken where the features hold NaN or
        infinity.
        """
        loop, b = self.loop, self.loop.b
        features = loop.prepared.anatomy.features
        space = range(1, 1 + len(features.grid))
        maps = b.reshape(loop.features(), [features.channels, *features.grid])
        high, low = (b.reduce(f"Reduce{end}", maps, space, keepdims=False) for end in ("Max", "Min"))
        peak = b("Mul", b("Max", high, b("Neg", low)), b.constant(VARIES, np.float32))
        nothing = b("Mul", b("Sub", high, low), b.constant(0, np.float32))
        finite = b("Equal", b.reduce("ReduceMax", nothing, [0]), b.constant(0, np.float32))
        varies = b("And", b("Greater", b("Sub", high, low), peak), finite)
        centred = b("Sub", maps, b.reduce("ReduceMean", maps, space))
        spread = b.reduce("ReduceMean", b("Mul", centred, centred), space, keepdims=False)
        rank = b("Where", varies, spread, b.constant(-1, np.float32))
        _, order = b.several("TopK", rank, b.constant([features.channels], np.int64), outputs=2, axis=0)
        ordered = b.unsqueeze(b("Gather", maps, order, axis=0), [1])
        missing = _room(loop) - features.channels
        if missing:
            padding = b.constant(np.zeros((missing, 1, *features.grid)), np.float32)
            ordered = b("Concat", ordered, padding, axis=0)
        count = b.reduce("ReduceSum", b.cast(varies, INT64), [0], keepdims=False)
        return loop.carry_first(self.maps, ordered), loop.carry_first(self.living, count)


def _room(loop: LoopGraph) -> int:
    """M: the feature maps, and padding up to whole turns."""
    return loop.rows * math.ceil(loop.prepared.anatomy.features.channels / loop.rows)
