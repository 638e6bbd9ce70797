"""Adam in a Loop, for numbers in float64; methods/adam.py is the same."""

from dataclasses import dataclass

import numpy as np

from onnxcam.compiler.element_types import DOUBLE
from onnxcam.compiler.loop_graph import LoopGraph, State
from onnxcam.methods.adam import BETA1, BETA2
from onnxcam.surgeon.ir import Value


@dataclass(frozen=True, eq=False)
class AdamGraph:
    """The optimiser of one tensor. first, second: carried means of the gradient and of its square.

    Every turn but the first is a step.
    """

    loop: LoopGraph
    first: State
    second: State
    rate: float
    epsilon: float

    @staticmethod
    def of(loop: LoopGraph, initial: Value, rate: float, epsilon: float) -> "AdamGraph":
        """initial: the first value of the tensor, outside of the body."""
        zeros = loop.outside("Mul", initial, loop.outside.constant(0, np.float64))
        return AdamGraph(loop, loop.state(zeros), loop.state(zeros), rate, epsilon)

    def step(self, value: Value, gradient: Value) -> Value:
        """The new value. gradient: of what is minimised. What the first turn gives is not to be used."""
        loop, b = self.loop, self.loop.b

        def number(x: float) -> Value:
            return b.constant(x, np.float64)

        turn = b.cast(loop.turn, DOUBLE)
        means = []
        for state, beta, seen in (
            (self.first, BETA1, gradient),
            (self.second, BETA2, b("Mul", gradient, gradient)),
        ):
            moved = b("Add", state.now, b("Mul", number(1 - beta), b("Sub", seen, state.now)))
            loop.carry(state, b("Where", loop.first, state.now, moved))
            means.append(b("Div", moved, b("Sub", number(1), b("Pow", number(beta), turn))))
        mean, spread = means
        pace = b("Div", b("Mul", number(self.rate), mean), b("Add", b("Sqrt", spread), number(self.epsilon)))
        return b("Sub", value, pace)
