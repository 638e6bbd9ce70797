"""A pass that moves sigmoids behind the operator that joins them: the two columns 1 - p and p of one probability.

    Concat(1 - Sigmoid(z), Sigmoid(z))              ->  Sigmoid(Concat(-z, z))
    Concat(Sigmoid(a), Sigmoid(b), ...)             ->  Sigmoid(Concat(a, b, ...))
    Sigmoid(z) * (-1, 1) + (1, 0)                   ->  Sigmoid(z * (-1, 1))
    Softmax(Concat(0, z)), Softmax(Pad(z))          ->  Sigmoid(Concat(-z, z))

The analysis then sees the logit of every class before a final sigmoid. The numbers stay those of the file.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.analysis.activations import TRANSPARENT, final_activation
from onnxcam.surgeon.analysis.folding import folded
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shapes, Value, constant, edit, integer, integers, take_place
from onnxcam.surgeon.passes.linear_classifiers import with_standard_classifiers
from onnxcam.surgeon.shape_inference import infer_shapes

SIGNS = {(1.0, 0.0): 1.0, (-1.0, 1.0): -1.0}
"""The sign of the logit for p * factor + offset: p itself, and 1 - p."""
FLOAT = 1
"""ONNX's code of float32."""
PADDED: dict[tuple[int, ...], tuple[float, float]] = {(0, 1, 0, 0): (-1.0, 1.0), (0, 0, 0, 1): (1.0, -1.0)}
"""The signs of the two columns for the `pads` of (N,1)."""
READING = frozenset({"ArgMax", "TopK", "ReduceMax", "Gather", "Slice"})
"""Operators that read some of the joined numbers."""


@dataclass(frozen=True)
class _Column:
    """An input of a join: sign * z before its sigmoid, and the operators that move the numbers behind it."""

    logit: Value
    signs: npt.NDArray[np.float64]
    moves: tuple[Node, ...]


def with_plain_heads(model: Model) -> Model:
    """The model with heads that the analysis reads: linear classifiers in standard operators, sigmoids behind joins."""
    return logits_of_joined_sides(with_standard_classifiers(model))


def logits_of_joined_sides(model: Model) -> Model:
    """A copy in which the joins at the end of outputs precede one sigmoid; the model itself where there are none."""
    ends = [node for node in _ends(model) if _replacement(node, None) is not None]
    shapes = infer_shapes(model, {}) if ends else {}
    names = [str(node.outputs[0].name) for node in ends if _replacement(node, shapes) is not None]
    if not names:
        return model
    copy = edit(model)
    b = Builder(copy, "onnxcam/joined")
    nodes = {str(node.outputs[0].name): node for node in copy.graph}
    for name in names:
        node = nodes[name]
        columns = _replacement(node, shapes)
        assert columns is not None, "the copy has the nodes of the model"
        _replace(copy, b, node, columns)
    copy.graph.sort()
    return copy


def _ends(model: Model) -> list[Node]:
    """The nodes behind which only moves and choices among classes follow on the way to an output."""
    ends = dict[int, Node]()
    for output in model.graph.outputs:
        value: Value | None = output
        while value is not None and (node := value.producer()) is not None and node.inputs:
            ends[id(node)] = node
            value = node.inputs[0] if node.op_type in TRANSPARENT | READING else None
    return list(ends.values())


def _replacement(node: Node, shapes: Shapes | None) -> list[_Column] | None:
    """The columns that a sigmoid of their logits gives; None for another node. shapes: None if any will do."""
    if node.op_type == "Concat":
        return _joined(node, shapes)
    if node.op_type == "Softmax":
        return _beside_zero(node, shapes)
    column = _column(node.outputs[0])
    signs = column.signs if column is not None else np.zeros(1)
    return [column] if column is not None and signs.size == 2 and set(signs.tolist()) == {-1.0, 1.0} else None


def _joined(node: Node, shapes: Shapes | None) -> list[_Column] | None:
    """The columns of a Concat of probabilities: of a class vector, or of one map and its complement."""
    columns = [_column(v) for v in node.inputs]
    if any(c is None or c.signs.size > 1 for c in columns) or len(columns) < 2:
        return None
    complete = [c for c in columns if c is not None]
    is_pair = len(complete) == 2 and complete[0].logit is complete[1].logit
    is_pair = is_pair and {float(c.signs[0]) for c in complete} == {-1.0, 1.0}
    is_vector = _has_rank(node.outputs[0], 2, shapes) and integer(node, "axis", 1) in (1, -1)
    return complete if is_pair or is_vector else None


def _has_rank(value: Value, rank: int, shapes: Shapes | None) -> bool:
    return shapes is None or len(shapes.get(str(value.name), ())) == rank


def _column(value: Value | None) -> _Column | None:
    """p or 1 - p of a sigmoid p, or both where they are made by one product with (-1, 1)."""
    factor, offset = np.ones(1), np.zeros(1)
    moves: list[Node] = []
    while value is not None:
        end = final_activation(value, frozenset())
        if end.name == "sigmoid":
            pairs = np.broadcast_arrays(factor, offset)
            signs = [SIGNS.get((round(float(f), 6), round(float(o), 6))) for f, o in zip(*pairs, strict=True)]
            known = [s for s in signs if s is not None]
            return _Column(end.value, np.asarray(known), tuple(reversed(moves))) if len(known) == len(signs) else None
        node = value.producer()
        if node is None:
            return None
        if node.op_type in TRANSPARENT and factor.size == 1:
            moves.append(node)
            value = node.inputs[0]
            continue
        step = _affine(node)
        if step is None:
            return None
        value, times, plus = step
        if times.size > 1 and factor.size > 1 and times.size != factor.size:
            return None
        factor, offset = factor * times, offset + factor * plus
    return None


def _affine(node: Node) -> tuple[Value, npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """(x, factor, offset) of a node that multiplies by a constant or adds one, along the last axis."""
    if node.op_type == "Neg" and node.inputs[0] is not None:
        return node.inputs[0], -np.ones(1), np.zeros(1)
    if node.op_type not in ("Add", "Sub", "Mul") or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    for x, other, turned in ((first, second, False), (second, first, True)):
        array = constant(other)
        if array is None or x is None or array.dtype.kind not in "fiu" or array.size != max(array.shape[-1:] or (1,)):
            continue
        numbers = array.reshape(-1).astype(np.float64)
        if not 1 <= numbers.size <= 2:
            return None
        if node.op_type == "Mul":
            return x, numbers, np.zeros(1)
        if node.op_type == "Add":
            return x, np.ones(1), numbers
        return (x, -np.ones(1), numbers) if turned else (x, np.ones(1), -numbers)
    return None


def _beside_zero(softmax: Node, shapes: Shapes | None) -> list[_Column] | None:
    """The two columns of a softmax over a logit and a zero."""
    joined = softmax.inputs[0].producer() if softmax.inputs[0] is not None else None
    if joined is None:
        return None
    if joined.op_type == "Concat" and len(joined.inputs) == 2:
        zeros = [_is_zero(v) for v in joined.inputs]
        if zeros not in ([True, False], [False, True]) or integer(softmax, "axis", -1) not in (1, -1):
            return None
        logit = joined.inputs[zeros.index(False)]
        if logit is None or not _is_column(logit, shapes) or integer(joined, "axis", 1) not in (1, -1):
            return None
        return [_Column(logit, np.asarray([-1.0 if zero else 1.0]), ()) for zero in zeros]
    if joined.op_type == "Pad" and joined.inputs[0] is not None:
        return _beside_padding(joined, joined.inputs[0], shapes)
    return None


def _beside_padding(pad: Node, logit: Value, shapes: Shapes | None) -> list[_Column] | None:
    """The two columns of a logit that is padded with a zero before or behind it."""
    computed = folded(pad.inputs[1]) if len(pad.inputs) > 1 else None
    pads = integers(pad, "pads") if computed is None else computed.reshape(-1).tolist()
    number = constant(pad.inputs[2]) if len(pad.inputs) > 2 else None
    mode = pad.attributes.get("mode")
    if len(pad.inputs) > 3 or not _is_column(logit, shapes) or (mode is not None and mode.as_string() != "constant"):
        return None
    if (len(pad.inputs) > 2 and pad.inputs[2] is not None and number is None) or (number is not None and number.any()):
        return None
    signs = PADDED.get(tuple(pads or ()))
    return [_Column(logit, np.asarray([s]), ()) for s in signs] if signs is not None else None


def _is_column(value: Value, shapes: Shapes | None) -> bool:
    """Whether the shape is (N,1)."""
    return _has_rank(value, 2, shapes) and (shapes is None or shapes[str(value.name)][1] == 1)


def _is_zero(value: Value | None) -> bool:
    """Whether every number is zero: a constant, a fill, or a product with zero."""
    stack, seen = [value], set[int]()
    while stack:
        value = stack.pop()
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        array = constant(value)
        if array is not None:
            if array.dtype.kind in "fiu" and not array.any():
                return True
            continue
        node = value.producer()
        if node is None:
            continue
        if node.op_type in ("Expand", "Tile", *TRANSPARENT):
            stack.append(node.inputs[0])
        elif node.op_type == "Mul":
            stack.extend(node.inputs)
        elif _fills_with_zero(node):
            return True
    return False


def _fills_with_zero(node: Node) -> bool:
    """Whether the node gives zeros, whatever it is fed."""
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get("value")
        return fill is None or not np.any(fill.as_tensor().numpy())
    return node.op_type == "Sub" and node.inputs[0] is node.inputs[1]


def _replace(model: Model, b: Builder, node: Node, columns: list[_Column]) -> None:
    """Puts the sigmoid of the joined logits in the place of the node's result, under its name."""
    old = node.outputs[0]
    signed = [_signed(b, column, old) for column in columns]
    axis = integer(node, "axis", 1) if node.op_type == "Concat" else 1
    joined = b("Concat", *signed, axis=axis) if len(signed) > 1 else signed[0]
    new = b("Sigmoid", joined)
    casts = [move for column in columns for move in column.moves if move.op_type == "Cast"]
    if casts:
        new = b("Cast", new, to=integer(casts[-1], "to", FLOAT))
    take_place(old, new, "joined")
    if not list(old.uses()):
        model.graph.remove(node, safe=True)


def _signed(b: Builder, column: _Column, joined: Value) -> Value:
    """The logit with its sign, moved as its probability was, in its own number type."""
    value, dtype = column.logit, column.logit.dtype or joined.dtype
    for move in (m for m in column.moves if m.op_type != "Cast"):
        attributes = {a.name: a.value for a in move.attributes.values()}
        value = b(move.op_type, value, *move.inputs[1:], **attributes)
    if column.signs.size == 1:
        return b("Neg", value) if column.signs[0] < 0 else value
    signs = b.constant(column.signs, dtype.numpy() if dtype is not None else np.float32)
    return b("Mul", value, signs)
