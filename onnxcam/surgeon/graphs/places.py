"""Sends the places of candidates along the moves of their scores, which tells where the numbers of an output are from.

Every node that moves scores is written once more, with the same indices and with places (int64) in place of the scores.
TopK and ReduceMax move their largest numbers: the places are gathered by the indices of these.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.selection import ELEMENTWISE, Tracer
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Value, integer, integers
from onnxcam.surgeon.ir import opset as opset_of

AMONG: dict[str, tuple[int, ...]] = {"Where": (1, 2), "ScatterND": (0, 2), "ScatterElements": (0, 2)}
"""Inputs of operators that move numbers of several tensors; of Concat it is all."""


class PlacesMoved:
    """Sends places along the moves of scores. places: of the tensors that hold the candidates, by their id."""

    def __init__(self, b: Builder, model: Model, tracer: Tracer, places: dict[int, Value]) -> None:
        self._b, self._model, self._tracer, self._places = b, model, tracer, places
        self._opset, self._clones = opset_of(model), 0

    def of(self, value: Value) -> Value:
        """The places for each number of the value, in its shape."""
        stack = [value]
        while stack:
            last = stack[-1]
            if id(last) in self._places:
                stack.pop()
                continue
            waiting = [v for v in self._before(last) if id(v) not in self._places]
            if waiting:
                stack += waiting
            else:
                self._places[id(last)] = self._moved(last)
        return self._places[id(value)]

    def _before(self, value: Value) -> list[Value]:
        node = value.producer()
        if node is not None and node.op_type in ELEMENTWISE and node.inputs[0] is not None:
            return [node.inputs[0]]
        return self._tracer.moved(value)

    def _none(self, value: Value) -> Value:
        """Zeros in the shape of the value: it holds no candidate's score."""
        return self._b("Expand", self._b.constant(0, np.int64), self._b("Shape", value))

    def _moved(self, value: Value) -> Value:
        node, before = value.producer(), self._before(value)
        if node is None or not before:
            return self._none(value)
        places = {id(v): self._places[id(v)] for v in before}
        if node.op_type in ELEMENTWISE:
            return places[id(before[0])]
        if node.op_type in ("TopK", "ReduceMax"):
            return self._largest(node, places[id(before[0])])
        if node.op_type == "Mul":
            switch = next(v for v in node.inputs if v is not before[0])
            assert switch is not None
            return self._b("Mul", places[id(before[0])], self._b.cast(switch, onnx_ir.DataType.INT64))
        inputs = [places.get(id(v), v) if v is not None else None for v in node.inputs]
        inputs = [self._no_place(node, i, v) for i, v in enumerate(inputs)]
        clone = self._clone(node, inputs)
        return clone.outputs[node.outputs.index(value)]

    def _no_place(self, node: Node, i: int, value: Value | None) -> Value | None:
        """An input of the cloned node: a constant among what is moved, or what is padded, has no place."""
        if value is None:
            return None
        if node.op_type == "Pad" and i == 2:
            return self._b.constant(0, np.int64)
        if (node.op_type == "Concat" or i in AMONG.get(node.op_type, ())) and value is node.inputs[i]:
            return self._none(value)
        return value

    def _largest(self, node: Node, places: Value) -> Value:
        """The places of what a TopK or a ReduceMax takes."""
        b = self._b
        if node.op_type == "TopK":
            return b("GatherElements", places, node.outputs[1], axis=integer(node, "axis", -1))
        (axis,) = integers(node, "axes", 1) or [0]
        largest = b("GatherElements", places, b("ArgMax", node.inputs[0], axis=axis, keepdims=1), axis=axis)
        if integer(node, "keepdims", 1):
            return largest
        if self._opset >= 13:
            return b("Squeeze", largest, b.constant([axis], np.int64))
        return b("Squeeze", largest, axes=[axis])

    def _clone(self, node: Node, inputs: Sequence[Value | None]) -> Node:
        """The node once more, with other inputs."""
        self._clones += 1
        attributes = list(node.attributes.values())
        clone = onnx_ir.Node(node.domain, node.op_type, list(inputs), attributes, num_outputs=len(node.outputs))
        for i, output in enumerate(clone.outputs):
            output.name = f"onnxcam/places/{node.op_type}_{self._clones}/{i}"
        self._model.graph.append(clone)
        return clone
