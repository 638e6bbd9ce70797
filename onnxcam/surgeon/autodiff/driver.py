"""Reverse mode over the graph: nodes are added that compute the gradient of a sum of numbers, and nothing else changes.

The way back is walked once. For each node between the tensors asked for and the number, last one first, the operator's
rule turns the cotangent of its output into those of its inputs; a tensor that several nodes read gets the sum.
Gradients are of data only: a weight's is never built. (Baydin et al. 2018, arXiv:1502.05767, section 3.2.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.rules import (
    conv,
    elementwise,
    foreign,
    indexing,
    linear,
    norm,
    pool,
    quantised,
    reduce,
    shape,
)
from onnxcam.surgeon.autodiff.rules.registry import (
    RULES,
    ZERO,
    BackwardNode,
    Ops,
    Registered,
    Rule,
    describe,
    key_of,
    operator_name,
)
from onnxcam.surgeon.ir import Model, Node, Shapes, Value
from onnxcam.types import Arrays

__all__ = ["Missing", "gradients", "missing_rules", "modules"]

modules = (conv, elementwise, foreign, indexing, linear, norm, pool, quantised, reduce, shape)
"""Importing them fills the table of rules."""

REAL = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE)
SEVERAL = frozenset({"Split"})
"""Operators whose rule reads the cotangents of all outputs; of all others only the first may have one."""
COUNTING = frozenset({"Dropout", "DynamicQuantizeLinear", "MaxPool", "TopK"})
"""Operators whose further outputs are places, masks or scales, which count as constants."""
ADVICE = "a rule can be registered from outside, see docs/extending.md"


@dataclass(frozen=True)
class Missing:
    """An operator on the way that has no rule. nodes: their descriptions."""

    operator: str
    nodes: tuple[str, ...]


def gradients(
    model: Model,
    ops: Ops,
    seeds: Mapping[Value, Value],
    wrt: Sequence[Value],
    *,
    shapes: Shapes,
    known: Arrays,
    instead: Mapping[str, Rule] | None = None,
) -> list[Value]:
    """Adds d sum(seed * output) / d w for each w of `wrt`, of w's own shape.

    model: sorted, of opset 18 or newer; changed in place. seeds: a cotangent for each output, of its shape. shapes: of
    every tensor, None for an entry that depends on the batch. known: tensors that are the same for all pictures.
    instead: rules that stand in for the table's. Raises MissingGradient, naming every operator that lacks a rule, where
    that is so, or where nothing that can be differentiated leads from w to the outputs.
    """
    way = _way(model, list(seeds), wrt)
    missing = _missing(model, way)
    if missing:
        raise MissingGradient(complaint(missing))
    found: dict[Value, list[Value]] = {value: [seed] for value, seed in seeds.items()}
    version = ir.opset(model)
    for node in reversed(way.nodes):
        given = [_total(ops, found.pop(v, [])) if v not in wrt else _total(ops, found.get(v, [])) for v in node.outputs]
        if all(g is None for g in given):
            continue
        step = BackwardNode(node, ir.since(node, version), shapes, known, way.active(node), given)
        for value, cotangent in _answers(ops, step, instead or {}):
            found.setdefault(value, []).append(cotangent)
    return [_result(ops, w, found.get(w, [])) for w in wrt]


def missing_rules(model: Model, outputs: Sequence[Value], wrt: Sequence[Value]) -> list[Missing]:
    """The operators between wrt and the outputs that no rule covers."""
    return _missing(model, _way(model, outputs, wrt))


def complaint(missing: Sequence[Missing]) -> str:
    shown = ", ".join(f"{m.nodes[0]}{f' and {n} more' if (n := len(m.nodes) - 1) else ''}" for m in missing)
    return f"no gradient rule for {shown}; {ADVICE}"


@dataclass(frozen=True, eq=False)
class _Way:
    """The nodes between, in order, and the tensors that change with what is asked for."""

    nodes: Sequence[Node]
    changing: frozenset[Value]

    def active(self, node: Node) -> frozenset[int]:
        return frozenset(i for i, v in _carriers(node) if v in self.changing)


def _way(model: Model, outputs: Sequence[Value], wrt: Iterable[Value]) -> _Way:
    changing = set(wrt)
    for node in model.graph:
        if not _is_flat(node) and any(v in changing for _, v in _carriers(node)):
            carriers = node.outputs[:1] if node.op_type in COUNTING else node.outputs
            changing.update(v for v in carriers if v.name)
    needed = set(outputs)
    nodes = []
    for node in reversed(list(model.graph)):
        if any(v in needed and v in changing for v in node.outputs) and not _is_flat(node):
            inputs = [v for _, v in _carriers(node) if v in changing]
            needed.update(inputs)
            if inputs:
                nodes.append(node)
    return _Way(nodes[::-1], frozenset(changing & needed))


def _carriers(node: Node) -> list[tuple[int, Value]]:
    """The inputs whose numbers count, those of branches and loops included; of CastLike's second only the type does."""
    inputs = [(i, v) for i, v in enumerate((*node.inputs, *ir.captured(node))) if v is not None]
    return inputs[:1] if node.op_type == "CastLike" else inputs


def _is_flat(node: Node) -> bool:
    """Whether the output stays as it is for small changes of the inputs."""
    if ir.is_standard(node) and node.op_type == "Cast":
        return onnx_ir.DataType(ir.integer(node, "to", 1)) not in REAL
    return ir.is_standard(node) and node.op_type in ZERO


def _missing(model: Model, way: _Way) -> list[Missing]:
    version = ir.opset(model)
    found: dict[str, list[str]] = {}
    for node in way.nodes:
        if _registered(node, version) is None:
            since = ir.since(node, version)
            found.setdefault(operator_name(node, since), []).append(describe(node, since))
    return [Missing(name, tuple(nodes)) for name, nodes in found.items()]


def _registered(node: Node, version: int) -> Registered | None:
    return RULES.table.get(key_of(node, ir.since(node, version)))


def _answers(ops: Ops, step: BackwardNode, instead: Mapping[str, Rule]) -> Iterable[tuple[Value, Value]]:
    """Each changing input with its cotangent, of the input's shape."""
    registered = RULES.table[key_of(step.node, step.since)]
    if step.node.op_type not in SEVERAL and any(g is not None for g in step.cotangents[1:]):
        raise step.refusal("has a further output that the score depends on")
    dy = next(g for g in step.cotangents if g is not None)
    answer = instead.get(key_of(step.node, step.since)[0], registered.rule)(ops, step, dy)
    cotangents = [answer] if answer is None or isinstance(answer, Value) else list(answer)
    for i, cotangent in enumerate(cotangents):
        if i not in step.active or cotangent is None:
            continue
        value = step.inputs[i]
        if registered.broadcasts:
            cotangent = ops.sum_to(cotangent, step.dims(step.y), step.dims(value))
        yield value, cotangent


def _total(ops: Ops, cotangents: Sequence[Value]) -> Value | None:
    if len(cotangents) < 2:
        return cotangents[0] if cotangents else None
    return ops.Add(*cotangents) if len(cotangents) == 2 else ops.Sum(*cotangents)


def _result(ops: Ops, wrt: Value, cotangents: Sequence[Value]) -> Value:
    total = _total(ops, cotangents)
    if total is None:
        raise MissingGradient(f"the score does not change with {wrt.name!r} along any way that can be differentiated")
    return total
