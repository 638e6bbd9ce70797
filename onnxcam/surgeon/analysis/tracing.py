"""Makes a model return the shape of every tensor, and reads the result of one run of it.

onnx's shape inference does not know operators of other domains, stops at If and Loop, and trusts recorded shapes that
may be wrong. The runtime knows the real shapes; a Shape node on each tensor returns them in a few numbers. The engine
runs the model with these nodes (network/dry_run.py), and the Trace tells the rest of the analysis what it saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from onnxcam.surgeon.ir import Model, Node, Shape, constant, sequences
from onnxcam.types import Arrays

BLANK = "onnxcam/blank"
"""Prefix of the nodes that replace weights (passes/opset.py): their shapes are true, their numbers are not."""
PREFIX = "onnxcam/trace"
"""Prefix of what a tracer adds."""
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
    whether each If took its then-branch, by the name of its condition. outputs: those of the file itself, where the run
    was one of the file.
    """

    shapes: Mapping[str, Shape]
    values: Arrays
    taken: Mapping[str, bool] = field(default_factory=dict)
    outputs: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Tracer:
    """What makes a model report on itself: it takes the same inputs and returns shapes, and some tensors themselves.

    addition: nodes and outputs, as bytes that follow those of the model: protobuf merges both. shapes: the name of the
    output with a shape -> the name of the tensor that has it. values: outputs that become Trace.values. conditions:
    outputs that are the conditions of Ifs.
    """

    addition: bytes
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
    """Builds the tracer of a model, which is not changed, nor copied."""
    lists = sequences(model)
    computed = [str(v.name) for node in model.graph for v in node.outputs if v.name and str(v.name) not in lists]
    conditions = [n.inputs[0] for n in model.graph if n.op_type == "If" and n.inputs and n.inputs[0] is not None]
    computed_conditions = [str(c.name) for c in conditions if constant(c) is None and not c.is_graph_input()]
    frozen = free_of_data(model)
    traced = [*(str(v.name) for v in model.graph.inputs), *computed]
    shapes = {f"{PREFIX}/Shape_{number}": name for number, name in enumerate(traced, 1)}
    values = tuple(name for name in computed if name in frozen)
    nodes = [onnx.NodeProto(op_type="Shape", input=[name], output=[output]) for output, name in shapes.items()]
    returned = {str(v.name) for v in model.graph.outputs}
    # The runtime fills in type and shape where none are recorded.
    names = dict.fromkeys((*shapes, *values, *computed_conditions))
    outputs = [onnx.ValueInfoProto(name=name) for name in names if name not in returned]
    addition = onnx.ModelProto(graph=onnx.GraphProto(node=nodes, output=outputs))
    return Tracer(addition.SerializeToString(), shapes, values, tuple(dict.fromkeys(computed_conditions)))


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
