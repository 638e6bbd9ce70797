"""Walks back over the arithmetic of a pooling that computes first, to the map that enters it.

A generalised mean clamps the map and raises it to a power before the mean, and takes the root behind it. A log-sum-exp
takes exponentials. Softmax pooling and normalised gates multiply the map with weights; attention pooling projects it to
keys and values. locate.py asks before frontier.refine() goes on.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.analysis.factors import CHANNEL, is_spatial
from onnxcam.surgeon.analysis.frontier import RESHAPING, WEIGHTED, Geometry, is_learned, sums_to_one
from onnxcam.surgeon.ir import Node, Value, ancestors, constant
from onnxcam.types import Note, NoteCode

Pair = tuple[Value, Node]
"""(tensor with a grid, the node that loses the grid)."""
MOVING = (*RESHAPING, "Unsqueeze", "Transpose", "Cast", "Expand")
SCALING = ("Mul", "Div", "Add", "Sub")
INVERSES = ("Pow", "Sqrt", "Log", "Exp")
"""What follows a mean of powers, logarithms or exponentials."""
MOST_STEPS = 8


def before_pooling(final: Pair, pairs: Sequence[Pair], geometry: Geometry) -> tuple[Value, str] | None:
    """(the map that enters the pooling's own arithmetic, what is done to it); None where nothing is computed first."""
    value, consumer = final
    ways = (
        (_before_shares(final, pairs, geometry), "what is weighed by normalised weights and "),
        (_before_powers(value, consumer, geometry), "what the generalised mean takes powers or exponentials of and "),
        (_before_projections(final, geometry), "what attention pooling projects to keys and values; that "),
    )
    for x, how in ways:
        if x is not None and geometry.has_grid(x) and is_learned(x):
            return x, how
    return None


def gate_doubt(value: Value, geometry: Geometry) -> Note | None:
    """A note where the features are a map times a gate of one channel, which may belong to the pooling."""
    node = value.producer()
    if node is None or node.op_type != "Mul" or len(node.inputs) != 2:
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        if x is None or gate is None or not geometry.has_grid(gate) or not geometry.has_grid(x) or not is_learned(x):
            continue
        axes, sizes, gates = geometry.axes_of(x), geometry.shape(x) or (), geometry.shape(gate) or ()
        c = axes.index(CHANNEL) if CHANNEL in axes else None
        if c is not None and len(gates) == len(sizes) and gates[c] == 1 and (sizes[c] or 1) > 1:
            text = f"the features are weighed by a gate over space; {x.name!r} is the map before it, for --layer"
            return Note(NoteCode.GATED, text)
    return None


def _before_shares(final: Pair, pairs: Sequence[Pair], geometry: Geometry) -> Value | None:
    """x of sum(x * w) / sum(w), or of sum(x ** p) / sum(x ** q), whichever of the two sums is the final pair's."""
    for over in pairs:
        for under in pairs:
            if final not in (over, under) or over is under or not _is_ratio(over[1], under[1], geometry):
                continue
            node = over[0].producer()
            factors = [v for v in node.inputs if v is not None] if node is not None and node.op_type == "Mul" else []
            rest = [v for v in factors if not _comes_from(v, under[0])]
            if len(factors) == 2 and len(rest) == 1:
                return rest[0]
            powers = [_arithmetic_input(v, geometry) for v in (over[0], under[0])]
            if powers[0] is not None and powers[0] is powers[1]:
                return powers[0]
    return None


def _comes_from(value: Value, origin: Value) -> bool:
    """Whether the value is the origin, in another shape."""
    while value is not origin:
        node = value.producer()
        if node is None or node.op_type not in MOVING or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return True


def _is_ratio(over: Node, under: Node, geometry: Geometry) -> bool:
    """Whether the results of the two nodes meet in a division."""
    ends = [_division_after(node, geometry) for node in (over, under)]
    return (
        ends[0] is not None and ends[1] is not None and ends[0][0] is ends[1][0] and (ends[0][1], ends[1][1]) == (0, 1)
    )


def _division_after(node: Node, geometry: Geometry) -> tuple[Node, int] | None:
    """(the division that reads the node's result, at which operand), past changes of shape and a small constant."""
    value = node.outputs[0]
    for _ in range(MOST_STEPS):
        uses = list(value.uses())
        if len(uses) != 1:
            return None
        reader = uses[0].node
        if reader.op_type == "Div" and _data_inputs(reader, geometry) != [value]:
            return reader, uses[0].idx
        if not (reader.op_type in (*MOVING, "Clip", "Max") or _is_scaled(reader, geometry)):
            return None
        value = reader.outputs[0]
    return None


def _before_powers(value: Value, consumer: Node, geometry: Geometry) -> Value | None:
    """x of a mean of powers or exponentials of x, whose inverse follows the mean."""
    if consumer.op_type == "ReduceLogSumExp":
        return _unscaled(value, geometry) if value is not _unscaled(value, geometry) else None
    return _arithmetic_input(value, geometry) if _inverse_follows(consumer, geometry) else None


def _inverse_follows(node: Node, geometry: Geometry) -> bool:
    value = node.outputs[0]
    for _ in range(MOST_STEPS):
        readers = list(value.consumers())
        if any(n.op_type in INVERSES and not _is_power_above_one(n) for n in readers):
            return True
        if len(readers) != 1:
            return False
        if not (readers[0].op_type in (*MOVING, "Clip", "Max", "Abs") or _is_scaled(readers[0], geometry)):
            return False
        value = readers[0].outputs[0]
    return False


def _is_power_above_one(node: Node) -> bool:
    exponent = constant(node.inputs[1]) if node.op_type == "Pow" else None
    return exponent is not None and bool((exponent.astype(np.float64) > 1).all())


def _arithmetic_input(value: Value, geometry: Geometry) -> Value | None:
    """x of a power, an exponential or a logarithm of x, also of the clamped, scaled or signed x; else None."""
    node = value.producer()
    if node is None:
        return None
    parents = _data_inputs(node, geometry)
    if node.op_type == "Mul" and len(parents) == 2:
        return _signed(parents, geometry) or _multiplied_by_itself(parents)
    if node.op_type not in ("Pow", "Exp", "Log", "Sqrt") or len(parents) != 1:
        return None
    x = _unscaled(parents[0], geometry) if node.op_type == "Exp" else parents[0]
    inner = x.producer()
    if node.op_type == "Exp" and inner is not None and inner.op_type == "Log":  # exp(p * log x) is a power
        x = _data_inputs(inner, geometry)[0]
    return _unclamped(x, geometry)


def _signed(parents: Sequence[Value], geometry: Geometry) -> Value | None:
    """x of sign(x) * |x| ** p."""
    for sign, power in (parents, parents[::-1]):
        node = sign.producer()
        if node is not None and node.op_type == "Sign" and _arithmetic_input(power, geometry) is node.inputs[0]:
            return node.inputs[0]
    return None


def _multiplied_by_itself(parents: Sequence[Value]) -> Value | None:
    """x of x * x, or of (x * x) * x."""
    if parents[0] is parents[1]:
        return parents[0]
    for x, square in (parents, parents[::-1]):
        node = square.producer()
        if node is not None and node.op_type == "Mul" and all(v is x for v in node.inputs):
            return x
    return None


def _unclamped(x: Value, geometry: Geometry) -> Value:
    """The value before it is kept positive: by a clamp without upper bound, an absolute value or a small constant."""
    while (node := x.producer()) is not None:
        parents = _data_inputs(node, geometry)
        clamp = node.op_type == "Clip" and not (len(node.inputs) > 2 and node.inputs[2] is not None)
        clamp = clamp and "max" not in node.attributes
        positive = node.op_type in ("Max", "Abs") or (node.op_type == "Add" and _is_scalar(node))
        if len(parents) != 1 or not (clamp or positive):
            return x
        x = parents[0]
    return x


def _unscaled(x: Value, geometry: Geometry) -> Value:
    """The value before a scalar factor, and before its own maximum is subtracted."""
    while (node := x.producer()) is not None:
        parents = _data_inputs(node, geometry)
        scaled = node.op_type in ("Mul", "Div") and len(parents) == 1 and _is_scalar(node)
        shifted = node.op_type == "Sub" and len(parents) == 2 and _is_maximum(parents[1], parents[0])
        if not scaled and not shifted:
            return x
        x = parents[0]
    return x


def _is_maximum(value: Value, of: Value) -> bool:
    node = value.producer()
    while node is not None and node.op_type in MOVING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in ("ReduceMax", "GlobalMaxPool") and node.inputs[0] is of


def _is_scalar(node: Node) -> bool:
    """Whether the operand that is fixed is one number."""
    arrays = [constant(v) for v in node.inputs]
    return all(a is None or a.size == 1 for a in arrays)


def _is_scaled(node: Node, geometry: Geometry) -> bool:
    """Whether a node adds a constant or multiplies by one."""
    return node.op_type in SCALING and len(_data_inputs(node, geometry)) == 1


def _data_inputs(node: Node, geometry: Geometry) -> list[Value]:
    """The inputs that depend on the picture: no weights, nor what follows from weights and shapes alone."""
    inputs = [v for v in node.inputs if v is not None and constant(v) is None and str(v.name) not in geometry.fixed]
    return [v for v in inputs if v.is_graph_input() or any(a.is_graph_input() for a in ancestors(v))]


def _before_projections(final: Pair, geometry: Geometry) -> Value | None:
    """The tokens of which one linear layer makes the values, and one the keys, of a query that is no picture."""
    value, consumer = final
    weights = [v for v in consumer.inputs if v is not None and v is not value and sums_to_one(v)]
    if consumer.op_type not in ("MatMul", "Einsum") or not weights or _has_rows(weights[0], geometry):
        return None
    x, keys = _projected(value, geometry), _keys(weights[0], geometry)
    return x if x is not None and keys and all(_projected(k, geometry) is x for k in keys) else None


def _has_rows(weights: Value, geometry: Geometry) -> bool:
    """Whether attention has a row for every cell: then it mixes them and pools nothing."""
    axes = geometry.axes_of(weights)
    return len(axes) > 1 and is_spatial(axes[-2])


def _keys(weights: Value, geometry: Geometry) -> list[Value]:
    """The operands with a grid of the product that attention takes a softmax of."""
    value = weights
    for _ in range(MOST_STEPS):
        node = value.producer()
        if node is None:
            return []
        if node.op_type in ("MatMul", "Einsum"):
            return [v for v in _data_inputs(node, geometry) if any(is_spatial(a) for a in geometry.axes_of(v))]
        parents = _data_inputs(node, geometry)
        if len(parents) != 1 or node.op_type not in (*MOVING, *SCALING, "Softmax"):
            return []
        value = parents[0]
    return []


def _projected(value: Value, geometry: Geometry) -> Value | None:
    """What enters the linear layer that made the value, past changes of shape and constants; None without one."""
    for _ in range(4 * MOST_STEPS):
        node = value.producer()
        parents = _data_inputs(node, geometry) if node is not None else []
        if node is None or len(parents) != 1:
            return None
        if node.op_type in WEIGHTED:
            return parents[0]
        moved = node.op_type in (*MOVING, "Split", "Slice", "Gather", "LayerNormalization", *SCALING)
        if not moved:
            return None
        value = parents[0]
    return None
