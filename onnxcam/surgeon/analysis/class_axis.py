"""Finds the axis of classes in a table whose number of rows the image decides, such as one row for each proposal.

The sizes of one run do not tell: an image of noise may get fewer proposals than there are classes. What computes the
scores does: a linear layer and a softmax name the axis of their results.
"""

from onnxcam.surgeon.analysis.selection import ELEMENTWISE, Tracer
from onnxcam.surgeon.ir import Node, Value, integer, integers

SAME_AXES = frozenset({
    *ELEMENTWISE, "Identity", "Dropout", "Slice", "Clip", "Relu", "Tanh", "QuantizeLinear", "DequantizeLinear"
})  # fmt: skip
WITH_CONSTANTS = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"})
REMOVED, LOST = -1, -2
"""An axis of size 1 that the table lacks; one whose place in the table is not known."""


def class_axis(table: Value, tracer: Tracer) -> int | None:
    """The axis of classes of a table of scores, as what computes them tells; None where it does not.

    REMOVED where the table lists the scores of one class without an axis of their own.
    """
    axes = list(range(len(tracer.shape(table))))  # of each axis of `value`: which one of the table it is
    value = table
    while (node := value.producer()) is not None and axes:
        axis = _named_axis(node, len(axes), tracer)
        if axis is not None:
            return axes[axis] if axes[axis] != LOST else None
        before = _same_numbers(node, tracer)
        moved = _axes_before(node, axes, len(tracer.shape(before))) if before is not None else None
        if before is None or moved is None:
            return None
        value, axes = before, moved
    return None


def _named_axis(node: Node, rank: int, tracer: Tracer) -> int | None:
    """The axis of the node's result that it computes one score for each class along."""
    if node.op_type in ("Softmax", "LogSoftmax"):
        return integer(node, "axis", -1) % rank
    if node.op_type == "Gemm" or (node.op_type == "MatMul" and _is_weight(node.inputs[1], tracer)):
        return rank - 1
    return 1 if node.op_type == "Conv" else None


def _is_weight(value: Value | None, tracer: Tracer) -> bool:
    return value is not None and tracer.is_fixed(value)


def _same_numbers(node: Node, tracer: Tracer) -> Value | None:
    """The operand that the node changes number by number, or moves without mixing its axes."""
    if node.op_type in (*SAME_AXES, "Transpose", "Squeeze", "Unsqueeze"):
        return node.inputs[0]
    if node.op_type == "Reshape" and node.inputs[0] is not None:
        sizes = [tracer.shape(v) for v in (node.inputs[0], node.outputs[0])]
        return node.inputs[0] if min(map(len, sizes)) >= 2 and sizes[0][-1] == sizes[1][-1] else None
    if node.op_type in WITH_CONSTANTS:
        computed = [v for v in node.inputs if v is not None and not tracer.is_fixed(v)]
        rank = len(tracer.shape(node.outputs[0]))
        return computed[0] if len(computed) == 1 and len(tracer.shape(computed[0])) == rank else None
    return None


def _axes_before(node: Node, axes: list[int], rank: int) -> list[int] | None:
    """What `axes` says of the node's result, said of its operand with this rank; None where it is unknown."""
    if node.op_type == "Transpose":
        order = integers(node, "perm") or list(range(rank))[::-1]
        return [axes[order.index(i)] for i in range(rank)]
    if node.op_type == "Reshape":  # of the axes but the last, which it keeps
        return [*[LOST] * (rank - 1), axes[-1]]
    if node.op_type not in ("Squeeze", "Unsqueeze"):
        return axes
    places = integers(node, "axes", 1)
    if places is None:
        return None
    if node.op_type == "Unsqueeze":
        added = {p % len(axes) for p in places}
        return [a for i, a in enumerate(axes) if i not in added]
    removed, kept = {p % rank for p in places}, iter(axes)
    return [REMOVED if i in removed else next(kept) for i in range(rank)]
