"""Walks back from the scored tensor to the frontier: the last tensors that keep the image's spatial grid.

A node that reads a full grid and returns none is the pooling, whatever its operator. refine() then walks on back over
whatever belongs to the pooling: flattening, attention weights, the removal of a class token, a convolution that makes
one map for each class. The outputs of segmentation networks (N,classes,H,W) and of detectors are walked back by
before_prediction() and the functions of detections.py. locate.py chooses among the results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from onnxcam.surgeon.analysis.axes import has_grid
from onnxcam.surgeon.analysis.factors import CHANNEL, Axes, Factored, has_extra_tokens, is_spatial
from onnxcam.surgeon.ir import Node, Shape, Shapes, Value, ancestors, constant, integer, integers, shape_of
from onnxcam.types import Arrays, Note, NoteCode

WEIGHTED = frozenset(
    "Conv ConvTranspose Gemm MatMul QLinearConv ConvInteger MatMulInteger QLinearMatMul FusedConv FusedMatMul "
    "FusedGemm LSTM GRU RNN".split()
)
ATTENTION = frozenset({"Softmax", "Attention", "MultiHeadAttention"})
POOLING = frozenset({"MaxPool", "AveragePool", "LpPool"})
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Identity"})


@dataclass(frozen=True)
class Geometry:
    """Shapes and axes of all tensors by name.

    letters: the image's spatial axes, e.g. ('H', 'W'). batch: the size of the batch that the shapes are for. fixed: the
    numbers of tensors that follow from shapes and constants alone.
    """

    shapes: Shapes
    axes: dict[str, Axes]
    letters: tuple[str, ...]
    batch: int | None = None
    fixed: Arrays = field(default_factory=dict)

    def shape(self, value: Value) -> Shape | None:
        """The tensor's shape; None where it is unknown."""
        return self.shapes.get(str(value.name))

    def axes_of(self, value: Value) -> Axes:
        """The meaning of the tensor's axes; () where it is unknown."""
        return self.axes.get(str(value.name), ())

    def has_grid(self, value: Value) -> bool:
        """Whether the tensor is a batch of grids, as axes or as tokens."""
        return has_grid(self.axes.get(str(value.name)), self.shape(value), self.letters)

    def is_map(self, value: Value) -> bool:
        """Whether the tensor is a batch of maps: it has channels, and the grid as axes rather than as tokens."""
        return self.has_grid(value) and {CHANNEL, *self.letters} <= set(self.axes_of(value))


def find_frontier(head: Value, geometry: Geometry) -> list[tuple[Value, Node]]:
    """Pairs (tensor with a grid, node that loses the grid), reached by walking back from the scored tensor."""
    pairs: dict[int, tuple[Value, Node]] = {}
    ahead = [head]
    for node in walked_back(ahead):
        for value in computed_inputs(node):
            if geometry.has_grid(value):
                pairs.setdefault(id(value), (value, node))
            else:
                ahead.append(value)
    return list(pairs.values())


def walked_back(ahead: list[Value]) -> Iterator[Node]:
    """Yields the producers of the values ahead, each once. The caller appends values to `ahead` to go on from there."""
    seen: set[int] = set()
    while ahead:
        node = ahead.pop().producer()
        if node is not None and id(node) not in seen and node.op_type != "Shape":
            seen.add(id(node))
            yield node


def computed_inputs(node: Node) -> list[Value]:
    """The inputs of a node that are no constants."""
    return [v for v in node.inputs if v is not None and constant(v) is None]


def is_learned(value: Value) -> bool:
    """Whether any layer with weights lies between the image and the tensor."""
    lineage = [value, *ancestors(value)]
    return any((node := v.producer()) is not None and node.op_type in WEIGHTED for v in lineage)


@dataclass(frozen=True)
class Refinement:
    """The tensor before the pooling. how is the first words of the reason, doubt a note on a rival tensor."""

    value: Value
    how: str = ""
    doubt: Note | None = None


def refine(value: Value, head: Value, classes: int, geometry: Geometry) -> Refinement:
    """Steps back from a tensor of the frontier to the tensor before everything that belongs to the pooling."""
    how = ""
    while (step := _one_step_back(value, geometry)) is not None:
        value, how = step
    trunk = _before_class_attention(value, geometry)
    if trunk is not None:
        text = f"the tokens after the attention, {value.name!r}, keep the grid too; choose them with --layer"
        doubt = Note(NoteCode.POOLED_BY_ATTENTION, text)
        return Refinement(trunk, "what a single layer of attention pools into a class token; its result ", doubt)
    before = _class_map(value, head, classes, geometry)
    if before is not None:
        text = (
            f"the network ends in one map for each class, {value.name!r}; the maps before its convolution are taken, "
            f"choose others with --layer"
        )
        doubt = Note(NoteCode.CLASS_MAP, text)
        return Refinement(before, "what enters the convolution to one map for each class; that map ", doubt)
    return Refinement(value, how)


def _one_step_back(value: Value, geometry: Geometry) -> tuple[Value, str] | None:
    """The input of a node that belongs to the pooling, and the words that describe the node; else None."""
    node = value.producer()
    first = node.inputs[0] if node is not None and node.inputs else None
    if node is None or first is None:
        return None
    before, after = _has_tokens(geometry.axes_of(first)), _has_tokens(geometry.axes_of(value))
    if node.op_type in RESHAPING and after and not before and geometry.has_grid(first):
        return first, "what is flattened and "
    if node.op_type == "Slice" and before and after:
        return first, "what loses its class tokens and "
    pooled = _weighed_by_attention(node, geometry)
    if node.op_type == "Mul" and pooled is not None:
        return pooled, "what is weighed by attention and "
    averaged = _averaged(node, geometry)
    if averaged is not None:
        return averaged, "what is averaged over windows and "
    return None


def _averaged(node: Node, geometry: Geometry) -> Value | None:
    """x of AveragePool(x) over windows that do not overlap, also before a Transpose: the pooling begins there."""
    if node.op_type == "Transpose" and node.inputs[0] is not None:
        inner = node.inputs[0].producer()
        return _averaged(inner, geometry) if inner is not None and inner.op_type == "AveragePool" else None
    if node.op_type != "AveragePool" or node.inputs[0] is None:
        return None
    kernel, strides = integers(node, "kernel_shape"), integers(node, "strides")
    shrinks = strides is not None and kernel == strides and max(strides) > 1
    first = node.inputs[0]
    return first if shrinks and geometry.has_grid(first) and is_learned(first) else None


def _has_tokens(axes: Axes) -> bool:
    return any(isinstance(a, Factored) and is_spatial(a) for a in axes)


def _weighed_by_attention(node: Node, geometry: Geometry) -> Value | None:
    """x of Mul(x, w) where a softmax over space makes w: it pools x over space, it does not gate channels.

    w has one channel for all of x, or as many as x has.
    """
    if len(node.inputs) != 2:
        return None
    for x, w in (node.inputs, node.inputs[::-1]):
        if x is None or w is None or constant(w) is not None or not sums_to_one(w):
            continue
        axes, sizes, weights = geometry.axes_of(x), geometry.shape(x), geometry.shape(w)
        if sizes is None or weights is None or len(weights) != len(sizes) or CHANNEL not in axes:
            continue
        c = axes.index(CHANNEL)
        fits = weights[c] == 1 or (weights[c] == sizes[c] and _is_over_space(w, geometry))
        if fits and (sizes[c] or 1) > 1 and all(weights[i] == sizes[i] for i in range(len(sizes)) if i != c):
            return x
    return None


def _is_over_space(weights: Value, geometry: Geometry) -> bool:
    """Whether the softmax that makes the weights runs over an axis of cells."""
    node = weights.producer()
    while node is not None and node.op_type != "Softmax":
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    axes = geometry.axes_of(node.outputs[0]) if node is not None else ()
    return node is not None and bool(axes) and is_spatial(axes[integer(node, "axis", -1) % len(axes)])


def sums_to_one(weights: Value) -> bool:
    """Whether a softmax computes the weights; a sigmoid over space only gates."""
    node = weights.producer()
    while node is not None and node.op_type in (*RESHAPING, "Transpose", "Unsqueeze", "Expand") and node.inputs[0]:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "Softmax"


def _before_class_attention(value: Value, geometry: Geometry) -> Value | None:
    """The convolutional map before a single layer of attention over its cells and a class token; else None.

    A single layer only pools, as nothing reads what the other tokens become. More layers, or one layer over a patch
    embedding, are a transformer, whose last tokens are the features.
    """
    if not has_extra_tokens(geometry.axes_of(value)):
        return None
    lineage = ancestors(value)
    softmaxes = {id(n) for v in lineage if (n := v.producer()) is not None and n.op_type in ATTENTION}
    maps = [v for v in lineage if geometry.has_grid(v) and not _has_tokens(geometry.axes_of(v))]
    if len(softmaxes) != 1 or not maps:
        return None
    trunk = most_derived(maps)
    layers = {id(n) for v in (trunk, *ancestors(trunk)) if (n := v.producer()) is not None and n.op_type in WEIGHTED}
    return trunk if len(layers) > 1 and is_learned(trunk) else None


def without_attention_weights(pairs: Sequence[tuple[Value, Node]]) -> list[tuple[Value, Node]]:
    """The pairs of the frontier without attention weights, which are no features; all pairs if none remain."""
    rest = [(v, n) for v, n in pairs if not sums_to_one(v)]
    return rest or list(pairs)


def before_shared_pooling(value: Value, pairs: Sequence[tuple[Value, Node]]) -> Value:
    """The input of the pooling that made the value, if other poolings of the frontier share it; else the value."""
    node, ends = value.producer(), {id(v) for v, _ in pairs}
    first = node.inputs[0] if node is not None and node.op_type in POOLING else None
    return first if first is not None and id(first) in ends else value


def most_derived(values: Sequence[Value]) -> Value:
    """The value with the most ancestors: the one that is computed from the others."""
    return max(values, key=lambda v: len(ancestors(v)))


def _class_map(value: Value, head: Value, classes: int, geometry: Geometry) -> Value | None:
    """What enters the 1x1 convolution that makes one map for each class, if only pooling follows; else None."""
    axes, shape = geometry.axes_of(value), geometry.shape(value)
    if shape is None or CHANNEL not in axes or shape[axes.index(CHANNEL)] != classes:
        return None
    node = value.producer()
    while node is not None and node.op_type not in WEIGHTED:
        parents = computed_inputs(node)
        if len(parents) != 1 or geometry.axes_of(parents[0]) != axes:
            return None
        node = parents[0].producer()
    if node is None or node.op_type != "Conv" or not _is_pointwise(node) or _weighted_between(value, head):
        return None
    before = node.inputs[0]
    return before if before is not None and geometry.has_grid(before) and is_learned(before) else None


def layers_after(value: Value, head: Value) -> int:
    """The number of layers with weights between the tensor and the logits."""
    nodes = {id(n): n for n in _nodes_between(value, head)}
    return sum(n.op_type in WEIGHTED and any(v is not None and constant(v) is not None for v in n.inputs[1:])
               for n in nodes.values())  # fmt: skip


def _is_pointwise(convolution: Node) -> bool:
    weights = convolution.inputs[1]
    shape = shape_of(weights) if weights is not None else None
    kernel = (shape or ())[2:] or tuple(integers(convolution, "kernel_shape") or ())
    return bool(kernel) and all(side == 1 for side in kernel)


def _weighted_between(value: Value, head: Value) -> bool:
    """Whether any layer with weights lies between the tensor and the logits."""
    return any(node.op_type in WEIGHTED for node in _nodes_between(value, head))


def _nodes_between(value: Value, head: Value) -> Iterator[Node]:
    """The nodes that what is scored gets the tensor through. Another network beside it is not among them."""
    lineage = {id(v) for v in (head, *ancestors(head))}
    ahead, seen = [value], {id(value)}
    while ahead:
        for node in ahead.pop().consumers():
            for after in node.outputs:
                if id(after) in lineage and id(after) not in seen:
                    seen.add(id(after))
                    ahead.append(after)
                    yield node


def before_prediction(head: Value, geometry: Geometry) -> Value:
    """What enters the convolution that predicts a class map, the scored tensor.

    Steps over the resizing, activations and changes of layout that follow that convolution.
    """
    value = head
    while (node := value.producer()) is not None:
        parents = [v for v in computed_inputs(node) if geometry.has_grid(v)]
        if len(parents) != 1 or not is_learned(parents[0]):
            return value
        value = parents[0]
        if node.op_type in WEIGHTED:
            return value
    return value
