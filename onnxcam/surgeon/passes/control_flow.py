"""Two passes that replace Loop and If by their contents, so that the tensors inside can be analysed and returned.

unroll_loops() repeats the body of a Loop with a known number of rounds. take_branches() replaces an If by the branch
that a run has shown (analysis/tracing.py). A tensor inside a subgraph could not be an output of the model.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from onnxcam.errors import ModelError
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Graph, Model, Node, Value, constant, edit, in_order, values

MOST_ROUNDS = 64
"""A Loop of more rounds stays: unrolled it would make the graph too large."""


def unroll_loops(model: Model, limits: Limits = SAFE) -> Model:
    """Unrolls every Loop of a constant number of rounds, at most MOST_ROUNDS, that never stops early.

    The model itself where there is no Loop. Raises ModelError where Loops within Loops become more nodes than the
    limit, and TimedOut.
    """
    if all(node.op_type != "Loop" for node in model.graph):
        return model
    copy = edit(model)
    space = _Space(copy, limits)
    pending = [n for n in reversed(copy.graph) if n.op_type == "Loop"]
    while pending:
        loop = pending.pop()
        if _rounds(loop) is not None:
            pending.extend(n for n in reversed(_unroll(space, loop)) if n.op_type == "Loop")
    return in_order(copy)


def take_branches(model: Model, taken: Mapping[str, bool], limits: Limits = SAFE) -> Model:
    """Replaces every If by one branch. taken: name of the condition -> its value; constant conditions need no entry.

    Raises ModelError and TimedOut, as unroll_loops() does.
    """
    copy = edit(model)
    space = _Space(copy, limits)
    pending = [n for n in reversed(copy.graph) if n.op_type == "If"]
    while pending:
        node = pending.pop()
        condition = _condition(node, taken)
        if condition is not None:
            branch = _subgraph(node, "then_branch" if condition else "else_branch")
            results, added = _inline(space, branch, [], node, str(node.name or node.op_type))
            _replace(copy, node, results)
            pending.extend(n for n in reversed(added) if n.op_type == "If")
    return in_order(copy)


class _Space:
    """A model that grows, its limits, and the names that are taken in it."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self._limits, self._count = model, limits, len(model.graph)
        self.names = {str(v.name) for v in values(model)}

    def takes(self, name: str | None) -> bool:
        """Whether a tensor or weight has this name."""
        return str(name) in self.names or name in self.model.graph.initializers

    def add(self, nodes: Sequence[Node] | Graph) -> None:
        """Counts nodes that are about to be added. Raises ModelError where they are too many, and TimedOut."""
        self._limits.check()
        self._count += len(nodes)
        if self._limits.exceeded("nodes", self._count):
            raise ModelError(f"its loops and branches become {self._count:,} nodes; {self._limits.way_out('nodes')}")


def _condition(node: Node, taken: Mapping[str, bool]) -> bool | None:
    """The value of an If's condition; None where it is unknown, and for other nodes."""
    if node.op_type != "If" or not node.inputs or node.inputs[0] is None:
        return None
    known = constant(node.inputs[0])
    return bool(known.any()) if known is not None else taken.get(str(node.inputs[0].name))


def _rounds(loop: Node) -> int | None:
    """The constant number of rounds of a Loop that can be unrolled; None for all other Loops."""
    trips = constant(loop.inputs[0])
    start = constant(loop.inputs[1]) if loop.inputs[1] is not None else np.True_
    if trips is None or trips.size != 1 or start is None or not np.all(start):
        return None
    body = _subgraph(loop, "body")
    goes_on, condition = body.outputs[0], body.inputs[1]
    while (node := goes_on.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        goes_on = node.inputs[0]
    if int(trips.reshape(-1)[0]) == 0 and len(body.outputs) > len(loop.inputs) - 1:
        return None  # its scan outputs are empty tensors
    always = goes_on is condition or (constant(goes_on) is not None and bool(np.all(constant(goes_on))))
    return int(trips.reshape(-1)[0]) if always and 0 <= int(trips.reshape(-1)[0]) <= MOST_ROUNDS else None


def _unroll(space: _Space, loop: Node) -> list[Node]:
    """Replaces the Loop by copies of its body, one for each round, and returns their nodes."""
    model, added = space.model, list[Node]()
    label = str(loop.name or "Loop")
    body, b = _subgraph(loop, "body"), Builder(model, f"{label}/unrolled")
    carried = [v for v in loop.inputs[2:] if v is not None]
    count = len(carried)
    scanned: list[list[Value]] = [[] for _ in body.outputs[1 + count :]]
    for i in range(_rounds(loop) or 0):
        bound = [b.constant(i, np.int64), b.constant(True, np.bool_), *carried]
        results, nodes = _inline(space, body, bound, loop, f"{label}/{i}")
        added += nodes
        carried = results[1 : 1 + count]
        for collected, value in zip(scanned, results[1 + count :], strict=True):
            collected.append(b.unsqueeze(value, [0]))
    stacked = [b("Concat", *values, axis=0) for values in scanned]
    _replace(model, loop, [*carried, *stacked])
    return added


def _subgraph(node: Node, attribute: str) -> Graph:
    return node.attributes[attribute].as_graph()


def _inline(
    space: _Space, graph: Graph, bound: Sequence[Value], before: Node, prefix: str
) -> tuple[list[Value], list[Node]]:
    """Copies the subgraph before the node `before`, with `bound` as its inputs.

    Returns (the values of its outputs, the copied nodes).
    """
    space.add(graph)
    model = space.model
    copied = graph.clone(allow_outer_scope_values=True)
    outputs = list(copied.outputs)
    copied.outputs.clear()
    renamed = {id(old): new for old, new in zip(copied.inputs, bound, strict=True)}
    for old, new in zip(copied.inputs, bound, strict=True):
        onnx_ir.convenience.replace_all_uses_with(old, new)
    for name, weight in list(copied.initializers.items()):
        del copied.initializers[name]
        _register(model, weight, f"{prefix}/{name}")
    nodes = list(copied)
    copied.remove(nodes)
    # Users know the exporter's names, so they stay where they are free.
    for node in nodes:
        node.name = f"{prefix}/{node.name}" if node.name else None
        for value in node.outputs:
            value.name = f"{prefix}/{value.name}" if space.takes(value.name) else value.name
    space.names.update(str(value.name) for node in nodes for value in node.outputs)
    model.graph.insert_before(before, nodes)
    return [renamed.get(id(v), v) for v in outputs], nodes


def _register(model: Model, weight: Value, name: str) -> None:
    """Makes a subgraph's weight one of the model, as a new tensor: renaming the old one would rename the file's."""
    array = constant(weight)
    assert array is not None
    stored = onnx_ir.Value(
        name=name, const_value=onnx_ir.tensor(array, name=name), type=weight.type, shape=weight.shape
    )
    model.graph.register_initializer(stored)
    onnx_ir.convenience.replace_all_uses_with(weight, stored)


def _replace(model: Model, node: Node, results: Sequence[Value]) -> None:
    """Replaces the node by the results, under the names of its outputs, which may be outputs of the model."""
    for old, new in zip(node.outputs, results, strict=True):
        identity = onnx_ir.node("Identity", [new], name=f"{node.name or node.op_type}/{old.name}")
        same = identity.outputs[0]
        same.name, same.type, same.shape = old.name, old.type, old.shape
        old.name = f"{old.name}/replaced"
        model.graph.insert_before(node, identity)
        onnx_ir.convenience.replace_all_uses_with(old, same, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
