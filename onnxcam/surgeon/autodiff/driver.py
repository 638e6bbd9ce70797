"""The backward pass: adds to a graph the nodes that compute the gradient of its outputs, by the rules of VJP_RULES.

The graph is walked once, from the last node to the first. For each node between the inputs of interest (`wrt`) and the
outputs, the operator's rule turns the cotangent of its output into the cotangents of its inputs. A tensor that several
nodes read gets the sum of their cotangents. No gradient is built for weights. (Reverse mode: Baydin et al. 2018,
arXiv:1502.05767, section 3.2.)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.rules.registry import (
    VJP_RULES,
    ZERO_GRADIENT,
    BackwardNode,
    Ops,
    RegisteredRule,
    Rule,
    describe,
    key_of,
    operator_name,
)
from onnxcam.surgeon.ir import Model, Node, Shapes, Value
from onnxcam.types import Arrays

REAL = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.DOUBLE)
MULTIPLE_OUTPUTS = frozenset({"Split"})
"""Operators whose rule reads the cotangents of all outputs. Of any other operator only output 0 may have one."""
ONE_REAL_OUTPUT = frozenset({"Dropout", "DynamicQuantizeLinear", "MaxPool", "TopK"})
"""Operators whose other outputs are indices, masks or scales, which count as constants."""
ONE_REAL_INPUT = frozenset({"CastLike", "RoiAlign"})
"""Operators of whose other inputs only the type is read, or where numbers are read. These count as constants."""
ADVICE = "a rule can be registered with the decorator onnxcam.surgeon.autodiff.rules.gradient"


@dataclass(frozen=True)
class MissingRule:
    """An operator between wrt and the outputs that has no gradient rule.

    operator: its name for messages, such as 'Conv-11'. op_type: without version and domain. is_standard: of the ONNX
    standard. nodes: descriptions of its nodes.
    """

    operator: str
    op_type: str
    is_standard: bool
    nodes: tuple[str, ...]


def gradients(
    model: Model,
    ops: Ops,
    seeds: Mapping[Value, Value],
    wrt: Sequence[Value],
    *,
    shapes: Shapes,
    known: Arrays,
    overrides: Mapping[str, Rule] | None = None,
    limits: Limits = SAFE,
) -> list[Value]:
    """Adds d sum(seed * output) / d w for each w of `wrt`, and returns these tensors, each of the shape of its w.

    model: topologically sorted, opset 18 or newer; changed in place. seeds: a cotangent for each output, of its shape.
    shapes: of every tensor by name, None for an axis that depends on the batch. known: tensors with the same numbers
    for every image, by name. overrides: rules by operator that are used instead of the table's. Raises
    MissingGradient if an operator lacks a rule (all such operators are named), or if no differentiable path leads from
    a w to the outputs, and TimedOut by the limits.
    """
    path = _path(model, list(seeds), wrt)
    missing = _missing(model, path)
    if missing:
        raise MissingGradient(complaint(missing))
    cotangents: dict[Value, list[Value]] = {value: [seed] for value, seed in seeds.items()}
    version = ir.opset(model)
    for node in reversed(path.nodes):
        limits.check()
        # A w keeps its cotangents: they are returned, and passed on as well.
        of_outputs = [_sum(ops, cotangents.get(v, []) if v in wrt else cotangents.pop(v, [])) for v in node.outputs]
        if all(cotangent is None for cotangent in of_outputs):
            continue
        backward = BackwardNode(node, ir.since(node, version), shapes, known, path.active_inputs(node), of_outputs)
        for value, cotangent in _input_cotangents(ops, backward, overrides or {}):
            cotangents.setdefault(value, []).append(cotangent)
    return [_gradient(ops, w, cotangents.get(w, [])) for w in wrt]


def missing_rules(model: Model, outputs: Sequence[Value], wrt: Sequence[Value]) -> list[MissingRule]:
    """The operators between wrt and the outputs that have no rule."""
    return _missing(model, _path(model, outputs, wrt))


def complaint(missing: Sequence[MissingRule]) -> str:
    """The message of MissingGradient: every operator without a rule, with its first node, and what can be done."""
    listed = ", ".join(f"{m.nodes[0]}{f' and {n} more' if (n := len(m.nodes) - 1) else ''}" for m in missing)
    return f"no gradient rule for {listed}; {ADVICE}"


@dataclass(frozen=True, eq=False)
class _Path:
    """What lies between wrt and the outputs: the nodes in graph order, and the tensors that vary with wrt."""

    nodes: Sequence[Node]
    varying: frozenset[Value]

    def active_inputs(self, node: Node) -> frozenset[int]:
        return frozenset(i for i, v in _real_inputs(node) if v in self.varying)


def _path(model: Model, outputs: Sequence[Value], wrt: Iterable[Value]) -> _Path:
    varying = set(wrt)
    for node in model.graph:
        if not _has_zero_gradient(node) and any(v in varying for _, v in _real_inputs(node)):
            reached = node.outputs[:1] if node.op_type in ONE_REAL_OUTPUT else node.outputs
            varying.update(v for v in reached if v.name)
    needed = set(outputs)
    nodes = []
    for node in reversed(list(model.graph)):
        if any(v in needed and v in varying for v in node.outputs) and not _has_zero_gradient(node):
            inputs = [v for _, v in _real_inputs(node) if v in varying]
            needed.update(inputs)
            if inputs:
                nodes.append(node)
    return _Path(nodes[::-1], frozenset(varying & needed))


def _real_inputs(node: Node) -> list[tuple[int, Value]]:
    """The inputs whose numbers the node passes on, including what its branches and loops read by name."""
    inputs = [(i, v) for i, v in enumerate((*node.inputs, *ir.captured(node))) if v is not None]
    return inputs[:1] if node.op_type in ONE_REAL_INPUT else inputs


def _has_zero_gradient(node: Node) -> bool:
    if ir.is_standard(node) and node.op_type == "Cast":
        return onnx_ir.DataType(ir.integer(node, "to", 1)) not in REAL
    return ir.is_standard(node) and node.op_type in ZERO_GRADIENT


def _missing(model: Model, path: _Path) -> list[MissingRule]:
    version = ir.opset(model)
    nodes: dict[tuple[str, str, bool], list[str]] = {}
    for node in path.nodes:
        if _registered(node, version) is None:
            since = ir.since(node, version)
            operator = (operator_name(node, since), node.op_type, ir.is_standard(node))
            nodes.setdefault(operator, []).append(describe(node, since))
    return [MissingRule(*operator, tuple(descriptions)) for operator, descriptions in nodes.items()]


def _registered(node: Node, version: int) -> RegisteredRule | None:
    return VJP_RULES.get(key_of(node, ir.since(node, version)))


def _input_cotangents(ops: Ops, node: BackwardNode, overrides: Mapping[str, Rule]) -> Iterable[tuple[Value, Value]]:
    """Yields each active input with its cotangent, of the input's shape."""
    key = key_of(node.forward, node.since)
    registered = VJP_RULES[key]
    if node.op_type not in MULTIPLE_OUTPUTS and any(cotangent is not None for cotangent in node.cotangents[1:]):
        raise node.refusal("has a second output that the score depends on")
    dy = next(cotangent for cotangent in node.cotangents if cotangent is not None)
    result = overrides.get(key[0], registered.rule)(ops, node, dy)
    cotangents = [result] if result is None or isinstance(result, Value) else list(result)
    for i, cotangent in enumerate(cotangents):
        if i not in node.active or cotangent is None:
            continue
        value = node.inputs[i]
        if registered.broadcasts:
            cotangent = ops.sum_to(cotangent, node.dims(node.y), node.dims(value))
        yield value, cotangent


def _sum(ops: Ops, cotangents: Sequence[Value]) -> Value | None:
    if len(cotangents) < 2:
        return cotangents[0] if cotangents else None
    return ops.Add(*cotangents) if len(cotangents) == 2 else ops.Sum(*cotangents)


def _gradient(ops: Ops, wrt: Value, cotangents: Sequence[Value]) -> Value:
    total = _sum(ops, cotangents)
    if total is None:
        raise MissingGradient(f"the score does not change with {wrt.name!r} along any path that can be differentiated")
    return total
