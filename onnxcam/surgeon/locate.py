"""Find the picture's input, the logits and the tensor that carries the last spatial features - and say why.

The feature tensor is found by walking back from the logits to the frontier where the grid was lost: what enters
global pooling, flattening or attention pooling. Names play no part.
"""

from collections.abc import Mapping
from typing import NoReturn

import onnx_ir as ir

from onnxcam.errors import ModelError, NoSpatialFeatures, UnknownLayer, near
from onnxcam.surgeon.anatomy import Anatomy, Candidate, FeatureTensor, ImageInput, Logits
from onnxcam.surgeon.axes import BATCH, CHANNEL, GRIDS, Axes, Tokens, has_grid, propagate
from onnxcam.surgeon.graph import (
    Model,
    Node,
    Shape,
    Value,
    constant,
    find_node,
    find_value,
    footprint,
    infer_shapes,
    shape_of,
    values,
)

FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
WEIGHTED = frozenset(
    "Conv ConvTranspose Gemm MatMul QLinearConv ConvInteger MatMulInteger QLinearMatMul FusedConv FusedMatMul "
    "FusedGemm LSTM GRU RNN".split()
)
PICTURE_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.UINT8)
DEFAULT_SIZE = 224


def locate(
    model: Model, *, layout: str | None = None, size: tuple[int, int] | None = None, layer: str = "auto"
) -> Anatomy:
    """The picture's input, the logits and the feature tensor.

    layout overrides NCHW or NHWC; size (H,W) is for models with dynamic sides (224 if not given); layer is 'auto',
    'last-conv', or the name of a tensor or node. Raises NoSpatialFeatures, UnknownLayer or ModelError.
    """
    image = find_image(model, layout)
    shapes = infer_shapes(model, {image.name: picture_shape(image, size)})
    seed: Axes = tuple(image.layout)
    axes = propagate(model, shapes, {image.name: seed})
    logits = find_logits(model, shapes)
    letters = GRIDS[len(image.layout)]
    if layer == "auto":
        features, candidates = _auto(model, image, logits, shapes, axes, letters)
    else:
        features, candidates = _chosen(model, layer, shapes, axes, letters), ()
    return Anatomy(image, logits, features, candidates, _warnings(image, size), footprint(model, shapes))


def picture_shape(image: ImageInput, size: tuple[int, int] | None) -> tuple[int, ...]:
    """The input's shape for one picture, dynamic sides filled in."""
    height, width = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    sizes = {"N": 1, "C": image.channels, "H": image.height or height, "W": image.width or width}
    return tuple(sizes[letter] for letter in image.layout)


def find_image(model: Model, layout: str | None = None) -> ImageInput:
    """The one input that can be a picture: four axes, one of them with 1, 3 or 4 channels."""
    found = [v for v in model.graph.inputs if v.shape is not None and len(v.shape) == 4 and v.dtype in PICTURE_TYPES]
    if not found:
        shown = ", ".join(f"{v.name} {list(shape_of(v) or ())}" for v in model.graph.inputs) or "none"
        raise NoSpatialFeatures(
            f"the model takes no picture: an input with four axes (NCHW or NHWC) is needed, found {shown}"
        )
    value = found[0]
    shape = shape_of(value) or ()
    chosen = (layout or _layout_of(shape)).upper()
    if sorted(chosen) != ["C", "H", "N", "W"]:
        raise ModelError(f"layout {layout!r} is not NCHW or NHWC")
    by_letter = dict(zip(chosen, shape, strict=True))
    if by_letter["C"] is None:
        by_letter["C"] = 3
    dtype = value.dtype.numpy().name if value.dtype is not None else "float32"
    channels = int(by_letter["C"] or 3)
    return ImageInput(str(value.name), dtype, chosen, channels, by_letter["H"], by_letter["W"], by_letter["N"])


def _layout_of(shape: Shape) -> str:
    if shape[1] in (1, 3, 4):
        return "NCHW"
    if shape[3] in (1, 3, 4):
        return "NHWC"
    return "NCHW" if shape[3] is None or (shape[1] or 0) <= (shape[3] or 0) else "NHWC"


def find_logits(model: Model, shapes: Mapping[str, Shape]) -> Logits:
    """The classifier's numbers: among outputs of shape (N, classes), the one with a final activation, else the widest.

    An output that another output is computed from is an embedding, not the logits.
    """
    vectors = [v for v in model.graph.outputs if _is_vector(v, shapes)]
    if not vectors:
        shown = ", ".join(f"{v.name} {list(shapes.get(str(v.name), shape_of(v) or ()))}" for v in model.graph.outputs)
        raise ModelError(
            f"no output is a class vector of shape (N, classes); found {shown}; onnxcam explains classifiers"
        )
    others = {id(v) for o in vectors for v in _ancestors(o)}
    heads = [v for v in vectors if id(v) not in others] or vectors
    activated = [v for v in heads if _before_activation(v)[1] in ("softmax", "log_softmax")]
    output = max(activated or heads, key=lambda v: _classes(v, shapes))
    value, activation = _before_activation(output)
    how = f"before the final {activation}" if activation != "none" else "the output itself, no activation follows"
    if len(model.graph.outputs) > 1:
        how += f"; chosen of {len(model.graph.outputs)} outputs"
    return Logits(str(value.name), str(output.name), activation, _classes(output, shapes), how)


def _is_vector(value: Value, shapes: Mapping[str, Shape]) -> bool:
    shape = shapes.get(str(value.name)) or shape_of(value) or ()
    wide = [d for d in shape[1:] if d != 1]
    return len(shape) >= 2 and len(wide) <= 1 and value.dtype in PICTURE_TYPES and None not in shape[1:]


def _classes(value: Value, shapes: Mapping[str, Shape]) -> int:
    shape = shapes.get(str(value.name)) or shape_of(value) or ()
    return max((int(d or 0) for d in shape[1:]), default=0)


def _before_activation(output: Value) -> tuple[Value, str]:
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in FINAL_ACTIVATIONS:
            return node.inputs[0], FINAL_ACTIVATIONS[node.op_type]
        if node.op_type not in TRANSPARENT:
            break
        value = node.inputs[0]
    return output, "none"


def _ancestors(value: Value) -> list[Value]:
    """Everything that the value is computed from, nearest first; itself left out."""
    seen: dict[int, Value] = {}
    stack = [value]
    while stack:
        node = stack.pop().producer()
        for parent in node.inputs if node is not None else ():
            if parent is not None and id(parent) not in seen and constant(parent) is None:
                seen[id(parent)] = parent
                stack.append(parent)
    return list(seen.values())


def _auto(
    model: Model,
    image: ImageInput,
    logits: Logits,
    shapes: Mapping[str, Shape],
    axes: Mapping[str, Axes],
    letters: tuple[str, ...],
) -> tuple[FeatureTensor, tuple[Candidate, ...]]:
    head = find_value(model, logits.tensor)
    assert head is not None
    order = {id(n): i for i, n in enumerate(model.graph)}
    frontier = _frontier(head, shapes, axes, letters)
    learned = [(v, n) for v, n in frontier if _is_learned(v)]
    if not learned:
        _no_features(bool(frontier))
    ranked = sorted(learned, key=lambda pair: order[id(pair[1])], reverse=True)
    value, consumer = ranked[0]
    value, how = _refine(value, consumer, logits, shapes, axes, letters)
    features = _feature(value, f"{how}{_article(consumer.op_type)}, where the grid is lost", shapes, axes)
    losers = [
        Candidate(str(v.name), shapes.get(str(v.name)), f"enters {n.op_type} earlier in the graph")
        for v, n in ranked[1:]
        if v is not value
    ]
    return features, (*losers, *_naive_candidates(model, value, shapes))


def _article(op_type: str) -> str:
    return f"what enters {op_type}"


def _no_features(only_picture: bool) -> NoReturn:
    why = (
        "the picture itself is flattened before any layer has seen it"
        if only_picture
        else "no tensor between the picture and the logits keeps its geometry"
    )
    raise NoSpatialFeatures(f"the model has no spatial feature map: {why}; name a tensor with --layer if you know one")


def _frontier(
    head: Value, shapes: Mapping[str, Shape], axes: Mapping[str, Axes], letters: tuple[str, ...]
) -> list[tuple[Value, Node]]:
    """Pairs (tensor with a grid, the node that loses it) reached by walking back from the logits."""
    found: dict[int, tuple[Value, Node]] = {}
    seen: set[int] = set()
    stack = [head]
    while stack:
        node = stack.pop().producer()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        for value in node.inputs:
            if value is None or constant(value) is not None:
                continue
            if node.op_type == "Shape":
                continue
            if has_grid(axes.get(str(value.name)), shapes.get(str(value.name)), letters):
                found.setdefault(id(value), (value, node))
            else:
                stack.append(value)
    return list(found.values())


def _is_learned(value: Value) -> bool:
    lineage = [value, *_ancestors(value)]
    return any((node := v.producer()) is not None and node.op_type in WEIGHTED for v in lineage)


def _refine(
    value: Value,
    consumer: Node,
    logits: Logits,
    shapes: Mapping[str, Shape],
    axes: Mapping[str, Axes],
    letters: tuple[str, ...],
) -> tuple[Value, str]:
    """Step back over what is part of the pooling: flattening, the weights of attention pooling, a class map."""
    how = ""
    while (node := value.producer()) is not None:
        first = node.inputs[0] if node.inputs else None
        if first is None:
            break
        before, after = axes.get(str(first.name), ()), axes.get(str(value.name), ())
        flattened = any(isinstance(a, Tokens) for a in after) and not any(isinstance(a, Tokens) for a in before)
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Identity") and flattened and set(letters) <= set(before):
            value, how = first, "flattened into "
            continue
        pooled = _weighed_by_attention(node, shapes, axes)
        if node.op_type == "Mul" and pooled is not None:
            value, how = pooled, "weighed by attention and summed by "
            continue
        break
    classifier = _class_map(value, logits, shapes, axes, letters)
    if classifier is not None:
        return classifier, "enters the convolution that makes one map a class, before "
    return value, how


def _weighed_by_attention(node: Node, shapes: Mapping[str, Shape], axes: Mapping[str, Axes]) -> Value | None:
    """x of Mul(x, w) where w has one channel but x has many: w pools x over space rather than gating channels."""
    if len(node.inputs) != 2:
        return None
    for x, w in (node.inputs, node.inputs[::-1]):
        if x is None or w is None or constant(w) is not None:
            continue
        own, dims, other = axes.get(str(x.name)), shapes.get(str(x.name)), shapes.get(str(w.name))
        if own is None or dims is None or other is None or len(other) != len(dims) or CHANNEL not in own:
            continue
        c = own.index(CHANNEL)
        if other[c] == 1 and (dims[c] or 1) > 1 and all(other[i] == dims[i] for i in range(len(dims)) if i != c):
            return x
    return None


def _class_map(
    value: Value,
    logits: Logits,
    shapes: Mapping[str, Shape],
    axes: Mapping[str, Axes],
    letters: tuple[str, ...],
) -> Value | None:
    """What enters the 1x1 convolution, if the tensor has one channel a class and only pooling follows it."""
    own, shape = axes.get(str(value.name)), shapes.get(str(value.name))
    if own is None or shape is None or CHANNEL not in own or shape[own.index(CHANNEL)] != logits.classes:
        return None
    node = value.producer()
    while node is not None and node.op_type not in WEIGHTED:
        parents = [v for v in node.inputs if v is not None and constant(v) is None]
        if len(parents) != 1 or axes.get(str(parents[0].name)) != own:
            return None
        node = parents[0].producer()
    if node is None or node.op_type != "Conv" or node.inputs[0] is None:
        return None
    before = node.inputs[0]
    return before if has_grid(axes.get(str(before.name)), shapes.get(str(before.name)), letters) else None


def _naive_candidates(model: Model, chosen: Value, shapes: Mapping[str, Shape]) -> tuple[Candidate, ...]:
    """The answers that other tools give, and why they are not taken."""
    last = last_convolution(model)
    if last is None or last.outputs[0] is chosen:
        return ()
    output = last.outputs[0]
    shape = shapes.get(str(output.name))
    if chosen in _ancestors(output):
        why = "the last convolution comes after the features: it is part of the classifier"
    else:
        steps = [n.op_type for n in _between(output, chosen)]
        why = "the last convolution's bare output; " + (
            f"{', '.join(steps[:4])} still follow before the features are pooled" if steps else "it is on a side branch"
        )
    return (Candidate(str(output.name), shape, why),)


def _between(start: Value, end: Value) -> list[Node]:
    lineage = {id(v) for v in _ancestors(end)} | {id(end)}
    steps: list[Node] = []
    value = start
    while value is not end:
        following = [n for n in value.consumers() if id(n.outputs[0]) in lineage]
        if not following or len(steps) > 20:
            break
        steps.append(following[0])
        value = following[0].outputs[0]
    return steps


def last_convolution(model: Model) -> Node | None:
    found = [n for n in model.graph if n.op_type in ("Conv", "QLinearConv", "ConvInteger", "FusedConv")]
    return found[-1] if found else None


def _chosen(
    model: Model, layer: str, shapes: Mapping[str, Shape], axes: Mapping[str, Axes], letters: tuple[str, ...]
) -> FeatureTensor:
    if layer == "last-conv":
        node = last_convolution(model)
        if node is None:
            raise NoSpatialFeatures(
                "the model has no convolution, so --layer last-conv names nothing; use --layer auto"
            )
        value, reason = node.outputs[0], "the bare last convolution, as asked"
    else:
        named = find_node(model, layer)
        found = find_value(model, layer) or (named.outputs[0] if named is not None else None)
        if found is None:
            known = [str(v.name) for v in values(model)] + [str(n.name) for n in model.graph]
            raise UnknownLayer(f"no tensor or node is called {layer!r}; {near(layer, dict.fromkeys(known))}")
        value, reason = found, "named by the user"
    if value.is_graph_input() or not has_grid(axes.get(str(value.name)), shapes.get(str(value.name)), letters):
        shape = shapes.get(str(value.name))
        raise NoSpatialFeatures(
            f"{value.name!r} with shape {list(shape) if shape else 'unknown'} is not a spatial feature map; "
            f"`onnxcam inspect` lists tensors that are"
        )
    return _feature(value, reason, shapes, axes)


def _feature(value: Value, reason: str, shapes: Mapping[str, Shape], axes: Mapping[str, Axes]) -> FeatureTensor:
    node = value.producer()
    assert node is not None
    named: Axes = axes[str(value.name)]
    if BATCH not in named[:1]:
        named = (BATCH, *named[1:])
    return FeatureTensor(str(value.name), shapes[str(value.name)], named, reason, node.op_type)


def _warnings(image: ImageInput, size: tuple[int, int] | None) -> tuple[str, ...]:
    notes = []
    if (image.height is None or image.width is None) and size is None:
        notes.append(f"the model takes any size; {DEFAULT_SIZE}x{DEFAULT_SIZE} is assumed (--size to change)")
    return tuple(notes)
