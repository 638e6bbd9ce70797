"""free_batch(): makes a graph that was exported for a fixed batch accept any number of samples (vmap over ONNX).

The graph counts as a function of one sample. Its nodes are visited in order, and each is rewritten by the rule of its
operator (registry.py says where the rules are) so that it computes N samples; task.py describes where the batch axis of
a tensor can lie. Shapes are those of one measured run, so what a graph computes from a shape (Shape, Size) becomes a
constant, with the value that it has for one sample.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shapes, Value
from onnxcam.surgeon.vmap import indexing, layers, pointwise, products, shaping
from onnxcam.surgeon.vmap.registry import FOREIGN, REFUSED, STANDARD, Rule
from onnxcam.surgeon.vmap.task import SHARED, STACKED, BatchSize, Dims, Operand, Task
from onnxcam.surgeon.vmap.task import CannotBatch as CannotBatch

BATCH = "N"
"""The name of the batch dimension in the new graph."""
RULE_MODULES = (indexing, layers, pointwise, products, shaping)
"""Importing them fills the registry of rules."""
BLOCKED = "com.microsoft.nchwc"
"""onnxruntime's domain for tensors stored in blocks of channels: known operator names, but other rules."""
BATCH_FIRST_DOMAINS = frozenset({"com.microsoft", "ai.onnx.ml", BLOCKED})
"""Domains whose operators are assumed to have the batch axis first, unless they have a rule."""


def free_batch(
    model: Model,
    shapes: Shapes,
    values: Mapping[str, npt.NDArray[np.generic]],
    batched: Collection[str],
    limits: Limits = SAFE,
) -> Model:
    """A copy of the model that takes N samples and computes for each what `model` computes for it alone.

    shapes: of every tensor of the top-level graph, from a run at the batch size of the export. values: the tensors of
    that run that depend only on shapes and constants. batched: names of the inputs whose axis 0 is the batch. All other
    dimensions are fixed to those of the run. An output without a batch axis gets one in front. Raises CannotBatch, and
    TimedOut by the limits.
    """
    copy = ir.without_recorded_shapes(model)
    walk = _Walk(copy, shapes, values, batched)
    for node in list(copy.graph):
        limits.check()
        walk.visit(node)
    walk.finish()
    return copy


class _Walk:
    """One walk through the graph: replaces its nodes and records what each tensor of the original became."""

    def __init__(
        self, model: Model, shapes: Shapes, values: Mapping[str, npt.NDArray[np.generic]], batched: Collection[str]
    ) -> None:
        self._model, self._shapes, self._known = model, shapes, values
        self._b = Builder(model, "onnxcam/batch")
        self._operands: dict[Value, Operand] = {}
        self._named_values: set[Value] = set()
        sources = [v for v in model.graph.inputs if v.name in batched]
        sizes = {self._dims(v)[:1] for v in sources}
        if len(sizes) != 1 or sizes & {(), (0,)}:
            raise CannotBatch(f"the inputs {', '.join(batched)} have no batch size in common")
        self._original_batch = sizes.pop()[0]
        self._batch_size = BatchSize(self._b, sources[0])
        for value in sources:
            self._operands[value] = self._operand(value, self._dims(value), 0)

    def visit(self, node: Node) -> None:
        """Rewrites the node if one of its inputs has a batch."""
        if any(v in self._operands for v in ir.captured(node)):
            raise CannotBatch(f"{node.op_type} ({node.name!r}) has a subgraph that reads what depends on the image")
        if any(v in self._operands for v in node.inputs if v is not None) and self._is_known(node):
            for v in node.outputs:
                array = self._known[str(v.name)]
                self._operands[v] = Operand(self._b.constant(array, array.dtype), array.shape, SHARED)
            return
        inputs = [self._operands.get(v) if v is not None else None for v in node.inputs]
        for i, x in enumerate(inputs):
            if x is not None and x.value is not node.inputs[i]:  # onnx_ir writes all inputs anew for each
                node.replace_input_with(i, x.value)
        if any(x is not None and not x.is_shared for x in inputs):
            task = self._task(node, [x or self._shared(v) for x, v in zip(inputs, node.inputs, strict=True)])
            for old, (value, batch) in zip(list(node.outputs), _rule(task)(task), strict=False):
                if old.name:
                    self._record(task, old, value, batch)

    def finish(self) -> None:
        """Sets the shapes of inputs and outputs, sorts the graph, and removes what nothing reads any more."""
        outputs = self._model.graph.outputs
        for i, old in enumerate(list(outputs)):
            if old in self._operands:
                outputs[i] = self._output(old, self._operands[old])
        for value in self._model.graph.inputs:
            dims = self._shapes.get(str(value.name))
            if dims is not None:
                value.shape = onnx_ir.Shape([BATCH, *dims[1:]] if value in self._operands else dims)
        self._model.graph.sort()
        _drop_unused(self._model)

    def _task(self, node: Node, inputs: Sequence[Operand | None]) -> Task:
        shapes = [self._dims(v) if v.name else () for v in node.outputs]
        return Task(self._model, node, inputs, shapes, self._known, self._original_batch, self._b, self._batch_size)

    def _is_known(self, node: Node) -> bool:
        return all(v.name in self._known for v in node.outputs if v.name)

    def _dims(self, value: Value) -> Dims:
        array = ir.constant(value)
        dims = self._shapes.get(str(value.name)) if array is None else array.shape
        if dims is None or None in dims:
            raise CannotBatch(f"the shape of {value.name!r} was not measured")
        return tuple(int(d or 0) for d in dims)

    def _shared(self, value: Value | None) -> Operand | None:
        return None if value is None else Operand(value, self._dims(value), SHARED)

    def _operand(self, value: Value, measured: Dims, batch: int) -> Operand:
        """measured: the tensor's shape in the original graph."""
        if batch < 0:
            return Operand(value, measured, batch)
        single = measured[batch] // self._original_batch
        return Operand(value, (*measured[:batch], single, *measured[batch + 1 :]), batch)

    def _record(self, task: Task, old: Value, value: Value, batch: int) -> None:
        """Records that `value` replaces `old`. It takes the name of `old`, so that layers are found."""
        measured = self._dims(old)
        old.shape = None  # recorded for the fixed batch; a runtime would rely on it
        if batch == SHARED:
            self._operands[old] = Operand(value, measured, SHARED)
            return
        if self._original_batch > 1 and (batch == STACKED or measured[batch] % self._original_batch):
            raise task.refusal(f"mixes the {self._original_batch} samples of the fixed batch")
        if batch == STACKED and measured[:1] == (1,):
            value, batch = task.reshape(value, [-1, *measured[1:]]), 0
        self._operands[old] = self._operand(self._take_name(old, value), measured, batch)

    def _take_name(self, old: Value, value: Value) -> Value:
        """Gives `value` the name of `old`; through an Identity if it already has the name of another tensor."""
        if value is not old:
            if value in self._named_values or value.producer() is None:
                value = self._b("Identity", value)
            old.name, value.name = f"{old.name}/inner", old.name
        self._named_values.add(value)
        return value

    def _output(self, old: Value, x: Operand) -> Value:
        """The graph output that replaces `old`, with a batch axis in front if the original had lost it."""
        value, dims = x.value, list[int | str](x.shape)
        if x.is_shared:
            value = self._take_name(old, value)
        elif x.batch == STACKED:
            dims = [BATCH, *dims]
        elif dims[x.batch] == 1:
            dims[x.batch] = BATCH
        else:
            node = old.producer()
            assert node is not None  # an input has one entry per sample
            has_batch_axis = dims[0] == 1
            moved = self._task(node, [x]).batch_at(x, 0 if has_batch_axis else STACKED)
            value, dims = self._take_name(x.value, moved.value), [BATCH, *dims[has_batch_axis:]]
        value.type, value.shape = old.type, onnx_ir.Shape(dims)
        return value


def _rule(task: Task) -> Rule:
    """The rule of the node's operator. Raises CannotBatch."""
    node = task.node
    if node.op_type in REFUSED:
        raise task.refusal(REFUSED[node.op_type])
    if not ir.is_standard(node):
        if node.domain not in BATCH_FIRST_DOMAINS:
            raise task.refusal(f"of {node.domain} has no batching rule")
        return layers.foreign if node.domain == BLOCKED else FOREIGN.get(node.op_type, layers.foreign)
    if node.op_type not in STANDARD:
        raise task.refusal("has no batching rule")
    return STANDARD[node.op_type]


def _drop_unused(model: Model) -> None:
    """Removes nodes and weights that nothing reads. Inputs stay: they are the model's signature."""
    for node in reversed(list(model.graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            model.graph.remove(node, safe=True)
    weights = model.graph.initializers
    for name in [n for n, v in weights.items() if not v.uses() and not v.is_graph_output()]:
        del weights[name]
