"""Outputs of probabilities in another form: per cent, bytes, negated logarithms, and classes before the batch."""

from collections.abc import Sequence

from onnxcam.surgeon.analysis.activations import TRANSPARENT, final_activation
from onnxcam.surgeon.ir import Value, constant

ROUNDING = frozenset({"Round", "Floor", "Ceil", "Clip"})
FULL = (100.0, 255.0, 1000.0)
"""What stands for a probability of 1 in per cent, bytes and per mille. Of a sigmoid, another number is a quantity's."""


def before_scaling(output: Value) -> Value | None:
    """The probabilities that an output only scales, rounds or negates; None for an output of another kind."""
    value, factor, scales, negated = output, 1.0, False, False
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        end = final_activation(value, frozenset())
        if end.name != "none":
            if negated:
                return value if end.name == "log_softmax" else None
            known = end.name == "softmax" or (end.name == "sigmoid" and factor in FULL)
            return value if scales and known else None
        if node.op_type in ("Mul", "Div") and (step := _scaled(node.inputs, divides=node.op_type == "Div")) is not None:
            value, scales, factor = step[0], True, factor * step[1]
        elif node.op_type == "Neg" or node.op_type in ROUNDING or node.op_type in TRANSPARENT:
            value, negated = node.inputs[0], negated != (node.op_type == "Neg")
        else:
            return None
    return None


def _scaled(inputs: Sequence[Value | None], *, divides: bool) -> tuple[Value, float] | None:
    """(x, factor) of a product with one positive number."""
    first, second = inputs
    for x, other in ((first, second), (second, first))[: 1 if divides else 2]:
        array = constant(other)
        if x is not None and constant(x) is None and array is not None and array.size == 1 and float(array.item()) > 0:
            number = float(array.item())
            return x, 1 / number if divides else number
    return None


def before_transposition(output: Value) -> Value | None:
    """The tensor (N, classes) of an output (classes, N); None for another output."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Transpose":
            perm = node.attributes.get("perm")
            return node.inputs[0] if perm is None or list(perm.as_ints()) == [1, 0] else None
        if node.op_type not in ("Identity", "Cast"):
            return None
        value = node.inputs[0]
    return None
