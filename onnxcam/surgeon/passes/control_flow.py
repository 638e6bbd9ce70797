"""If and Loop taken out of the graph, so that what is inside can be seen: two passes.

A tensor inside a branch or a loop's body can be no output of the model. A loop with a known number of rounds is the
same as its body written out; an If that goes one way for every picture is that branch.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Graph, Model, Node, Value, constant, edit, in_order, values

MOST_ROUNDS = 64
"""A loop of more rounds stays a loop: the graph would grow too large."""


def unroll_loops(model: Model) -> Model:
    """Every Loop of a constant number of rounds, at most MOST_ROUNDS, that never stops early, written out."""
    copy = edit(model)
    while (loop := next((n for n in copy.graph if n.op_type == "Loop" and _rounds(n) is not None), None)) is not None:
        _unroll(copy, loop)
    return in_order(copy)


def take_branches(model: Model, taken: Mapping[str, bool]) -> Model:
    """Every If whose condition is constant or listed in `taken` (by the condition's name) replaced by that branch."""
    copy = edit(model)
    while (found := next((n for n in copy.graph if _way(n, taken) is not None), None)) is not None:
        branch = _subgraph(found, "then_branch" if _way(found, taken) else "else_branch")
        results = _inline(copy, branch, [], found, str(found.name or found.op_type))
        _replace(copy, found, results)
    return in_order(copy)


def _way(node: Node, taken: Mapping[str, bool]) -> bool | None:
    if node.op_type != "If" or not node.inputs or node.inputs[0] is None:
        return None
    known = constant(node.inputs[0])
    return bool(known.any()) if known is not None else taken.get(str(node.inputs[0].name))


def _rounds(loop: Node) -> int | None:
    """The constant number of rounds of a loop whose condition stays true; None for all others."""
    trips = constant(loop.inputs[0])
    start = constant(loop.inputs[1]) if loop.inputs[1] is not None else np.True_
    if trips is None or trips.size != 1 or start is None or not np.all(start):
        return None
    body = _subgraph(loop, "body")
    goes_on, given = body.outputs[0], body.inputs[1]
    while (node := goes_on.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        goes_on = node.inputs[0]
    if int(trips.reshape(-1)[0]) == 0 and len(body.outputs) > len(loop.inputs) - 1:
        return None  # what it collects is empty
    always = goes_on is given or (constant(goes_on) is not None and bool(np.all(constant(goes_on))))
    return int(trips.reshape(-1)[0]) if always and 0 <= int(trips.reshape(-1)[0]) <= MOST_ROUNDS else None


def _unroll(model: Model, loop: Node) -> None:
    label = str(loop.name or "Loop")
    body, b = _subgraph(loop, "body"), Builder(model, f"{label}/unrolled")
    carried = [v for v in loop.inputs[2:] if v is not None]
    count = len(carried)
    scanned: list[list[Value]] = [[] for _ in body.outputs[1 + count :]]
    for i in range(_rounds(loop) or 0):
        bound = [b.constant(i, np.int64), b.constant(True, np.bool_), *carried]
        results = _inline(model, body, bound, loop, f"{label}/{i}")
        carried = results[1 : 1 + count]
        for collected, value in zip(scanned, results[1 + count :], strict=True):
            collected.append(b.unsqueeze(value, [0]))
    stacked = [b("Concat", *values, axis=0) for values in scanned]
    _replace(model, loop, [*carried, *stacked])


def _subgraph(node: Node, attribute: str) -> Graph:
    return node.attributes[attribute].as_graph()


def _inline(model: Model, graph: Graph, bound: Sequence[Value], before: Node, prefix: str) -> list[Value]:
    """A copy of the subgraph's nodes in front of `before`, its inputs bound; gives the values of its outputs."""
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
    taken = {str(v.name) for v in values(model)} | set(model.graph.initializers)
    for node in nodes:
        node.name = f"{prefix}/{node.name}" if node.name else None
        for value in node.outputs:
            # A name that is free stays what its exporter called it.
            value.name = f"{prefix}/{value.name}" if value.name in taken else value.name
    model.graph.insert_before(before, nodes)
    return [renamed.get(id(v), v) for v in outputs]


def _register(model: Model, weight: Value, name: str) -> None:
    """The numbers are shared but not their record, whose name belongs to the file that was read."""
    array = constant(weight)
    assert array is not None
    stored = onnx_ir.Value(
        name=name, const_value=onnx_ir.tensor(array, name=name), type=weight.type, shape=weight.shape
    )
    model.graph.register_initializer(stored)
    onnx_ir.convenience.replace_all_uses_with(weight, stored)


def _replace(model: Model, node: Node, results: Sequence[Value]) -> None:
    """The node's outputs keep their names, so that they may be outputs of the model."""
    for old, new in zip(node.outputs, results, strict=True):
        identity = onnx_ir.node("Identity", [new], name=f"{node.name or node.op_type}/{old.name}")
        same = identity.outputs[0]
        same.name, same.type, same.shape = old.name, old.type, old.shape
        old.name = f"{old.name}/replaced"
        model.graph.insert_before(node, identity)
        onnx_ir.convenience.replace_all_uses_with(old, same, replace_graph_outputs=True)
    model.graph.remove(node, safe=True)
