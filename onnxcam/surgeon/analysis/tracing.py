"""Builds a model that returns the shape of every tensor of another model, and reads the result of one run of it.

onnx's shape inference does not know operators of other domains, stops at If and Loop, and trusts recorded shapes that
may be wrong. The runtime knows the real shapes; a Shape node on each tensor returns them in a few numbers. The engine
runs this tracer (network/dry_run.py), and the Trace tells the rest of the analysis what it saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shape, constant, edit, sequences
from onnxcam.types import Arrays

BLANK = "onnxcam/blank"
"""Prefix of the nodes that replace weights (passes/opset.py): their shapes are true, their numbers are not."""
CONTROL = frozenset({"If", "Loop", "Scan"})
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
MOST_NUMBERS = 4096
"""Size up to which a tensor is kept among the values; those that follow from shapes are small."""


@dataclass(frozen=True)
class Trace:
    """What one run showed.

    shapes: of every tensor, by name. values: the tensors that follow from shapes and constants alone, by name. taken:
    whether each If took its then-branch, by the name of its condition.
    """

    shapes: Mapping[str, Shape]
    values: Arrays
    taken: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Tracer:
    """A model that reports on another one: it takes the same inputs and returns shapes, and some tensors themselves.

    shapes: the name of the output with a shape -> the name of the tensor that has it. values: outputs that become
    Trace.values. conditions: outputs that are the conditions of Ifs.
    """

    model: Model
    shapes: Mapping[str, str]
    values: tuple[str, ...]
    conditions: tuple[str, ...]

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs, to be requested from the runtime."""
        return list(dict.fromkeys((*self.shapes, *self.values, *self.conditions)))

    def read(self, outputs: Arrays) -> Trace:
        """The trace of a run with these outputs."""
        shapes = {tensor: tuple(int(d) for d in outputs[name]) for name, tensor in self.shapes.items()}
        values = {name: outputs[name] for name in self.values if outputs[name].size <= MOST_NUMBERS}
        taken = {name: bool(np.asarray(outputs[name]).any()) for name in self.conditions}
        return Trace(shapes, values, taken)


def build_tracer(model: Model) -> Tracer:
    """Builds the tracer of a model, which is not changed."""
    copy = edit(model)
    b = Builder(copy, "onnxcam/trace")
    lists = sequences(copy)
    computed = [v for node in copy.graph for v in node.outputs if v.name and str(v.name) not in lists]
    conditions = [n.inputs[0] for n in copy.graph if n.op_type == "If" and n.inputs and n.inputs[0] is not None]
    computed_conditions = [c for c in conditions if constant(c) is None and not c.is_graph_input()]
    frozen = free_of_data(copy)
    shapes = {str(b("Shape", v).name): str(v.name) for v in (*copy.graph.inputs, *computed)}
    copy.graph.outputs.clear()
    by_name = {str(v.name): v for node in copy.graph for v in node.outputs}
    values = tuple(str(v.name) for v in computed if str(v.name) in frozen)
    tracer = Tracer(copy, shapes, values, tuple(dict.fromkeys(str(c.name) for c in computed_conditions)))
    for name in tracer.outputs:
        # The runtime fills in the right shape where none is recorded.
        by_name[name].shape = None
        copy.graph.outputs.append(by_name[name])
    return tracer


def free_of_data(model: Model) -> set[str]:
    """Names of the computed tensors that follow from shapes and constants alone, whatever the numbers of the inputs."""
    frozen: set[str] = set()
    for node in model.graph:
        if node.op_type in ("Shape", "Size") or _is_frozen(node, frozen):
            frozen.update(str(v.name) for v in node.outputs if v.name)
    return frozen


def _is_frozen(node: Node, frozen: set[str]) -> bool:
    if node.op_type in CONTROL or node.op_type in RANDOM or str(node.outputs[0].name).startswith(BLANK):
        return False
    return all(v is None or constant(v) is not None or str(v.name) in frozen for v in node.inputs)
