"""Adds nodes to a graph: the tool with which passes and graphs/ write ONNX.

Builder appends nodes to a model; empty_model() begins one, and publish() makes a tensor an output of it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon.ir import Model, Value, opset


class Builder:
    """Appends nodes to a model's graph: `b("Mul", x, y)` returns the product.

    Names of new nodes and tensors begin with `prefix`. The methods write the form of the operator that the model's
    opset has, so a fragment fits every model from opset 7 on.
    """

    def __init__(self, model: Model, prefix: str) -> None:
        self._graph = model.graph
        self._opset = opset(model)
        self._prefix = prefix
        self._count = 0

    def __call__(self, op_type: str, *inputs: Value | None, name: str | None = None, **attributes: object) -> Value:
        """Adds a node and returns its output, which is called `name` if one is passed."""
        self._count += 1
        label = name or f"{self._prefix}/{op_type}_{self._count}"
        node = onnx_ir.node(op_type, list(inputs), attributes, name=label)  # type: ignore[arg-type]
        node.outputs[0].name = label
        self._graph.append(node)
        return node.outputs[0]

    def several(self, op_type: str, *inputs: Value | None, outputs: int, **attributes: object) -> Sequence[Value]:
        """Adds a node with several outputs and returns them."""
        self._count += 1
        label = f"{self._prefix}/{op_type}_{self._count}"
        node = onnx_ir.node(op_type, list(inputs), attributes, name=label, num_outputs=outputs)  # type: ignore[arg-type]
        for i, value in enumerate(node.outputs):
            value.name = f"{label}/{i}"
        self._graph.append(node)
        return node.outputs

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike) -> Value:
        """Stores an array of this type as an initializer."""
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
        """Adds ReduceMax, ReduceMin or ReduceMean, whose axes are an input from opset 18 on, or ReduceSum (from 13)."""
        since = 13 if op_type == "ReduceSum" else 18
        if self._opset >= since:
            return self(op_type, x, self.constant(list(axes), np.int64), keepdims=int(keepdims))
        return self(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        """Adds Unsqueeze, whose axes are an input from opset 13 on."""
        if self._opset >= 13:
            return self("Unsqueeze", x, self.constant(list(axes), np.int64))
        return self("Unsqueeze", x, axes=list(axes))

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """Adds Squeeze, whose axes are an input from opset 13 on."""
        if self._opset >= 13:
            return self("Squeeze", x, self.constant(list(axes), np.int64))
        return self("Squeeze", x, axes=list(axes))

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Adds Reshape to a constant shape, in which 0 keeps an axis and -1 takes the rest."""
        return self("Reshape", x, self.constant(list(shape), np.int64))

    def cast(self, x: Value, dtype: onnx_ir.DataType) -> Value:
        """Adds Cast to this element type."""
        return self("Cast", x, to=int(dtype))


OPSET, IR_VERSION = 17, 8
"""Versions of graphs that begin empty: every supported onnxruntime runs them."""


def empty_model(name: str) -> Model:
    """A model without nodes, inputs and outputs, in opset OPSET."""
    return Model(onnx_ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name), ir_version=IR_VERSION)


def publish(model: Model, value: Value, dtype: onnx_ir.DataType, shape: Sequence[int | str | None]) -> None:
    """Makes the value an output of the model. A string in `shape` names a dynamic axis."""
    value.type, value.shape = onnx_ir.TensorType(dtype), onnx_ir.Shape(shape)
    model.graph.outputs.append(value)
