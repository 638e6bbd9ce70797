"""Where the grid is lost: walk back from the logits to the last tensors that keep the picture's geometry.

A node that reads a full grid and returns none is the pooling, whatever it is called; what belongs to the pooling
(flattening, attention weights, slicing off a class token, a convolution that makes one map a class) is stepped over.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxcam.surgeon.analysis.axes import CHANNEL, Axes, Tokens, has_grid
from onnxcam.surgeon.ir import Node, Shape, Shapes, Value, ancestors, constant, integers, shape_of
from onnxcam.types import Note, NoteCode

WEIGHTED = frozenset(
    "Conv ConvTranspose Gemm MatMul QLinearConv ConvInteger MatMulInteger QLinearMatMul FusedConv FusedMatMul "
    "FusedGemm LSTM GRU RNN".split()
)
ATTENTION = frozenset({"Softmax", "Attention", "MultiHeadAttention"})
POOLING = frozenset({"MaxPool", "AveragePool", "LpPool"})
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Identity"})


@dataclass(frozen=True)
class Traced:
    """What is known of each tensor by name. letters: the picture's spatial axes, e.g. ('H', 'W')."""

    shapes: Shapes
    axes: dict[str, Axes]
    letters: tuple[str, ...]
    batch: int | None = None
    """Pictures in the run that was measured."""

    def shape(self, value: Value) -> Shape | None:
        return self.shapes.get(str(value.name))

    def axes_of(self, value: Value) -> Axes:
        return self.axes.get(str(value.name), ())

    def has_grid(self, value: Value) -> bool:
        """Whether the tensor is a batch of full grids."""
        return has_grid(self.axes.get(str(value.name)), self.shape(value), self.letters)

    def is_map(self, value: Value) -> bool:
        """Whether the tensor is a batch of maps: channels, and the grid along axes of its own, not as tokens."""
        return self.has_grid(value) and {CHANNEL, *self.letters} <= set(self.axes_of(value))


def frontier(head: Value, traced: Traced) -> list[tuple[Value, Node]]:
    """Pairs (tensor with a grid, the node that loses it) reached by walking back from the logits."""
    found: dict[int, tuple[Value, Node]] = {}
    ahead = [head]
    for node in _walked_back(ahead):
        for value in _computed_inputs(node):
            if traced.has_grid(value):
                found.setdefault(id(value), (value, node))
            else:
                ahead.append(value)
    return list(found.values())


def _walked_back(ahead: list[Value]) -> Iterator[Node]:
    """The nodes that made the values ahead, each once; who takes a node appends the values where to go on."""
    seen: set[int] = set()
    while ahead:
        node = ahead.pop().producer()
        if node is not None and id(node) not in seen and node.op_type != "Shape":
            seen.add(id(node))
            yield node


def _computed_inputs(node: Node) -> list[Value]:
    return [v for v in node.inputs if v is not None and constant(v) is None]


def is_learned(value: Value) -> bool:
    """Whether any layer with weights lies between the picture and the tensor."""
    lineage = [value, *ancestors(value)]
    return any((node := v.producer()) is not None and node.op_type in WEIGHTED for v in lineage)


@dataclass(frozen=True)
class Step:
    """Where the walk ended: how leads over to the pooling's name; doubt says what else could have been meant."""

    value: Value
    how: str = ""
    doubt: Note | None = None


def refined(value: Value, head: Value, classes: int, traced: Traced) -> Step:
    """The tensor before what is part of the pooling."""
    how = ""
    while (step := _one_step_back(value, traced)) is not None:
        value, how = step
    trunk = _before_class_attention(value, traced)
    if trunk is not None:
        text = f"the tokens after the attention, {value.name!r}, keep the grid too (--layer)"
        doubt = Note(NoteCode.POOLED_BY_ATTENTION, text)
        return Step(trunk, "what a single layer of attention pools into a class token; its result ", doubt)
    before = _class_map(value, head, classes, traced)
    if before is not None:
        text = (
            f"the network ends in one map a class, {value.name!r}; the maps before its convolution are taken (--layer)"
        )
        doubt = Note(NoteCode.CLASS_MAP, text)
        return Step(before, "what enters the convolution that makes one map a class; that map ", doubt)
    return Step(value, how)


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
    averaged = _averaged(node, traced)
    if averaged is not None:
        return averaged, "what is averaged over windows and "
    return None


def _averaged(node: Node, traced: Traced) -> Value | None:
    """x of AveragePool(x) over windows that do not overlap, also behind a Transpose: pooling begins there."""
    if node.op_type == "Transpose" and node.inputs[0] is not None:
        inner = node.inputs[0].producer()
        return _averaged(inner, traced) if inner is not None and inner.op_type == "AveragePool" else None
    if node.op_type != "AveragePool" or node.inputs[0] is None:
        return None
    kernel, strides = integers(node, "kernel_shape"), integers(node, "strides")
    shrinks = strides is not None and kernel == strides and max(strides) > 1
    first = node.inputs[0]
    return first if shrinks and traced.has_grid(first) and is_learned(first) else None


def _tokens(axes: Axes) -> bool:
    return any(isinstance(a, Tokens) for a in axes)


def _weighed_by_attention(node: Node, traced: Traced) -> Value | None:
    """x of Mul(x, w) where w has one channel but x has many: w pools x over space rather than gating channels."""
    if len(node.inputs) != 2:
        return None
    for x, w in (node.inputs, node.inputs[::-1]):
        if x is None or w is None or constant(w) is not None or not _sums_to_one(w):
            continue
        own, dims, other = traced.axes_of(x), traced.shape(x), traced.shape(w)
        if dims is None or other is None or len(other) != len(dims) or CHANNEL not in own:
            continue
        c = own.index(CHANNEL)
        if other[c] == 1 and (dims[c] or 1) > 1 and all(other[i] == dims[i] for i in range(len(dims)) if i != c):
            return x
    return None


def _sums_to_one(weights: Value) -> bool:
    """Whether a softmax made them: a sigmoid over space only gates."""
    node = weights.producer()
    while node is not None and node.op_type in (*RESHAPING, "Transpose", "Unsqueeze", "Expand") and node.inputs[0]:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Softmax"


def _before_class_attention(value: Value, traced: Traced) -> Value | None:
    """The convolutional map under one layer of attention over its cells and a class token.

    With a single layer, attention only pools: what the other tokens become is never read. With more of them, or over
    a bare patch embedding, it is a transformer and its last tokens are the features.
    """
    tokens = next((a for a in traced.axes_of(value) if isinstance(a, Tokens)), None)
    if tokens is None or not tokens.before + tokens.after:
        return None
    lineage = ancestors(value)
    softmaxes = {id(n) for v in lineage if (n := v.producer()) is not None and n.op_type in ATTENTION}
    maps = [v for v in lineage if traced.has_grid(v) and not _tokens(traced.axes_of(v))]
    if len(softmaxes) != 1 or not maps:
        return None
    trunk = last(maps)
    layers = {id(n) for v in (trunk, *ancestors(trunk)) if (n := v.producer()) is not None and n.op_type in WEIGHTED}
    return trunk if len(layers) > 1 and is_learned(trunk) else None


def without_weights(found: Sequence[tuple[Value, Node]]) -> list[tuple[Value, Node]]:
    """The pairs without attention maps, which say where to look and not what is there, as long as any are left."""
    rest = [(v, n) for v, n in found if (made := v.producer()) is None or made.op_type != "Softmax"]
    return rest or list(found)


def before_shared_pooling(value: Value, found: Sequence[tuple[Value, Node]]) -> Value:
    """Of a map that was pooled to a smaller one beside other poolings of the same tensor: that tensor."""
    node, ends = value.producer(), {id(v) for v, _ in found}
    first = node.inputs[0] if node is not None and node.op_type in POOLING else None
    return first if first is not None and id(first) in ends else value


def last(values: Sequence[Value]) -> Value:
    """The one that is computed from all the others, or from most of them."""
    return max(values, key=lambda v: len(ancestors(v)))


def _class_map(value: Value, head: Value, classes: int, traced: Traced) -> Value | None:
    """What enters the 1x1 convolution, if the tensor has one channel a class and only pooling follows it."""
    own, shape = traced.axes_of(value), traced.shape(value)
    if shape is None or CHANNEL not in own or shape[own.index(CHANNEL)] != classes:
        return None
    node = value.producer()
    while node is not None and node.op_type not in WEIGHTED:
        parents = _computed_inputs(node)
        if len(parents) != 1 or traced.axes_of(parents[0]) != own:
            return None
        node = parents[0].producer()
    if node is None or node.op_type != "Conv" or not _is_pointwise(node) or _weighted_between(value, head):
        return None
    before = node.inputs[0]
    return before if before is not None and traced.has_grid(before) and is_learned(before) else None


def layers_after(value: Value, head: Value) -> int:
    """How many layers with weights stand between the tensor and the logits."""
    above = {id(v) for v in (value, *ancestors(value))}
    nodes = {id(n): n for v in (head, *ancestors(head)) if id(v) not in above and (n := v.producer()) is not None}
    return sum(n.op_type in WEIGHTED and any(v is not None and constant(v) is not None for v in n.inputs[1:])
               for n in nodes.values())  # fmt: skip


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


def before_prediction(head: Value, traced: Traced) -> Value:
    """Of an output that is itself a map of classes: what enters the convolution that predicts them.

    Resizing, activations and changes of layout that follow that convolution are stepped over.
    """
    value = head
    while (node := value.producer()) is not None:
        parents = [v for v in _computed_inputs(node) if traced.has_grid(v)]
        if len(parents) != 1 or not is_learned(parents[0]):
            return value
        value = parents[0]
        if node.op_type in WEIGHTED:
            return value
    return value


def common_trunk(head: Value, traced: Traced) -> Value | None:
    """Of a table of boxes: the last map that the layers which predict from the coarsest maps share."""
    maps = _enter_predictions(head, traced)
    if not maps:
        return None
    fewest = min(_cells(v, traced) for v in maps)
    lineages = [[v, *ancestors(v)] for v in maps if _cells(v, traced) == fewest]
    ids = [{id(v) for v in lineage} for lineage in lineages]
    shared = [v for v in lineages[0] if all(id(v) in i for i in ids) and traced.is_map(v) and is_learned(v)]
    return last(shared) if shared else None


def _enter_predictions(head: Value, traced: Traced) -> list[Value]:
    """The maps that enter the last layers with weights on the ways back from the head; decoding is stepped over."""
    found: dict[int, Value] = {}
    ahead = [head]
    for node in _walked_back(ahead):
        first = node.inputs[0] if node.inputs else None
        if node.op_type in WEIGHTED and first is not None and traced.is_map(first) and is_learned(first):
            found[id(first)] = first
        elif node.op_type in WEIGHTED and not node.op_type.endswith(("Conv", "Transpose")):
            return []  # layers over tokens or sequences follow the maps: no detector's branches
        else:
            ahead.extend(_computed_inputs(node))
    return list(found.values())


def _cells(value: Value, traced: Traced) -> int:
    own = zip(traced.axes_of(value), traced.shape(value) or (), strict=True)
    return math.prod(d or 1 for a, d in own if a in traced.letters)
