"""Where the grid is lost: walk back from the logits to the last tensors that keep the picture's geometry.

A node that reads a full grid and returns none is the pooling, whatever it is called; what belongs to the pooling
(flattening, attention weights, slicing off a class token, a convolution that makes one map a class) is stepped over.
"""

from dataclasses import dataclass

from onnxcam.surgeon.axes import CHANNEL, Axes, Tokens, has_grid
from onnxcam.surgeon.graph import Node, Shape, Shapes, Value, ancestors, constant, integers, shape_of

WEIGHTED = frozenset(
    "Conv ConvTranspose Gemm MatMul QLinearConv ConvInteger MatMulInteger QLinearMatMul FusedConv FusedMatMul "
    "FusedGemm LSTM GRU RNN".split()
)
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Identity"})


@dataclass(frozen=True)
class Traced:
    """What is known of each tensor by name. letters: the picture's spatial axes, e.g. ('H', 'W')."""

    shapes: Shapes
    axes: dict[str, Axes]
    letters: tuple[str, ...]

    def shape(self, value: Value) -> Shape | None:
        return self.shapes.get(str(value.name))

    def axes_of(self, value: Value) -> Axes:
        return self.axes.get(str(value.name), ())

    def has_grid(self, value: Value) -> bool:
        """Whether the tensor is a batch of full grids."""
        return has_grid(self.axes.get(str(value.name)), self.shape(value), self.letters)


def frontier(head: Value, traced: Traced) -> list[tuple[Value, Node]]:
    """Pairs (tensor with a grid, the node that loses it) reached by walking back from the logits."""
    found: dict[int, tuple[Value, Node]] = {}
    seen: set[int] = set()
    stack = [head]
    while stack:
        node = stack.pop().producer()
        if node is None or id(node) in seen or node.op_type == "Shape":
            continue
        seen.add(id(node))
        for value in node.inputs:
            if value is None or constant(value) is not None:
                continue
            if traced.has_grid(value):
                found.setdefault(id(value), (value, node))
            else:
                stack.append(value)
    return list(found.values())


def is_learned(value: Value) -> bool:
    """Whether any layer with weights lies between the picture and the tensor."""
    lineage = [value, *ancestors(value)]
    return any((node := v.producer()) is not None and node.op_type in WEIGHTED for v in lineage)


def refined(value: Value, head: Value, classes: int, traced: Traced) -> tuple[Value, str]:
    """The tensor before what is part of the pooling, and words that lead over to the pooling's name."""
    how = ""
    while (step := _one_step_back(value, traced)) is not None:
        value, how = step
    before = _class_map(value, head, classes, traced)
    if before is not None:
        return before, "what enters the convolution that makes one map a class; that map "
    return value, how


def _one_step_back(value: Value, traced: Traced) -> tuple[Value, str] | None:
    node = value.producer()
    first = node.inputs[0] if node is not None and node.inputs else None
    if node is None or first is None:
        return None
    before, after = _tokens(traced.axes_of(first)), _tokens(traced.axes_of(value))
    if node.op_type in RESHAPING and after and not before and traced.has_grid(first):
        return first, "what is flattened and "
    if node.op_type == "Slice" and before and after:
        return first, "what loses its class tokens and "
    pooled = _weighed_by_attention(node, traced)
    if node.op_type == "Mul" and pooled is not None:
        return pooled, "what is weighed by attention and "
    return None


def _tokens(axes: Axes) -> bool:
    return any(isinstance(a, Tokens) for a in axes)


def _weighed_by_attention(node: Node, traced: Traced) -> Value | None:
    """x of Mul(x, w) where w has one channel but x has many: w pools x over space rather than gating channels."""
    if len(node.inputs) != 2:
        return None
    for x, w in (node.inputs, node.inputs[::-1]):
        if x is None or w is None or constant(w) is not None:
            continue
        own, dims, other = traced.axes_of(x), traced.shape(x), traced.shape(w)
        if dims is None or other is None or len(other) != len(dims) or CHANNEL not in own:
            continue
        c = own.index(CHANNEL)
        if other[c] == 1 and (dims[c] or 1) > 1 and all(other[i] == dims[i] for i in range(len(dims)) if i != c):
            return x
    return None


def _class_map(value: Value, head: Value, classes: int, traced: Traced) -> Value | None:
    """What enters the 1x1 convolution, if the tensor has one channel a class and only pooling follows it."""
    own, shape = traced.axes_of(value), traced.shape(value)
    if shape is None or CHANNEL not in own or shape[own.index(CHANNEL)] != classes:
        return None
    node = value.producer()
    while node is not None and node.op_type not in WEIGHTED:
        parents = [v for v in node.inputs if v is not None and constant(v) is None]
        if len(parents) != 1 or traced.axes_of(parents[0]) != own:
            return None
        node = parents[0].producer()
    if node is None or node.op_type != "Conv" or not _is_pointwise(node) or _weighted_between(value, head):
        return None
    before = node.inputs[0]
    return before if before is not None and traced.has_grid(before) and is_learned(before) else None


def _is_pointwise(convolution: Node) -> bool:
    weights = convolution.inputs[1]
    shape = shape_of(weights) if weights is not None else None
    kernel = (shape or ())[2:] or tuple(integers(convolution, "kernel_shape") or ())
    return bool(kernel) and all(side == 1 for side in kernel)


def _weighted_between(value: Value, head: Value) -> bool:
    """Whether a layer with weights stands between the tensor and the logits."""
    above = {id(v) for v in (value, *ancestors(value))}
    below = [v for v in (head, *ancestors(head)) if id(v) not in above]
    return any((node := v.producer()) is not None and node.op_type in WEIGHTED for v in below)
