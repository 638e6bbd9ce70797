"""What a graph's tensors are like when it really runs: a model that reports every shape instead of the tensors.

Inference on paper knows no operators of a runtime's own domain, stops at If and Loop, and believes what exporters
wrote down. The runtime knows all shapes; asked for them with a Shape node a tensor, it sends back a few numbers each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shape, Value, constant, edit
from onnxcam.types import Arrays

BLANK = "onnxcam/blank"
"""Begins the names of stand-ins for weights: their shapes are true, their numbers are not."""
CONTROL = frozenset({"If", "Loop", "Scan"})
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
MOST_NUMBERS = 4096
"""What is computed from shapes alone is small; anything larger is not kept."""


@dataclass(frozen=True)
class Trace:
    """What one run showed.

    shapes: of every tensor. values: the tensors that depend on shapes alone, never on the fed numbers. taken: the way
    that each If went, by the name of its condition.
    """

    shapes: Mapping[str, Shape]
    values: Arrays
    taken: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Tracer:
    """model's outputs: the shape of every tensor, and some tensors themselves. shapes: output -> tensor."""

    model: Model
    shapes: Mapping[str, str]
    values: tuple[str, ...]
    conditions: tuple[str, ...]

    @property
    def outputs(self) -> list[str]:
        return list(dict.fromkeys((*self.shapes, *self.values, *self.conditions)))

    def read(self, outputs: Arrays) -> Trace:
        """The trace of a run that gave these outputs."""
        shapes = {tensor: tuple(int(d) for d in outputs[name]) for name, tensor in self.shapes.items()}
        values = {name: outputs[name] for name in self.values if outputs[name].size <= MOST_NUMBERS}
        taken = {name: bool(np.asarray(outputs[name]).any()) for name in self.conditions}
        return Trace(shapes, values, taken)


def tracer(model: Model) -> Tracer:
    """The model that reports on `model`; it takes the same inputs."""
    copy = edit(model)
    b = Builder(copy, "onnxcam/trace")
    computed = [v for node in copy.graph for v in node.outputs if v.name and _is_tensor(v)]
    conditions = [n.inputs[0] for n in copy.graph if n.op_type == "If" and n.inputs and n.inputs[0] is not None]
    asked = [c for c in conditions if constant(c) is None and not c.is_graph_input()]
    frozen = free_of_data(copy)
    shapes = {str(b("Shape", v).name): str(v.name) for v in (*copy.graph.inputs, *computed)}
    copy.graph.outputs.clear()
    by_name = {str(v.name): v for node in copy.graph for v in node.outputs}
    values = tuple(str(v.name) for v in computed if str(v.name) in frozen)
    traced = Tracer(copy, shapes, values, tuple(dict.fromkeys(str(c.name) for c in asked)))
    for name in traced.outputs:
        # Without a recorded type or shape the runtime fills in its own, which are right.
        by_name[name].shape = None
        copy.graph.outputs.append(by_name[name])
    return traced


def free_of_data(model: Model) -> set[str]:
    """Names of computed tensors that are the same whatever numbers are fed: made of shapes and constants."""
    frozen: set[str] = set()
    for node in model.graph:
        if node.op_type in ("Shape", "Size") or _is_frozen(node, frozen):
            frozen.update(str(v.name) for v in node.outputs if v.name)
    return frozen


def _is_frozen(node: Node, frozen: set[str]) -> bool:
    if node.op_type in CONTROL or node.op_type in RANDOM or str(node.outputs[0].name).startswith(BLANK):
        return False
    return all(v is None or constant(v) is not None or str(v.name) in frozen for v in node.inputs)


def _is_tensor(value: Value) -> bool:
    """Sequences and maps have no shape to ask for; a value without a recorded type is taken for a tensor."""
    return value.type is None or isinstance(value.type, onnx_ir.TensorType)
