"""Tensors that hold probabilities although no activation is their last operator, such as the mean of several softmaxes.

are_probabilities() bounds the numbers by the operators that made them: softmaxes and sigmoids, and what keeps their
sums and products between 0 and 1.
"""

from collections.abc import Sequence

import numpy as np

from onnxcam.surgeon.analysis.activations import FINAL_ACTIVATIONS, MOVING, final_activation
from onnxcam.surgeon.ir import Node, Value, constant

DEEPEST = 32
"""Operators between a probability and the output."""
SLACK = 1e-3
"""Weights of an average add up to one within this."""
KEEPING = MOVING | {"Slice", "Gather", "Expand", "Resize", "Upsample", "ReduceMean", "AveragePool", "GlobalAveragePool"}
"""Operators whose result is nowhere larger than their first input."""


def are_probabilities(value: Value) -> bool:
    """Whether the operators keep every number between 0 and 1, and an activation is among them."""
    bound = _bound(value, DEEPEST)
    return bound is not None and bound <= 1 + SLACK and _has_activation(value, DEEPEST)


def _bound(value: Value | None, depth: int) -> float | None:
    """A number that no entry exceeds; None where entries may be negative or nothing is known."""
    array = constant(value)
    if array is not None:
        real = array.size > 0 and array.dtype.kind in "fiu" and float(array.min()) >= 0
        return float(array.max()) if real else None
    node = value.producer() if value is not None else None
    if value is None or node is None or depth == 0:
        return None
    if node.op_type in ("Softmax", "Sigmoid", "HardSigmoid") or final_activation(value, frozenset()).name in (
        "softmax",
        "sigmoid",
    ):
        return 1.0
    if node.domain == "ai.onnx.ml":
        return _of_classifier(node)
    rule = RULES.get(node.op_type)
    if node.op_type in KEEPING:
        is_cubic = node.op_type in ("Resize", "Upsample") and _text(node, "mode") == "cubic"
        return _bound(node.inputs[0], depth - 1) if not is_cubic else None
    return rule(node, depth - 1) if rule is not None else None


def _bounds(node: Node, depth: int) -> list[float] | None:
    bounds = [_bound(v, depth) for v in node.inputs]
    return [b for b in bounds if b is not None] if None not in bounds and bounds else None


def _sum(node: Node, depth: int) -> float | None:
    bounds = _bounds(node, depth)
    return sum(bounds) if bounds is not None else None


def _mean(node: Node, depth: int) -> float | None:
    bounds = _bounds(node, depth)
    return sum(bounds) / len(bounds) if bounds is not None else None


def _largest(node: Node, depth: int) -> float | None:
    bounds = _bounds(node, depth)
    return max(bounds) if bounds is not None else None


def _product(node: Node, depth: int) -> float | None:
    bounds = _bounds(node, depth)
    return float(np.prod(bounds)) if bounds is not None else None


def _quotient(node: Node, depth: int) -> float | None:
    """x / number, or x / sum(x)."""
    bound, number = _bound(node.inputs[0], depth), constant(node.inputs[1])
    if bound is None:
        return None
    if number is not None:
        return bound / float(number.min()) if number.size and float(number.min()) > 0 else None
    total = node.inputs[1].producer() if node.inputs[1] is not None else None
    if total is not None and total.op_type in ("Clip", "Max", "Add") and total.inputs[0] is not None:  # never zero
        total = total.inputs[0].producer()
    is_share = total is not None and total.op_type in ("ReduceSum", "ReduceL1") and total.inputs[0] is node.inputs[0]
    return 1.0 if is_share else None


def _difference(node: Node, depth: int) -> float | None:
    """number - x of an x that is nowhere larger."""
    number, bound = constant(node.inputs[0]), _bound(node.inputs[1], depth)
    if number is None or bound is None or not number.size or float(number.min()) < bound - SLACK:
        return None
    return float(number.max())


def _clipped(node: Node, depth: int) -> float | None:
    return _bound(node.inputs[0], depth)


RULES = {
    "Add": _sum,
    "Sum": _sum,
    "Mean": _mean,
    "Mul": _product,
    "Div": _quotient,
    "Sub": _difference,
    "Concat": _largest,
    "Max": _largest,
    "Min": _largest,
    "Clip": _clipped,
}


def _of_classifier(node: Node) -> float | None:
    """The bound of the scores of a classifier of the ML domain: trees that vote, and others with a probability."""
    if node.op_type == "SVMClassifier":
        return 1.0 if "prob_a" in node.attributes else None
    if node.op_type != "TreeEnsembleClassifier":
        return None
    transform, weights = _text(node, "post_transform"), node.attributes.get("class_weights")
    ids = node.attributes.get("class_ids")
    if transform in ("SOFTMAX", "LOGISTIC"):
        return 1.0 if transform == "LOGISTIC" or (ids is not None and len(set(ids.as_ints())) > 1) else None
    trees = node.attributes.get("class_treeids")
    if weights is None or trees is None or transform not in ("", "NONE") or min(weights.as_floats(), default=-1) < 0:
        return None
    votes = dict[int, float]()
    for tree, weight in zip(trees.as_ints(), weights.as_floats(), strict=False):
        votes[tree] = max(votes.get(tree, 0.0), weight)
    return sum(votes.values())


def _has_activation(value: Value | None, depth: int) -> bool:
    node = value.producer() if value is not None else None
    if value is None or node is None or depth == 0:
        return False
    if node.op_type in FINAL_ACTIVATIONS or node.op_type == "HardSigmoid" or node.domain == "ai.onnx.ml":
        return True
    if final_activation(value, frozenset()).name != "none":
        return True
    inputs: Sequence[Value | None] = node.inputs[:1] if node.op_type in KEEPING else node.inputs
    return any(_has_activation(v, depth - 1) for v in inputs)


def _text(node: Node, name: str) -> str:
    attribute = node.attributes.get(name)
    return str(attribute.as_string()) if attribute is not None else ""
