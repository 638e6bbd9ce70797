"""OnnxModule: an ONNX graph as a module of PyTorch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from onnx_torch.registry import HOST, OPERATORS, Array, Node, Value
from onnx_torch.values import FLOATS, as_tensor, settled

LARGEST_ON_HOST = 1024
"""Largest number of elements of a weight that is kept on the host too, for shape arithmetic."""


class OnnxModule(torch.nn.Module):
    """The graph's nodes, and its weights as buffers."""

    def __init__(self, proto: onnx.ModelProto, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.dtype = dtype
        self._arrays: dict[str, Array] = {}
        self._buffers_of: dict[str, str] = {}
        opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
        self._nodes: list[Node] = []
        for weight in proto.graph.initializer:
            self._store(weight.name, numpy_helper.to_array(weight), weight.data_type in FLOATS)
        for node in proto.graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                array, floating = _constant(node)
                self._store(node.output[0], array, floating)
                continue
            attributes = {a.name: _attribute(a) for a in node.attribute}
            domain = "" if node.domain == "ai.onnx" else node.domain
            inputs, outputs = tuple(node.input), tuple(node.output)
            self._nodes.append(Node(node.op_type, domain, node.name, opset, inputs, outputs, attributes, dtype))
        self._makers = {name: node for node in self._nodes for name in node.outputs if name}

    def forward(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """The values of the named tensors, which may be inner ones.

        feeds may name inner tensors too; their nodes are not run then. Raises NotImplementedError for an operator, or a
        form of one, that is not known, and KeyError for an unknown tensor.
        """
        device = next((x.device for x in feeds.values()), torch.device("cpu"))
        values: dict[str, Value] = {name: x.to(self.dtype) if x.is_floating_point() else x for name, x in feeds.items()}
        for node in self._needed(values, outputs):
            results = self._run(node, values, device)
            values.update((name, r) for name, r in zip(node.outputs, results, strict=False) if name)
        return [self._tensor(name, values, device) for name in outputs]

    def _store(self, name: str, array: Array, floating: bool) -> None:
        """Stores a weight as a buffer, and a small one on the host too."""
        if floating:
            array = array.astype(np.float64)
        if array.size <= LARGEST_ON_HOST:
            self._arrays[name] = array
        self._buffers_of[name] = f"weight_{len(self._buffers_of)}"
        self.register_buffer(self._buffers_of[name], as_tensor(array, self.dtype, torch.device("cpu")))

    def _needed(self, fed: Mapping[str, Value], outputs: Sequence[str]) -> Iterator[Node]:
        """The nodes that the outputs depend on, in the graph's order."""
        needed: set[str] = set()
        stack = [n for n in outputs if n not in fed]
        while stack:
            name = stack.pop()
            if name in needed or name in fed or name in self._buffers_of or not name:
                continue
            if name not in self._makers:
                raise KeyError(f"{name!r} is neither fed nor computed by the graph")
            node = self._makers[name]
            needed.update(node.outputs)
            stack.extend(node.inputs)
        return (node for node in self._nodes if needed.intersection(node.outputs))

    def _run(self, node: Node, values: Mapping[str, Value], device: torch.device) -> tuple[Value, ...]:
        if node.domain or node.op_type not in (OPERATORS.keys() | HOST.keys()):
            raise node.unknown()
        arrays = [self._array(name, values) for name in node.inputs]
        result: Any = NotImplemented
        if node.op_type in HOST and all(a is not None or not n for a, n in zip(arrays, node.inputs, strict=True)):
            result = HOST[node.op_type](node, *arrays)
        if result is NotImplemented:
            if node.op_type not in OPERATORS:
                raise node.unknown("operands that depend on data")
            function, host = OPERATORS[node.op_type]
            operands = [
                None if not name else array if i in host and array is not None else self._tensor(name, values, device)
                for i, (name, array) in enumerate(zip(node.inputs, arrays, strict=True))
            ]
            result = function(node, *operands)
        results = result if isinstance(result, tuple) else (result,)
        return tuple(settled(r) if isinstance(r, np.ndarray) else r for r in results)

    def _array(self, name: str, values: Mapping[str, Value]) -> Array | None:
        """The value on the host; None if it is a tensor."""
        value = values[name] if name in values else self._arrays.get(name)
        return value if isinstance(value, np.ndarray) else None

    def _tensor(self, name: str, values: Mapping[str, Value], device: torch.device) -> Tensor:
        if name in values:
            value = values[name]
            return value if isinstance(value, Tensor) else as_tensor(value, self.dtype, device)
        if name in self._buffers_of:
            return self.get_buffer(self._buffers_of[name])
        raise self._makers[name].unknown(f"its output {name!r}")


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else list(value) if attribute.type in (6, 7, 8) else value


def _constant(node: onnx.NodeProto) -> tuple[Array, bool]:
    """The value of a Constant node, and whether it is floating-point."""
    (attribute,) = node.attribute
    value = _attribute(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value), value.data_type in FLOATS
    if attribute.name.startswith("value_float"):
        return np.array(value, np.float64), True
    if attribute.name.startswith("value_int"):
        return np.array(value, np.int64), False
    raise NotImplementedError(f"Constant with {attribute.name} (node {node.name!r})")
