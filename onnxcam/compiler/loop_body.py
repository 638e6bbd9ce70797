"""LoopBody: the body of a Loop while it is built, and the Loop that runs it."""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value


class LoopBody:
    """Nodes that run many times. They may read tensors of the graph around them.

    model: the body as a graph of its own, with an opset, for passes that take a Model. b: adds nodes. turn: () int64,
    the number of the turn from 0 on.
    """

    def __init__(self, around: Model, prefix: str) -> None:
        """around: the model that will hold the Loop. prefix: of the names of tensors."""
        self._prefix = prefix
        self._condition = _scalar(f"{prefix}/go_on", onnx_ir.DataType.BOOL)
        self.turn = _scalar(f"{prefix}/turn", onnx_ir.DataType.INT64)
        graph = onnx_ir.Graph(
            [self.turn, self._condition], [], nodes=[], opset_imports=dict(around.opset_imports), name=f"{prefix}/body"
        )
        self.model = Model(graph, ir_version=around.ir_version)
        self.b = Builder(self.model, f"{prefix}/body")
        self._states: list[Value] = []

    def state(self, name: str, dtype: onnx_ir.DataType) -> Value:
        """A tensor that a turn hands to the next one."""
        value = onnx_ir.Value(name=f"{self._prefix}/{name}", type=onnx_ir.TensorType(dtype))
        self.model.graph.inputs.append(value)
        self._states.append(value)
        return value

    def run(
        self,
        b: Builder,
        turns: int,
        *,
        initial: Sequence[Value] = (),
        final: Sequence[Value] = (),
        collected: Sequence[Value] = (),
    ) -> Sequence[Value]:
        """Adds the Loop with b, and returns the states after the last turn and what the turns collected, stacked.

        initial: of each state, in the order in which they were made; final: what a turn hands on of each. collected:
        tensors of a turn, each of which comes back with the turns as its first axis.
        """
        go_on = self.b("Identity", self._condition)
        ends = [go_on, *(self.b("Identity", value) for value in (*final, *collected))]
        self.model.graph.outputs.extend(ends)
        trips, true = b.constant(turns, np.int64), b.constant(True, np.bool_)
        return b.several("Loop", trips, true, *initial, outputs=len(final) + len(collected), body=self.model.graph)


def _scalar(name: str, dtype: onnx_ir.DataType) -> Value:
    return onnx_ir.Value(name=name, type=onnx_ir.TensorType(dtype), shape=onnx_ir.Shape([]))
