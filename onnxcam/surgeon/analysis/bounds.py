"""Tensors that hold probabilities although no activation is their last operator, such as the mean of several softmaxes.

are_probabilities() bounds the numbers by the operators that made them: softmaxes and sigmoids, and what keeps their
sums and products between 0 and 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxcam.surgeon.analysis.activations import FINAL_ACTIVATIONS, MOVING, final_activation
from onnxcam.surgeon.ir import Node, Value, constant

DEEPEST = 32
"""Operators between a probability and the output."""
SLACK = 1e-3
"""Weights of an average add up to one within this."""
KEEPING = MOVING | {"Slice", "Gather", "Expand", "Resize", "Upsample", "ReduceMean", "AveragePool", "GlobalAveragePool"}
"""Operators whose result is nowhere larger than their first input."""


Interval = tuple[float, float]
"""The least and the largest number that a tensor can hold."""


def are_probabilities(value: Value) -> bool:
    """Whether the operators keep every number between 0 and 1, and an activation is among them."""
    ends = _Walk().interval(value, DEEPEST)
    return ends is not None and ends[0] >= -SLACK and ends[1] <= 1 + SLACK and _Walk().has_activation(value, DEEPEST)


@dataclass(eq=False)
class _Walk:
    """Questions to a tensor and the operators before it. Each is asked once, though many paths lead to it."""

    intervals: dict[tuple[int, int], Interval | None] = field(default_factory=dict)
    activated: dict[tuple[int, int], bool] = field(default_factory=dict)

    def interval(self, value: Value | None, depth: int) -> Interval | None:
        """None where nothing is known."""
        key = id(value), depth
        if key not in self.intervals:
            self.intervals[key] = self._interval(value, depth)
        return self.intervals[key]

    def _interval(self, value: Value | None, depth: int) -> Interval | None:
        array = constant(value)
        if array is not None:
            return (float(array.min()), float(array.max())) if array.size and array.dtype.kind in "fiu" else None
        node = value.producer() if value is not None else None
        if value is None or node is None or depth == 0:
            return None
        if node.op_type == "HardSigmoid" or final_activation(value, frozenset()).name in ("softmax", "sigmoid"):
            return 0.0, 1.0
        if node.op_type == "Tanh":
            return -1.0, 1.0
        if node.domain == "ai.onnx.ml":
            return _of_classifier(node)
        if node.op_type in KEEPING:
            is_cubic = node.op_type in ("Resize", "Upsample") and _text(node, "mode") == "cubic"
            return self.interval(node.inputs[0], depth - 1) if not is_cubic else None
        if node.op_type == "Div" and _is_share(node):
            first = self.interval(node.inputs[0], depth - 1)
            return (0.0, 1.0) if first is not None and first[0] >= 0 else None
        rule = RULES.get(node.op_type)
        if rule is None:
            return None
        inputs = node.inputs[:1] if node.op_type == "Clip" else node.inputs
        known = [self.interval(v, depth - 1) for v in inputs]
        ends = [e for e in known if e is not None]
        return rule(ends) if ends and len(ends) == len(known) else None

    def has_activation(self, value: Value | None, depth: int) -> bool:
        """Whether an activation, or a classifier, is among the operators."""
        key = id(value), depth
        if key not in self.activated:
            self.activated[key] = self._has_activation(value, depth)
        return self.activated[key]

    def _has_activation(self, value: Value | None, depth: int) -> bool:
        node = value.producer() if value is not None else None
        if value is None or node is None or depth == 0:
            return False
        if node.op_type in (*FINAL_ACTIVATIONS, "HardSigmoid", "Tanh") or node.domain == "ai.onnx.ml":
            return True
        if final_activation(value, frozenset()).name != "none":
            return True
        inputs: Sequence[Value | None] = node.inputs[:1] if node.op_type in KEEPING else node.inputs
        return any(self.has_activation(v, depth - 1) for v in inputs)


def _is_share(node: Node) -> bool:
    """Whether the node is x / sum(x), where the sum may be kept from zero."""
    total = node.inputs[1].producer() if node.inputs[1] is not None else None
    if total is not None and total.op_type in ("Clip", "Max", "Add") and total.inputs[0] is not None:
        total = total.inputs[0].producer()
    return total is not None and total.op_type in ("ReduceSum", "ReduceL1") and total.inputs[0] is node.inputs[0]


def _sum(ends: Sequence[Interval]) -> Interval:
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def _mean(ends: Sequence[Interval]) -> Interval:
    low, high = _sum(ends)
    return low / len(ends), high / len(ends)


def _union(ends: Sequence[Interval]) -> Interval:
    return min(low for low, _ in ends), max(high for _, high in ends)


def _product(ends: Sequence[Interval]) -> Interval:
    low, high = ends[0]
    for other in ends[1:]:
        products = [a * b for a in (low, high) for b in other]
        low, high = min(products), max(products)
    return low, high


def _quotient(ends: Sequence[Interval]) -> Interval | None:
    low, high = ends[1]
    return _product([ends[0], (1 / high, 1 / low)]) if low > 0 else None


def _difference(ends: Sequence[Interval]) -> Interval:
    return ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]


def _negated(ends: Sequence[Interval]) -> Interval:
    return -ends[0][1], -ends[0][0]


RULES: dict[str, Callable[[Sequence[Interval]], Interval | None]] = {
    "Add": _sum,
    "Sum": _sum,
    "Mean": _mean,
    "Sub": _difference,
    "Neg": _negated,
    "Mul": _product,
    "Div": _quotient,
    "Concat": _union,
    "Max": _union,
    "Min": _union,
    "Clip": _union,
}


def _of_classifier(node: Node) -> Interval | None:
    """The bound of the scores of a classifier of the ML domain: trees that vote, and others with a probability."""
    if node.op_type == "SVMClassifier":
        return (0.0, 1.0) if "prob_a" in node.attributes else None
    if node.op_type != "TreeEnsembleClassifier":
        return None
    transform, weights = _text(node, "post_transform"), node.attributes.get("class_weights")
    ids = node.attributes.get("class_ids")
    if transform in ("SOFTMAX", "LOGISTIC"):
        several = ids is not None and len(set(ids.as_ints())) > 1
        return (0.0, 1.0) if transform == "LOGISTIC" or several else None
    trees = node.attributes.get("class_treeids")
    if weights is None or trees is None or transform not in ("", "NONE") or min(weights.as_floats(), default=-1) < 0:
        return None
    votes = dict[int, float]()
    for tree, weight in zip(trees.as_ints(), weights.as_floats(), strict=False):
        votes[tree] = max(votes.get(tree, 0.0), weight)
    return 0.0, sum(votes.values())


def _text(node: Node, name: str) -> str:
    attribute = node.attributes.get(name)
    return str(attribute.as_string()) if attribute is not None else ""
