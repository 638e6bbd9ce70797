"""Outputs that only say which class was chosen: ArgMax, TopK, one-hot vectors, labels looked up, thresholds.

decision_of() walks back from such an output to the scores that were chosen from, which are what a classifier is
explained by. Labels that the graph looks up by the class's index become the names of the classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir

from onnxcam.surgeon.analysis.activations import MOVING, TRANSPARENT
from onnxcam.surgeon.ir import Node, Value, ancestors, constant, integer, integers
from onnxcam.surgeon.zip_map import label_texts

COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
LOOKUPS = frozenset({"Gather", "ArrayFeatureExtractor", "LabelEncoder"})
ENLARGING = frozenset({"Resize", "Upsample"})
"""Operators after which a map of chosen classes is still one."""
DECIDING = frozenset({"ArgMax", "ArgMin", "TopK", "Hardmax"})
"""Operators that say which class is the best."""


@dataclass(frozen=True)
class Decision:
    """What an output was chosen from.

    scores: the tensor. axis: that of its classes; None where every number has a decision of its own. operator: what
    chooses. labels: the classes' names that the graph holds. threshold: of a comparison, on the scores. inverted:
    whether the least is chosen.
    """

    scores: Value
    axis: int | None
    operator: str
    labels: tuple[str, ...] = ()
    threshold: float | None = None
    inverted: bool = False


def decision_of(output: Value) -> Decision | None:
    """The scores behind an output that chooses, or None for an output of scores."""
    value = output
    labels: tuple[str, ...] = ()
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        chosen = _chosen_by(node)
        if chosen is not None:
            return replace(chosen, labels=labels if len(labels) > 1 else ())
        if node.op_type in LOOKUPS:
            names, index = _looked_up(node)
            if index is None:
                return None
            labels, value = names or labels, index
        elif node.op_type == "OneHot" or node.op_type in MOVING or node.op_type in ENLARGING or node.op_type == "Not":
            value = node.inputs[0]
        elif node.op_type == "Where" and all(constant(v) is not None for v in node.inputs[1:]):
            labels = labels or _two_names(node)
            value = node.inputs[0]
        elif node.op_type == "Where" and (certain := _unless_uncertain(node)) is not None:
            value = certain
        else:
            return None
    return None


def _unless_uncertain(node: Node) -> Value | None:
    """The choice that Where(sure, choice, number) replaces by a number where the scores are low."""
    choices = [v for v in node.inputs[1:] if v is not None and constant(v) is None]
    return choices[0] if len(choices) == 1 else None


def _chosen_by(node: Node) -> Decision | None:
    """The selection that this node makes; None for a node of another kind."""
    scores = node.inputs[0]
    assert scores is not None
    if node.op_type in ("ArgMax", "ArgMin"):
        return Decision(scores, integer(node, "axis", 0), node.op_type, inverted=node.op_type == "ArgMin")
    if node.op_type == "Hardmax":
        return Decision(scores, integer(node, "axis", -1), node.op_type)
    if node.op_type == "TopK":
        return Decision(scores, integer(node, "axis", -1), "TopK", inverted=not integer(node, "largest", 1))
    if node.op_type == "ReduceMax":
        axes = integers(node, "axes", 1)
        beside = [n for n in scores.consumers() if n.op_type == "ArgMax"]
        if axes is not None and len(axes) == 1 and beside:
            return Decision(scores, axes[0], "ReduceMax")
    if node.op_type in COMPARISONS and len(node.inputs) == 2:
        return _compared(node)
    if node.op_type == "Sign":
        return Decision(scores, None, "Sign", threshold=0.0)
    if node.op_type == "Round":
        return Decision(scores, None, "Round", threshold=0.5)
    return _column(node, scores)


def _column(node: Node, scores: Value) -> Decision | None:
    """One class's column of a softmax: the other classes are scored beside it."""
    softmax = scores.producer()
    if softmax is None or softmax.op_type not in ("Softmax", "LogSoftmax"):
        return None
    index = constant(node.inputs[1]) if node.op_type == "Gather" and len(node.inputs) > 1 else None
    if index is not None and index.size == 1:
        return Decision(scores, integer(node, "axis", 0), "Gather")
    if node.op_type == "Slice":
        starts, ends, axes = (integers(node, n, i) for i, n in enumerate(("starts", "ends", "axes"), start=1))
        if (
            starts
            and ends
            and axes
            and len(axes) == 1
            and (ends[0] - starts[0] == 1 or starts[0] == -1 or _is_one_wide(node))
        ):
            return Decision(scores, axes[0], "Slice")
    return None


def _is_one_wide(node: Node) -> bool:
    """Whether the file says that a slice from the second class on is one class wide: there are two."""
    shape = node.outputs[0].shape
    return shape is not None and len(shape) == 2 and shape[1] == 1


def _compared(node: Node) -> Decision | None:
    """Greater(scores, number) and its like; also with the number first."""
    for scores, number in (node.inputs, node.inputs[::-1]):
        array = constant(number)
        if scores is not None and constant(scores) is None and array is not None and array.size == 1:
            return Decision(scores, None, node.op_type, threshold=float(array.reshape(-1)[0]))
    return None


def threshold_of(values: Sequence[Value]) -> tuple[Value, float] | None:
    """(one of these tensors, the number) of a comparison with a constant in the graph; None without one."""
    for value in values:
        for node in value.consumers():
            compared = _compared(node) if node.op_type in COMPARISONS else None
            if compared is not None and compared.scores is value and compared.threshold is not None:
                return value, compared.threshold
    return None


def _looked_up(node: Node) -> tuple[tuple[str, ...], Value | None]:
    """(the names, the index by which they are looked up); no index where the node looks up no list of names."""
    if node.op_type == "LabelEncoder":
        return _encoded(node), node.inputs[0]
    names = constant(node.inputs[0])
    index = node.inputs[1]
    if names is None or index is None or names.size != max(names.shape, default=0) or names.dtype.kind == "f":
        return (), None
    return _texts(names.reshape(-1).tolist()), index


def _encoded(node: Node) -> tuple[str, ...]:
    """The names that a LabelEncoder gives the integers 0 to n-1; () where its keys are others."""
    if "classes_strings" in node.attributes:
        return _texts(node.attributes["classes_strings"].as_strings())
    keys, names = node.attributes.get("keys_int64s"), node.attributes.get("values_strings")
    if keys is None or names is None:
        return ()
    table = dict(zip(keys.as_ints(), _texts(names.as_strings()), strict=False))
    return tuple(table[i] for i in range(len(table))) if set(table) == set(range(len(table))) else ()


def _two_names(node: Node) -> tuple[str, ...]:
    """Where(scores > t, 'yes', 'no'): the negative name, then the positive one."""
    yes, no = (constant(v) for v in node.inputs[1:])
    both = all(a is not None and a.size == 1 and a.dtype.kind in "OSU" for a in (yes, no))
    return _texts([no.item(), yes.item()]) if both and yes is not None and no is not None else ()


def _texts(names: Sequence[object]) -> tuple[str, ...]:
    """Names as text. Integers that only repeat the index name nothing; others are called 'label 7'."""
    if all(isinstance(n, int) for n in names):
        return label_texts([int(str(n)) for n in names])
    return tuple(n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names)


def is_chosen(output: Value) -> bool:
    """Whether only operators that move numbers follow an operator that chooses among boxes or classes."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in DECIDING or node.op_type in ("NonMaxSuppression", "NonZero"):
            return True
        if node.op_type in ("Gather", "GatherElements", "GatherND"):
            index = node.inputs[1]
            lineage = [index, *ancestors(index)] if index is not None and constant(index) is None else []
            if any((n := v.producer()) is not None and n.op_type in {*DECIDING, "NonMaxSuppression"} for v in lineage):
                return True
        elif node.op_type not in TRANSPARENT:
            return False
        value = node.inputs[0]
    return False


def is_tensor(value: Value) -> bool:
    """Whether the value is a tensor; outputs may also be sequences and optional values."""
    return value.type is None or isinstance(value.type, onnx_ir.TensorType)
