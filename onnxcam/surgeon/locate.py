"""Find the picture's input, the logits and the tensor that carries the last spatial features - and say why.

The feature tensor is found by walking back from the logits to the frontier where the grid was lost: what enters
global pooling, flattening or attention pooling. Names play no part.
"""

from typing import NoReturn

from onnxcam.errors import ModelError, NoSpatialFeatures, PresetError, UnknownLayer, near
from onnxcam.surgeon.anatomy import Anatomy, Candidate, FeatureTensor, ImageInput, Logits
from onnxcam.surgeon.axes import GRIDS, propagate
from onnxcam.surgeon.frontier import Traced, frontier, is_learned, refined
from onnxcam.surgeon.graph import (
    NUMBERS,
    Model,
    Node,
    Shape,
    Value,
    ancestors,
    find_node,
    find_value,
    footprint,
    infer_shapes,
    is_standard,
    shape_of,
    values,
)
from onnxcam.surgeon.heads import find_logits

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
    axes = propagate(model, shapes, {image.name: tuple(image.layout)})
    traced = Traced(shapes, axes, GRIDS[len(image.layout)])
    logits = find_logits(model, shapes)
    if layer == "auto":
        features, candidates = _auto(model, logits, traced)
    else:
        features, candidates = _chosen(model, layer, traced), ()
    return Anatomy(image, logits, features, candidates, _warnings(image, size), footprint(model, shapes))


def picture_shape(image: ImageInput, size: tuple[int, int] | None) -> tuple[int, ...]:
    """The input's shape for one picture, dynamic sides filled in; raises PresetError where a fixed side differs."""
    height, width = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    fixed = (image.height or height, image.width or width)
    if size is not None and fixed != size:
        raise PresetError(
            f"the model's input is {fixed[0]}x{fixed[1]} (HxW), so it cannot take {height}x{width}; leave the size out"
        )
    sizes = {"N": 1, "C": image.channels, "H": image.height or height, "W": image.width or width}
    return tuple(sizes[letter] for letter in image.layout)


def find_image(model: Model, layout: str | None = None) -> ImageInput:
    """The one input that can be a picture: four axes, one of them with 1, 3 or 4 channels."""
    found = [v for v in model.graph.inputs if v.shape is not None and len(v.shape) == 4 and v.dtype in NUMBERS]
    if not found:
        shown = ", ".join(f"{v.name} {list(shape_of(v) or ())}" for v in model.graph.inputs) or "none"
        raise NoSpatialFeatures(
            f"the model takes no picture: an input with four axes (NCHW or NHWC) is needed, found {shown}"
        )
    value = found[0]
    shape = shape_of(value) or ()
    chosen = (layout if layout is not None else _layout_of(shape)).upper()
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


def _auto(model: Model, logits: Logits, traced: Traced) -> tuple[FeatureTensor, tuple[Candidate, ...]]:
    head = find_value(model, logits.tensor)
    assert head is not None
    order = {id(n): i for i, n in enumerate(model.graph)}
    found = frontier(head, traced)
    learned = [(v, n) for v, n in found if is_learned(v)]
    if not learned:
        _no_features(model, bool(found))
    ranked = sorted(learned, key=lambda pair: order[id(pair[1])], reverse=True)
    last, consumer = ranked[0]
    value, how = refined(last, head, logits.classes, traced)
    features = _feature(value, f"{how or 'what '}enters {consumer.op_type}, where the grid is lost", traced)
    losers = [
        Candidate(str(v.name), traced.shape(v), f"enters {n.op_type} earlier in the graph")
        for v, n in ranked[1:]
        if v is not value
    ]
    return features, (*losers, *_naive_candidates(model, value, traced))


def _no_features(model: Model, only_picture: bool) -> NoReturn:
    for node in model.graph:
        if not is_standard(node):
            raise NoSpatialFeatures(
                f"the grid cannot be followed through the operator {node.op_type} of {node.domain}, which a runtime's "
                f"optimiser put there; explain the export that was optimised"
            )
        if node.op_type in ("If", "Loop", "Scan"):
            raise NoSpatialFeatures(
                f"the grid cannot be followed through {node.op_type} ({node.name!r}); export the network without it"
            )
    why = (
        "the picture itself is flattened before any layer has seen it"
        if only_picture
        else "no tensor between the picture and the logits keeps its geometry"
    )
    raise NoSpatialFeatures(f"the model has no spatial feature map: {why}; name a tensor with --layer if you know one")


def _naive_candidates(model: Model, chosen: Value, traced: Traced) -> tuple[Candidate, ...]:
    """The answers that other tools give, and why they are not taken."""
    last = last_convolution(model)
    if last is None or last.outputs[0] is chosen:
        return ()
    output = last.outputs[0]
    shape = traced.shape(output)
    if chosen in ancestors(output):
        why = "the last convolution comes after the features: it is part of the classifier"
    else:
        steps = [n.op_type for n in _between(output, chosen)]
        why = "the last convolution's bare output; " + (
            f"{', '.join(steps[:4])} still follow before the features are pooled" if steps else "it is on a side branch"
        )
    return (Candidate(str(output.name), shape, why),)


def _between(start: Value, end: Value) -> list[Node]:
    lineage = {id(v) for v in ancestors(end)} | {id(end)}
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


def _chosen(model: Model, layer: str, traced: Traced) -> FeatureTensor:
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
    if value.is_graph_input() or not traced.has_grid(value):
        shape = traced.shape(value)
        raise NoSpatialFeatures(
            f"{value.name!r} with shape {list(shape) if shape else 'unknown'} is not a spatial feature map; "
            f"`onnxcam inspect` lists tensors that are"
        )
    return _feature(value, reason, traced)


def _feature(value: Value, reason: str, traced: Traced) -> FeatureTensor:
    node, shape = value.producer(), traced.shape(value)
    if node is None or shape is None or not is_learned(value):
        raise NoSpatialFeatures(
            f"{value.name!r} is the picture itself, or its shape is unknown; choose another --layer"
        )
    if node.op_type.startswith("QLinear") or node.op_type in ("ConvInteger", "QuantizeLinear"):
        raise ModelError(
            f"the feature tensor {value.name!r} is quantised ({node.op_type}); explain the float or QDQ export"
        )
    return FeatureTensor(str(value.name), shape, traced.axes_of(value), reason, node.op_type)


def _warnings(image: ImageInput, size: tuple[int, int] | None) -> tuple[str, ...]:
    notes = []
    if (image.height is None or image.width is None) and size is None:
        notes.append(f"the model takes any size; {DEFAULT_SIZE}x{DEFAULT_SIZE} is assumed (--size to change)")
    return tuple(notes)
