"""A batch of N pictures through a graph that was exported for one: vmap over ONNX.

The graph is taken for a function of one picture, and every node is replaced by one that computes it for N: a walk in
the graph's order that knows of each tensor where its batch lies (surgeon/batching/task.py), and asks the rule of each
operator (surgeon/batching/). Shapes are those of one measured run, so what is computed from them stays what it is for
one picture.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shapes, Value
from onnxcam.surgeon.vmap import indexing, layers, pointwise, products, shaping
from onnxcam.surgeon.vmap.rules import FOREIGN, REFUSED, STANDARD, Rule
from onnxcam.surgeon.vmap.task import EXTRA, SAME, CannotBatch, Dims, Operand, Pictures, Task

__all__ = ["BATCH", "CannotBatch", "free_batch"]

BATCH = "N"
"""The name of the freed dimension."""
RULES = (indexing, layers, pointwise, products, shaping)
"""Modules whose import fills the table of rules."""
BLOCKED = "com.microsoft.nchwc"
NAMED = frozenset({"com.microsoft", "ai.onnx.ml", BLOCKED})
"""Domains whose operators have the batch in front unless a rule says otherwise."""


def free_batch(
    model: Model, shapes: Shapes, values: Mapping[str, npt.NDArray[np.generic]], batched: Collection[str]
) -> Model:
    """A copy that takes any number of pictures and computes for each what `model` computes for it alone.

    shapes: of every tensor of the top-level graph, from a run at the model's own batch size. values: tensors that
    depend on shapes and constants alone, from the same run. batched: the inputs whose axis 0 is the batch. All other
    dimensions become those of the run. An output that had lost its batch axis gains one in front. Raises CannotBatch.
    """
    copy = ir.without_recorded_shapes(model)
    walk = _Walk(copy, shapes, values, batched)
    for node in list(copy.graph):
        walk.visit(node)
    walk.finish()
    return copy


class _Walk:
    """The state of one walk: what stands, in the new graph, for each value of the old one."""

    def __init__(
        self, model: Model, shapes: Shapes, values: Mapping[str, npt.NDArray[np.generic]], batched: Collection[str]
    ) -> None:
        self._model, self._shapes, self._known = model, shapes, values
        self._b = Builder(model, "onnxcam/batch")
        self._state: dict[Value, Operand] = {}
        self._placed: set[Value] = set()
        sources = [v for v in model.graph.inputs if v.name in batched]
        sizes = {self._dims(v)[:1] for v in sources}
        if len(sizes) != 1 or sizes & {(), (0,)}:
            raise CannotBatch(f"the inputs {', '.join(batched)} have no batch size in common")
        self._fixed = sizes.pop()[0]
        self._pictures = Pictures(self._b, sources[0])
        for value in sources:
            self._state[value] = self._operand(value, self._dims(value), 0)

    def visit(self, node: Node) -> None:
        if any(v in self._state for v in ir.captured(node)):
            raise CannotBatch(f"{node.op_type} ({node.name!r}) has a subgraph that reads what depends on the picture")
        if any(v in self._state for v in node.inputs if v is not None) and self._is_known(node):
            for v in node.outputs:
                array = self._known[str(v.name)]
                self._state[v] = Operand(self._b.constant(array, array.dtype), array.shape, SAME)
            return
        standing = [self._state.get(v) if v is not None else None for v in node.inputs]
        for i, x in enumerate(standing):
            if x is not None:
                node.replace_input_with(i, x.value)
        if any(x is not None and not x.is_same for x in standing):
            task = self._task(node, [x or self._same(v) for x, v in zip(standing, node.inputs, strict=True)])
            for old, (value, place) in zip(list(node.outputs), _rule(task)(task), strict=False):
                if old.name:
                    self._settle(task, old, value, place)

    def finish(self) -> None:
        """Shapes of inputs and outputs; order; nodes and weights that nothing reads any more."""
        outputs = self._model.graph.outputs
        for i, old in enumerate(list(outputs)):
            if old in self._state:
                outputs[i] = self._output(old, self._state[old])
        for value in self._model.graph.inputs:
            dims = self._shapes.get(str(value.name))
            if dims is not None:
                value.shape = onnx_ir.Shape([BATCH, *dims[1:]] if value in self._state else dims)
        self._model.graph.sort()
        _drop_unused(self._model)

    def _task(self, node: Node, inputs: Sequence[Operand | None]) -> Task:
        shapes = [self._dims(v) if v.name else () for v in node.outputs]
        return Task(self._model, node, inputs, shapes, self._known, self._fixed, self._b, self._pictures)

    def _is_known(self, node: Node) -> bool:
        return all(v.name in self._known for v in node.outputs if v.name)

    def _dims(self, value: Value) -> Dims:
        array = ir.constant(value)
        found = self._shapes.get(str(value.name)) if array is None else array.shape
        if found is None or None in found:
            raise CannotBatch(f"the shape of {value.name!r} was not measured")
        return tuple(int(d or 0) for d in found)

    def _same(self, value: Value | None) -> Operand | None:
        return None if value is None else Operand(value, self._dims(value), SAME)

    def _operand(self, value: Value, measured: Dims, place: int) -> Operand:
        if place < 0:
            return Operand(value, measured, place)
        single = measured[place] // self._fixed
        return Operand(value, (*measured[:place], single, *measured[place + 1 :]), place)

    def _settle(self, task: Task, old: Value, value: Value, place: int) -> None:
        """Notes what stands for `old` from now on; it takes over the name, so that layers are found by it."""
        measured = self._dims(old)
        old.shape = None  # recorded for one picture, and a runtime believes it
        if place == SAME:
            self._state[old] = Operand(value, measured, SAME)
            return
        if self._fixed > 1 and (place == EXTRA or measured[place] % self._fixed):
            raise task.refusal(f"mixes the {self._fixed} pictures of the fixed batch")
        if place == EXTRA and measured[:1] == (1,):
            value, place = task.reshape(value, [-1, *measured[1:]]), 0
        self._state[old] = self._operand(self._named(old, value), measured, place)

    def _named(self, old: Value, value: Value) -> Value:
        if value is not old:
            if value in self._placed or value.producer() is None:
                value = self._b("Identity", value)
            old.name, value.name = f"{old.name}/inner", old.name
        self._placed.add(value)
        return value

    def _output(self, old: Value, x: Operand) -> Value:
        value, dims = x.value, list[int | str](x.shape)
        if x.is_same:
            value = self._named(old, value)
        elif x.batch == EXTRA:
            dims = [BATCH, *dims]
        elif dims[x.batch] == 1:
            dims[x.batch] = BATCH
        else:
            node = old.producer()
            assert node is not None  # an input has one entry a picture
            leads = dims[0] == 1
            moved = self._task(node, [x]).at(x, 0 if leads else EXTRA)
            value, dims = self._named(x.value, moved.value), [BATCH, *dims[leads:]]
        value.type, value.shape = old.type, onnx_ir.Shape(dims)
        return value


def _rule(task: Task) -> Rule:
    node = task.node
    if node.op_type in REFUSED:
        raise task.refusal(REFUSED[node.op_type])
    if not ir.is_standard(node):
        if node.domain not in NAMED:
            raise task.refusal(f"of {node.domain} has no batching rule")
        # Memory in blocks of channels has operators of well-known names but other rules.
        return layers.foreign if node.domain == BLOCKED else FOREIGN.get(node.op_type, layers.foreign)
    if node.op_type not in STANDARD:
        raise task.refusal("has no batching rule")
    return STANDARD[node.op_type]


def _drop_unused(model: Model) -> None:
    """Inputs stay, read or not: they are the model's signature."""
    for node in reversed(list(model.graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            model.graph.remove(node, safe=True)
    weights = model.graph.initializers
    for name in [n for n, v in weights.items() if not v.uses() and not v.is_graph_output()]:
        del weights[name]
