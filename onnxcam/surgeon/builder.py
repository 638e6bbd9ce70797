"""Adds nodes to a graph."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon.ir import Model, Value, opset


class Builder:
    """Adds nodes behind the graph's present ones: `b("Mul", x, y)` gives the product's value.

    Uses only forms that are the same in every opset from 7 on, or chooses by the model's opset, so that a fragment
    fits any model without converting the model.
    """

    def __init__(self, model: Model, prefix: str) -> None:
        self._graph = model.graph
        self._opset = opset(model)
        self._prefix = prefix
        self._count = 0

    def __call__(self, op_type: str, *inputs: Value | None, name: str | None = None, **attributes: object) -> Value:
        self._count += 1
        label = name or f"{self._prefix}/{op_type}_{self._count}"
        node = onnx_ir.node(op_type, list(inputs), attributes, name=label)  # type: ignore[arg-type]
        node.outputs[0].name = label
        self._graph.append(node)
        return node.outputs[0]

    def several(self, op_type: str, *inputs: Value | None, outputs: int, **attributes: object) -> Sequence[Value]:
        """A node with more than one output."""
        self._count += 1
        label = f"{self._prefix}/{op_type}_{self._count}"
        node = onnx_ir.node(op_type, list(inputs), attributes, name=label, num_outputs=outputs)  # type: ignore[arg-type]
        for i, value in enumerate(node.outputs):
            value.name = f"{label}/{i}"
        self._graph.append(node)
        return node.outputs

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike) -> Value:
        self._count += 1
        stored = np.asarray(array, dtype)
        tensor = onnx_ir.tensor(stored, name=f"{self._prefix}/constant_{self._count}")
        value = onnx_ir.Value(
            name=tensor.name,
            type=onnx_ir.TensorType(tensor.dtype),
            shape=onnx_ir.Shape(stored.shape),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value

    def reduce(self, op_type: str, x: Value, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        """ReduceMax, ReduceMin, ReduceMean (axes become an input with opset 18), ReduceSum (with 13)."""
        since = 13 if op_type == "ReduceSum" else 18
        if self._opset >= since:
            return self(op_type, x, self.constant(list(axes), np.int64), keepdims=int(keepdims))
        return self(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        if self._opset >= 13:
            return self("Unsqueeze", x, self.constant(list(axes), np.int64))
        return self("Unsqueeze", x, axes=list(axes))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self("Reshape", x, self.constant(list(shape), np.int64))

    def cast(self, x: Value, dtype: onnx_ir.DataType) -> Value:
        return self("Cast", x, to=int(dtype))


OPSET, IR_VERSION = 17, 8
"""Of graphs that are made from nothing, which any onnxruntime that onnxcam takes can run."""


def empty_model(name: str) -> Model:
    return Model(onnx_ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name), ir_version=IR_VERSION)


def publish(model: Model, value: Value, dtype: onnx_ir.DataType, shape: Sequence[int | str | None]) -> None:
    """Makes the value an output of the model."""
    value.type, value.shape = onnx_ir.TensorType(dtype), onnx_ir.Shape(shape)
    model.graph.outputs.append(value)
