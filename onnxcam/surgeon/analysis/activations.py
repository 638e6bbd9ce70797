"""The activation at the end of a network: its sigmoid or softmax, whether one operator or several write it.

Also the ends that are no activation of a classifier: a vector divided by its length (an embedding) and a number behind
a function that no logit passes (a quantity).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxcam.surgeon.ir import Node, Value, constant

FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
"""Operators that keep the numbers and their order."""
MOVING = TRANSPARENT | {"Transpose"}
"""Operators that keep the numbers of a map."""
QUANTITIES = frozenset(
    "Relu Softplus Exp Log Abs Sqrt Pow Clip Tanh Atan Sin Cos Floor Ceil HardSigmoid ReduceMax ReduceMin ReduceL1 "
    "ReduceL2 ReduceSumSquare".split()
)
"""Operators at the end of a number that is no logit: a count, a distance, an angle."""
MARGIN = 1e-3
"""What a Clip of probabilities may leave out at 0 and at 1."""
LONGEST_LENGTH = 8
"""Nodes between a vector and the length by which it is divided."""


@dataclass(frozen=True)
class Activation:
    """The end of an output. value: what enters the activation. activated: its result, of the same shape. name: as in
    Logits.activation; 'none' where the output ends in no activation, and then both values are the output."""

    value: Value
    name: str
    activated: Value


def final_activation(output: Value, through: frozenset[str] = TRANSPARENT) -> Activation:
    """The activation behind which only operators of `through` follow."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in FINAL_ACTIVATIONS:
            return Activation(node.inputs[0], FINAL_ACTIVATIONS[node.op_type], value)
        written = _written_out(node)
        if written is not None:
            return Activation(*written, value)
        if node.op_type not in through and not (through and _is_margin(node)):
            break
        value = node.inputs[0]
    return Activation(output, "none", output)


def _is_margin(node: Node) -> bool:
    """Whether the node only keeps probabilities away from 0 and 1, as before a logarithm."""
    if node.op_type != "Clip" or final_activation_name(node.inputs[0]) == "none":
        return False
    attributes = [node.attributes.get(name) for name in ("min", "max")]
    operands = [constant(v) for v in (*node.inputs[1:], None, None)][:2]
    ends = [
        float(a.as_float()) if a is not None else float(o.item()) if o is not None and o.size == 1 else default
        for a, o, default in zip(attributes, operands, (0.0, 1.0), strict=True)
    ]
    return ends[0] <= MARGIN and ends[1] >= 1 - MARGIN


def final_activation_name(value: Value | None) -> str:
    """The name of the activation at the end of a value; 'none' without one."""
    return final_activation(value).name if value is not None else "none"


def _written_out(node: Node) -> tuple[Value, str] | None:
    """(x, its name) of an activation that several operators compute: 1 / (1 + exp(-x)), exp(x) / sum(exp(x)), log."""
    if node.op_type == "Log":
        inner = _producer(node.inputs[0])
        first = inner.inputs[0] if inner is not None and inner.op_type == "Softmax" else None
        return (first, "log_softmax") if first is not None else None
    if node.op_type == "Reciprocal":
        return _sigmoid(node.inputs[0])
    if node.op_type != "Div" or len(node.inputs) != 2:
        return None
    if _is_number(node.inputs[0], 1):
        return _sigmoid(node.inputs[1])
    exponential, total = _producer(node.inputs[0]), _producer(node.inputs[1])
    if exponential is None or total is None or (exponential.op_type, total.op_type) != ("Exp", "ReduceSum"):
        return None
    x = exponential.inputs[0] if total.inputs[0] is node.inputs[0] else None
    shifted = _producer(x)
    if shifted is not None and shifted.op_type == "Sub" and shifted.inputs[0] is not None:
        largest = _producer(shifted.inputs[1])
        if largest is not None and largest.op_type == "ReduceMax" and largest.inputs[0] is shifted.inputs[0]:
            x = shifted.inputs[0]
    return (x, "softmax") if x is not None else None


def _sigmoid(denominator: Value | None) -> tuple[Value, str] | None:
    """(x, 'sigmoid') of the denominator 1 + exp(-x)."""
    total = _producer(denominator)
    if total is None or total.op_type != "Add" or len(total.inputs) != 2:
        return None
    for one, other in (total.inputs, total.inputs[::-1]):
        power = _producer(other)
        if not _is_number(one, 1) or power is None or power.op_type != "Exp":
            continue
        negated = _producer(power.inputs[0])
        if negated is not None and negated.op_type == "Neg" and negated.inputs[0] is not None:
            return negated.inputs[0], "sigmoid"
        if negated is not None and negated.op_type == "Mul":
            for x, minus in (negated.inputs, negated.inputs[::-1]):
                if _is_number(minus, -1) and x is not None:
                    return x, "sigmoid"
    return None


def _producer(value: Value | None) -> Node | None:
    return value.producer() if value is not None else None


def _is_number(value: Value | None, number: float) -> bool:
    array = constant(value)
    return array is not None and array.size == 1 and bool(np.all(array == number))


def last_operator(value: Value, through: frozenset[str] = TRANSPARENT) -> Node | None:
    """The operator that computes the numbers of a value, before those of `through`, which only move them."""
    while (node := value.producer()) is not None and node.op_type in through and node.inputs[0] is not None:
        value = node.inputs[0]
    return node


def is_quantity(value: Value, through: frozenset[str] = TRANSPARENT) -> bool:
    """Whether a number ends in an operator that no logit ends in, such as ReLU: it counts, or measures."""
    node = last_operator(value, through)
    if node is not None and node.op_type == "Sub" and constant(node.inputs[0]) is not None:  # 1 - p
        return node.inputs[1] is not None and final_activation(node.inputs[1]).name != "none"
    return node is not None and (node.op_type in QUANTITIES or _is_scaled(node) or _is_expectation(node))


def _is_scaled(node: Node) -> bool:
    """Whether the node moves a sigmoid or a tanh to another range, such as that of an age or a depth."""
    scaled: Node | None = node
    while scaled is not None and scaled.op_type in ("Mul", "Add", "Sub", "Div") and any(map(_is_scalar, scaled.inputs)):
        rest = [v for v in scaled.inputs if v is not None and not _is_scalar(v)]
        scaled = last_operator(rest[0]) if len(rest) == 1 else None
    return scaled is not None and scaled is not node and scaled.op_type in ("Sigmoid", "Tanh")


def _is_expectation(node: Node) -> bool:
    """Whether the node adds up probabilities, each with its own number: an expected value, such as an age."""
    x = node.inputs[0] if node.inputs else None
    if node.op_type in ("MatMul", "Gemm"):
        return final_activation_name(x) == "softmax" and constant(node.inputs[1]) is not None
    if node.op_type != "ReduceSum" or x is None:
        return False
    product = last_operator(x)
    factors = product.inputs if product is not None and product.op_type == "Mul" else [x]
    rest = [v for v in factors if v is not None and constant(v) is None]
    return len(rest) == 1 and final_activation_name(rest[0]) in ("softmax", "sigmoid")


def _is_root(exponent: Value | None) -> bool:
    """Whether the exponent lies between 0 and 1; PyTorch writes a square root as 0.49999976."""
    array = constant(exponent)
    return array is not None and array.size == 1 and 0 < float(array.item()) < 1


def is_distance(value: Value) -> bool:
    """Whether a length or a root is the last operator: less is better there, unlike a score."""
    node = last_operator(value)
    if node is not None and (node.op_type == "Sqrt" or (node.op_type == "Pow" and _is_root(node.inputs[1]))):
        return True
    if node is not None and node.op_type == "ReduceSum" and node.inputs[0] is not None:
        square = last_operator(node.inputs[0])
        if square is None or square.op_type == "Abs":
            return square is not None
        twice = square.op_type == "Mul" and square.inputs[0] is square.inputs[1]
        return twice or (square.op_type == "Pow" and _is_number(square.inputs[1], 2))
    return node is not None and node.op_type in ("ReduceL2", "ReduceL1", "ReduceSumSquare")


def is_normalised(value: Value) -> bool:
    """Whether a batch or layer normalisation is the last layer."""
    node = last_operator(value)
    return node is not None and node.op_type in ("BatchNormalization", "LayerNormalization")


def has_unit_length(value: Value) -> bool:
    """Whether the value is a vector divided by its own length, as embeddings are."""
    node = last_operator(value)
    while node is not None and node.op_type == "Mul" and any(_is_scalar(v) for v in node.inputs):
        rest = [v for v in node.inputs if v is not None and not _is_scalar(v)]
        node = last_operator(rest[0]) if rest else None
    if node is None:
        return False
    if node.op_type == "LpNormalization":
        return True
    if node.op_type == "Mul":
        return any(_is_length(v) and "Reciprocal" in _operators(v) for v in node.inputs if v is not None)
    return node.op_type == "Div" and node.inputs[1] is not None and _is_length(node.inputs[1])


def _is_scalar(value: Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size == 1


def _is_length(value: Value) -> bool:
    operators = set(_operators(value))
    squares = "ReduceSumSquare" in operators or ("ReduceSum" in operators and operators & {"Mul", "Pow"})
    return "ReduceL2" in operators or bool(squares and operators & {"Sqrt", "Pow"})


def _operators(value: Value) -> Iterator[str]:
    """The operators on the way back from a value along first inputs, until a vector is reduced."""
    for _ in range(LONGEST_LENGTH):
        node = value.producer()
        if node is None:
            return
        yield node.op_type
        before = [v for v in node.inputs if v is not None and constant(v) is None]
        if not before or node.op_type in ("Gemm", "MatMul", "Conv"):
            return
        value = before[0]
