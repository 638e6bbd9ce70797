"""Find the picture's input, the logits and the tensor that carries the last spatial features - and say why.

The feature tensor is found by walking back from the logits to the frontier where the grid was lost: what enters
global pooling, flattening or attention pooling. Names play no part.
"""

from collections.abc import Sequence
from typing import NoReturn

from onnxcam.errors import ModelError, NoSpatialFeatures, PresetError, UnknownLayer, near
from onnxcam.surgeon.analysis.anatomy import Anatomy, Candidate, FeatureTensor, ImageInput, Kind, Logits
from onnxcam.surgeon.analysis.axes import BATCH, CHANNEL, GRIDS, propagate
from onnxcam.surgeon.analysis.frontier import (
    Traced,
    before_prediction,
    before_shared_pooling,
    common_trunk,
    frontier,
    is_learned,
    layers_after,
    refined,
    without_weights,
)
from onnxcam.surgeon.analysis.heads import find_logits
from onnxcam.surgeon.ir import (
    NUMBERS,
    Model,
    Node,
    Shape,
    Shapes,
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
from onnxcam.surgeon.passes.quantised import check_dequantisable, is_blocked
from onnxcam.types import Note, NoteCode

LARGEST_SIDE = 2**24
"""Of an input, a long recording; of a picture the memory decides."""
LARGEST_BATCH = 4096
LONGEST_HEAD = 3
"""Layers with weights that a classifier has behind its features (VGG has three)."""
COLOURS = (1, 3, 4)
"""Channels that a picture usually has."""

DEFAULT_SIDE = 224
"""Of a picture for a model that takes any; signals and volumes have no usual size."""


def locate(
    model: Model,
    *,
    layout: str | None = None,
    size: Sequence[int] | None = None,
    layer: str = "auto",
    output: str | None = None,
    kind: Kind | None = None,
    shapes: Shapes | None = None,
) -> Anatomy:
    """The picture's input, what is scored, and the feature tensor.

    layout overrides e.g. NCHW or NHWC; size (H,W) is for models with dynamic sides (224 if not given); layer is 'auto',
    'last-conv', or the name of a tensor or node. output, kind: what is scored, if not a class vector. shapes: of every
    tensor as measured by a run; if None, inferred. Raises NoSpatialFeatures, UnknownLayer or ModelError.
    """
    image = find_image(model, layout)
    if shapes is None:
        shapes = infer_shapes(model, {image.name: image.shape(sides(image, size))})
    axes = propagate(model, shapes, {image.name: tuple(image.layout)})
    traced = Traced(shapes, axes, image.letters, (shapes.get(image.name) or (None,))[0])
    logits = find_logits(model, traced, output, kind)
    notes = _size_notes(image, size)
    if logits.kind is Kind.BOXES and kind is None:
        text = f"{logits.output!r} is read as a table of boxes; if it is none, name what is meant with --index"
        notes += (Note(NoteCode.READ_AS_BOXES, text),)
    if layer == "auto":
        features, candidates, doubt = _auto(model, logits, traced)
        notes += (doubt,) if doubt else ()
    else:
        features, candidates = _chosen(model, layer, traced), ()
    return Anatomy(image, logits, features, candidates, notes, footprint(model, shapes))


def sides(image: ImageInput, size: Sequence[int] | None) -> tuple[int, ...]:
    """Of the picture, dynamic ones filled in; one number counts for all. Raises PresetError if a fixed one differs."""
    count = len(image.sides)
    if size is None and count != 2 and None in image.sides:
        raise PresetError(
            f"the model takes any size of {'signal' if count == 1 else 'volume'}; say which with --size "
            f"{'512' if count == 1 else '16x112x112'}"
        )
    wanted = tuple(size or (DEFAULT_SIDE,))
    wanted = wanted * count if len(wanted) == 1 else wanted
    shown, asked = ("x".join("?" if s is None else str(s) for s in found) for found in (image.sides, wanted))
    if len(wanted) != count:
        raise PresetError(f"the model's input has {count} sides ({shown}), so it cannot take {asked}")
    fixed = tuple(own or side for own, side in zip(image.sides, wanted, strict=True))
    if size is not None and fixed != wanted:
        raise PresetError(f"the model's input is {shown}, so it cannot take {asked}; leave the size out")
    return fixed


def find_image(model: Model, layout: str | None = None) -> ImageInput:
    """The input that takes the picture: four axes, or five for a volume, or three for a signal; the first of these."""
    ranked = [
        v
        for rank in (4, 5, 3)
        for v in model.graph.inputs
        if v.shape is not None and len(v.shape) == rank and v.dtype in NUMBERS
    ]
    if not ranked:
        shown = ", ".join(f"{v.name} {list(shape_of(v) or ())}" for v in model.graph.inputs) or "none"
        raise NoSpatialFeatures(
            f"the model takes no picture: an input such as NCHW, NHWC, NCW or NCDHW is needed, found {shown}"
        )
    value = ranked[0]
    shape = shape_of(value) or ()
    chosen = (layout if layout is not None else _layout_of(shape)).upper()
    letters = "".join(GRIDS[len(shape)])
    if chosen[:1] != BATCH or sorted(chosen) != sorted(f"NC{letters}") or chosen.replace(CHANNEL, "") != f"N{letters}":
        raise ModelError(f"layout {layout!r} is not NC{letters} or N{letters}C")
    channel = chosen.index(CHANNEL)
    if shape[channel] not in (None, *COLOURS) and shape[1 if channel != 1 else -1] in COLOURS:
        raise ModelError(f"layout {chosen} does not fit the input {value.name!r} of shape {list(shape)}")
    dtype = value.dtype.numpy().name if value.dtype is not None else "float32"
    own = tuple(d for i, d in enumerate(shape) if i not in (0, channel))
    if any(d is not None and d > LARGEST_SIDE for d in own) or (shape[0] or 0) > LARGEST_BATCH:
        raise ModelError(f"the input {value.name!r} of shape {list(shape)} is larger than any picture; is it damaged?")
    return ImageInput(str(value.name), dtype, chosen, int(shape[channel] or 3), own, shape[0])


def _layout_of(shape: Shape) -> str:
    """Channels first or last, by which of the two axes can be colours, else by which is the shorter."""
    letters = "".join(GRIDS[len(shape)])
    first, final = f"NC{letters}", f"N{letters}C"
    if shape[1] in COLOURS or shape[-1] in COLOURS:
        return first if shape[1] in COLOURS else final
    if shape[1] is None or shape[-1] is None:
        return final if shape[1] is None and shape[-1] is not None else first
    return first if shape[1] <= shape[-1] else final


def _auto(model: Model, logits: Logits, traced: Traced) -> tuple[FeatureTensor, tuple[Candidate, ...], Note | None]:
    head = find_value(model, logits.tensor)
    if head is None:
        raise ModelError(f"what is scored, {logits.tensor!r}, is a constant: it does not depend on the picture")
    if logits.kind is Kind.REGION:
        value = before_prediction(head, traced)
        reason = "what enters the layer that predicts a class for every place"
        return _feature(value, reason, traced), (), None
    if logits.kind is Kind.BOXES and (trunk := common_trunk(head, traced)) is not None:
        reason = "the coarsest map under the layers that predict boxes"
        text = "boxes of other scales are predicted from finer maps; name one of these with --layer"
        return _feature(trunk, reason, traced), (), Note(NoteCode.OTHER_SCALES, text)
    order = {id(n): i for i, n in enumerate(model.graph)}
    found = frontier(head, traced)
    learned = [(v, n) for v, n in found if is_learned(v)]
    if not learned:
        _no_features(model, bool(found))
    ranked = sorted(without_weights(learned), key=lambda pair: order[id(pair[1])], reverse=True)
    final, consumer = ranked[0]
    step = refined(before_shared_pooling(final, learned), head, logits.classes, traced)
    features = _feature(step.value, f"{step.how or 'what '}enters {consumer.op_type}, where the grid is lost", traced)
    losers = [
        Candidate(str(v.name), traced.shape(v), f"enters {n.op_type} earlier in the graph")
        for v, n in ranked[1:]
        if v is not step.value
    ]
    doubt = (
        step.doubt
        or _depth_doubt(layers_after(step.value, head), consumer)
        or _branch_doubt([v for v, _ in ranked[1:]], step.value)
    )
    return features, (*losers, *_naive_candidates(model, step.value, traced)), doubt


def _branch_doubt(others: Sequence[Value], chosen: Value) -> Note | None:
    """Maps with a pooling of their own, which the chosen one does not hold."""
    apart = [v for v in others if v is not chosen and id(chosen) not in {id(a) for a in ancestors(v)}]
    if not apart:
        return None
    names = ", ".join(repr(v.name) for v in apart[:3])
    text = f"other maps reach the logits by a pooling of their own ({names}); name one with --layer to see it instead"
    return Note(NoteCode.OTHER_BRANCHES, text)


def _depth_doubt(layers: int, consumer: Node) -> Note | None:
    """A classifier's head is short; where much of the network follows, the grid was lost sight of too early."""
    if layers <= LONGEST_HEAD:
        return None
    text = (
        f"{layers} layers with weights still follow the features, since the grid cannot be followed through "
        f"{consumer.op_type} ({consumer.name!r}); name a later tensor with --layer if you know one"
    )
    return Note(NoteCode.FEATURES_EARLY, text)


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
    if is_blocked(value):
        raise NoSpatialFeatures(
            f"{value.name!r} is stored in blocks of channels (NCHWc), as onnxruntime's optimiser does at level ALL; "
            f"explain the export that was optimised, or optimise it without level ALL (ORT_ENABLE_EXTENDED)"
        )
    check_dequantisable(value)
    return FeatureTensor(str(value.name), shape, traced.axes_of(value), reason, node.op_type)


def _size_notes(image: ImageInput, size: Sequence[int] | None) -> tuple[Note, ...]:
    if None in image.sides and size is None:
        text = f"the model takes any size; {DEFAULT_SIDE}x{DEFAULT_SIDE} is assumed (--size to change)"
        return (Note(NoteCode.SIZE_ASSUMED, text),)
    return ()
