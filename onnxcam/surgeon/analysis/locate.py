"""Finds the image input, the scored tensor and the feature tensor of a model: the entry point of the analysis.

locate() returns them as an Anatomy, with the reason of each choice. The feature tensor is the last one that keeps the
image's grid: what enters global pooling, flattening or attention pooling, reached by walking back from the scored
tensor (frontier.py). Names of tensors play no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from onnxcam.errors import ModelError, NoSpatialFeatures, UnknownLayer, near
from onnxcam.surgeon.analysis.anatomy import Anatomy, Candidate, FeatureTensor, ImageInput, Kind, Logits, Scale
from onnxcam.surgeon.analysis.axes import CHANNEL_FIRST, propagate
from onnxcam.surgeon.analysis.box_format import sides_are_corners
from onnxcam.surgeon.analysis.branches import (
    branch_features,
    pooled_apart,
    pooled_note,
    summed_note,
    summed_predictions,
)
from onnxcam.surgeon.analysis.columns import prototype_note, raw_scales_note
from onnxcam.surgeon.analysis.detections import TableScales, common_trunk, element_scales, table_scales
from onnxcam.surgeon.analysis.frames import check_frames, seeds
from onnxcam.surgeon.analysis.frontier import (
    Geometry,
    before_prediction,
    before_shared_pooling,
    find_frontier,
    is_learned,
    layers_after,
    refine,
    without_attention_weights,
)
from onnxcam.surgeon.analysis.heads import find_logits
from onnxcam.surgeon.analysis.images import find_image, picture_inputs, resolve_size, size_notes
from onnxcam.surgeon.analysis.numbers_of_boxes import by_place, table_of_numbers
from onnxcam.surgeon.analysis.pooling import before_pooling, gate_doubt
from onnxcam.surgeon.analysis.query_levels import candidate_scales
from onnxcam.surgeon.analysis.shared_features import of_one_picture, shared_note
from onnxcam.surgeon.analysis.single_channel import before_single_channel
from onnxcam.surgeon.ir import (
    Model,
    Node,
    Shapes,
    Value,
    ancestors,
    find_node,
    find_value,
    footprint,
    is_standard,
    reached_from,
    values,
)
from onnxcam.surgeon.passes.quantised import check_dequantisable, is_blocked
from onnxcam.surgeon.shape_inference import infer_shapes
from onnxcam.types import Arrays, Note, NoteCode

LONGEST_HEAD = 3
"""Layers with weights after the features of a classifier, as in VGG; more of them raise a doubt."""
OF_ONE_PICTURE = "the last map of this picture alone, before it is joined with another picture's"


@dataclass(frozen=True)
class _Choice:
    """The feature tensor, its rivals, what to doubt, and all maps that feed the score if there are several."""

    features: FeatureTensor
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[Note, ...] = ()
    branches: tuple[FeatureTensor, ...] = ()


def locate(
    model: Model,
    *,
    layout: str | None = None,
    size: Sequence[int] | None = None,
    layer: str = "auto",
    output: str | None = None,
    kind: Kind | None = None,
    shapes: Shapes | None = None,
    fixed: Arrays | None = None,
    image: ImageInput | None = None,
) -> Anatomy:
    """Finds the image input, the scored tensor and the feature tensor.

    layout: overrides the one that is read from the shape, e.g. NHWC. size: (H,W) for a model with dynamic sides, 224 if
    None. layer: 'auto', 'last-conv', or the name of a tensor or node. output, kind: what is scored, if no class vector.
    shapes: of every tensor, as a run showed them (tracing.py); inferred if None. fixed: the numbers of tensors that
    follow from shapes and constants, as the run showed them. image: the input that takes the image, if it is known;
    layout is not read then.

    Raises NoSpatialFeatures, UnknownLayer, PresetError or ModelError.
    """
    image = image or find_image(model, layout)
    if shapes is None:
        shapes = infer_shapes(model, {image.name: image.shape(resolve_size(image, size))})
    reached = reached_from(model, image.name)
    check_frames(image)
    axes = propagate(model, shapes, {image.name: seeds(image.layout, image.frames)}, fixed)
    axes = {name: letters for name, letters in axes.items() if name in reached}
    letters = image.letters if image.frames is None else image.letters[1:]
    geometry = Geometry(shapes, axes, letters, (shapes.get(image.name) or (None,))[0], fixed or {})
    logits, doubts = _scored(model, geometry, output, kind)
    table, scales = _table(model, logits, geometry)
    if layer != "auto":
        choice = _Choice(_chosen(model, layer, geometry))
    elif scales and table is not None:
        # The coarsest; a box of another scale is explained by its own (explainer/heads.py).
        features = scales[-1].features
        choice = _Choice(features, notes=() if table.traced else (_untraced(features),))
    else:
        choice = _auto(model, logits, geometry, image)
        if logits.kind is Kind.ELEMENTS and table is not None and not table.traced:
            choice = replace(choice, notes=(*choice.notes, _untraced(choice.features)))
    shared = shared_note(choice.features, geometry, model, image)
    notes = (*size_notes(image, size), *doubts, *choice.notes, *((shared,) if shared is not None else ()))
    memory = footprint(model, shapes)
    return Anatomy(image, logits, choice.features, choice.candidates, notes, memory, scales, choice.branches)


def _scored(model: Model, geometry: Geometry, output: str | None, kind: Kind | None) -> tuple[Logits, tuple[Note, ...]]:
    """The scored tensor, and notes on an output that was read as something that nobody said."""
    logits, notes = find_logits(model, geometry, output, kind), tuple[Note, ...]()
    if logits.kind is Kind.BOXES and kind is None:
        text = f"{logits.output!r} is read as a table of boxes; else explain one number (onnxcam explain --index)"
        notes = (Note(NoteCode.READ_AS_BOXES, text),)
    if logits.kind is Kind.REGION and kind is None and output is None:
        notes = raw_scales_note(model, geometry)
    if logits.kind is Kind.REGION:
        notes = (*notes, *prototype_note(model, find_value(model, logits.output), geometry))
    if logits.kind is Kind.BOXES:
        logits = replace(logits, corners=sides_are_corners(model, logits, geometry))
    return logits, notes


def _table(model: Model, logits: Logits, geometry: Geometry) -> tuple[TableScales | None, tuple[Scale, ...]]:
    """From which maps the rows of a detector's table, or the numbers of another output, are predicted."""
    if logits.kind is Kind.BOXES:
        table = candidate_scales(model, logits, geometry) or table_scales(model, logits, geometry)
        return table, _scales(table, logits, geometry)
    if logits.kind is not Kind.ELEMENTS:
        return None, ()
    of_boxes = table_of_numbers(model, logits, geometry)
    table = table_scales(model, of_boxes, geometry) if of_boxes is not None else None
    if table is not None and of_boxes is not None and table.scales:
        return table, tuple(by_place(s, logits, of_boxes) for s in _scales(table, of_boxes, geometry))
    table = element_scales(model, logits, geometry)
    return table, _scales(table, logits, geometry)


def _scales(table: TableScales | None, logits: Logits, geometry: Geometry) -> tuple[Scale, ...]:
    """The scales of a detector's table, from the finest map to the coarsest."""
    boxes = logits.kind is Kind.BOXES
    what, of = ("boxes", logits.boxes) if boxes else ("the numbers", logits.classes)
    scales = [
        Scale(rows, _feature(value, f"what enters the layers that predict {what}", geometry))
        for rows, value in (table.scales if table is not None else ())
    ]
    return tuple(
        replace(s, features=replace(s.features, reason=f"{s.features.reason} {s.boxes} of {of}")) for s in scales
    )


def _auto(model: Model, logits: Logits, geometry: Geometry, image: ImageInput) -> _Choice:
    """The feature tensor for `--layer auto`."""
    head = find_value(model, logits.tensor)
    if head is None:
        raise ModelError(f"what is scored, {logits.tensor!r}, is a constant: it does not depend on the image")
    if logits.kind is Kind.REGION:
        joint = before_single_channel(before_prediction(head, geometry), geometry)
        value = of_one_picture(joint, head, geometry, model, image)
        reason = "what enters the layer that predicts a class for every pixel" if value is joint else OF_ONE_PICTURE
        predictions = branch_features(summed_predictions(head, geometry, model), geometry)
        if len(predictions) < 2 or value is not joint:
            return _Choice(_feature(value, reason, geometry))
        return _Choice(_feature(value, reason, geometry), (), (summed_note(predictions),), predictions)
    if logits.kind is Kind.BOXES and (trunk := common_trunk(head, geometry)) is not None:
        features = _feature(trunk, "the coarsest map under the layers that predict boxes", geometry)
        return _Choice(features, (), (_untraced(features),))
    order = {id(n): i for i, n in enumerate(model.graph)}
    pairs = find_frontier(head, geometry)
    learned = [(v, n) for v, n in pairs if is_learned(v)]
    if not learned:
        _refuse(model, only_image=bool(pairs))
    ranked = sorted(without_attention_weights(learned), key=lambda pair: order[id(pair[1])], reverse=True)
    final, consumer = ranked[0]
    start, how = before_pooling(ranked[0], learned, geometry) or (before_shared_pooling(final, learned), "what ")
    refinement = refine(start, head, logits.columns, geometry)
    joint = before_single_channel(refinement.value, geometry)
    chosen = of_one_picture(joint, head, geometry, model, image)
    reason = f"{refinement.how or how}enters {consumer.op_type}, where the grid is lost"
    if chosen is not joint:
        reason = OF_ONE_PICTURE
    elif chosen is not refinement.value:
        reason = f"the last map of several channels before {refinement.value.name!r}, which has one"
    features = _feature(chosen, reason, geometry)
    losers = [
        Candidate(str(v.name), geometry.shape(v), f"enters {n.op_type} earlier in the graph")
        for v, n in ranked[1:]
        if v is not chosen
    ]
    doubt = refinement.doubt or _depth_doubt(layers_after(joint, head), consumer)
    doubts = [(doubt if chosen is joint else None) or gate_doubt(chosen, geometry)]
    others = branch_features(pooled_apart(ranked, chosen, head, logits.columns, geometry), geometry)
    doubts += [pooled_note(features.tensor, others) if others else None, _assumed_doubt(chosen, geometry)]
    notes = tuple(note for note in doubts if note is not None)
    branches = (features, *others) if others else ()
    return _Choice(features, (*losers, *_naive_candidates(model, chosen, geometry)), notes, branches)


def _untraced(features: FeatureTensor) -> Note:
    text = (
        f"from which map some boxes or numbers are predicted cannot be followed through the graph, so "
        f"{features.tensor!r} is explained for them; --layer takes the tensor name of another map"
    )
    return Note(NoteCode.OTHER_SCALES, text)


def _assumed_doubt(chosen: Value, geometry: Geometry) -> Note | None:
    """A note where the axes of a convolution are assumed, as those of the picture cannot be followed to it."""
    for value in (chosen, *ancestors(chosen)):
        node = value.producer()
        first = node.inputs[0] if node is not None and node.op_type in CHANNEL_FIRST else None
        if first is None or first.is_graph_input() or geometry.axes_of(first):
            continue
        if any(geometry.axes_of(v) for v in ancestors(first)):
            text = (
                f"the picture's sides cannot be followed to {value.name!r}, so its axes are assumed to be channels, "
                f"height and width; the map may lie on its side if they are not"
            )
            return Note(NoteCode.GRID_ASSUMED, text)
    return None


def _depth_doubt(layers: int, consumer: Node) -> Note | None:
    """A note where more layers follow the features than a classifier's head has: the grid was lost too early."""
    if layers <= LONGEST_HEAD:
        return None
    text = (
        f"{layers} layers with weights still follow the features, since the grid cannot be followed through "
        f"{consumer.op_type} ({consumer.name!r}); choose a later tensor with --layer if you know one"
    )
    return Note(NoteCode.FEATURES_EARLY, text)


def _refuse(model: Model, *, only_image: bool) -> NoReturn:
    """Raises NoSpatialFeatures with the reason; only_image: the image itself is the only tensor with a grid."""
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
    if only_image and len(picture_inputs(model)) > 1:
        raise NoSpatialFeatures(
            "the pictures are joined before the first layer in a way that cannot be followed; export the network with "
            "a branch for each picture, or joined along the batch axis"
        )
    why = (
        "the image itself is flattened before any layer has seen it"
        if only_image
        else "no tensor between the image and the logits keeps its grid"
    )
    raise NoSpatialFeatures(
        f"the model has no spatial feature map: {why}; choose a tensor with --layer if you know one"
    )


def _naive_candidates(model: Model, chosen: Value, geometry: Geometry) -> tuple[Candidate, ...]:
    """The last convolution, which other tools take, and why it is not chosen; empty where it is."""
    last = last_convolution(model)
    if last is None or last.outputs[0] is chosen:
        return ()
    output = last.outputs[0]
    shape = geometry.shape(output)
    if chosen in ancestors(output):
        why = "the last convolution comes after the features: it is part of the classifier"
    else:
        steps = [n.op_type for n in _between(output, chosen)]
        follow = "follows" if len(steps) == 1 else "follow"
        why = "the last convolution's bare output; " + (
            f"{', '.join(steps[:4])} still {follow} before the features are pooled"
            if steps
            else "it is on a side branch"
        )
    return (Candidate(str(output.name), shape, why),)


def _between(start: Value, end: Value) -> list[Node]:
    """The nodes on one path from start to end, about 20 at most."""
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
    """The last convolution in the order of the graph."""
    convolutions = [n for n in model.graph if n.op_type in ("Conv", "QLinearConv", "ConvInteger", "FusedConv")]
    return convolutions[-1] if convolutions else None


def _chosen(model: Model, layer: str, geometry: Geometry) -> FeatureTensor:
    """The feature tensor that the caller chose. Raises UnknownLayer or NoSpatialFeatures."""
    if layer == "last-conv":
        node = last_convolution(model)
        if node is None:
            raise NoSpatialFeatures(
                "the model has no convolution, so --layer last-conv names nothing; use --layer auto"
            )
        value, reason = node.outputs[0], "the bare last convolution, as requested"
    else:
        named = find_node(model, layer)
        match = find_value(model, layer) or (named.outputs[0] if named is not None else None)
        if match is None:
            known = [str(v.name) for v in values(model)] + [str(n.name) for n in model.graph]
            raise UnknownLayer(f"no tensor or node is called {layer!r}; {near(layer, dict.fromkeys(known))}")
        value, reason = match, "chosen by the user"
    if value.is_graph_input() or not geometry.has_grid(value):
        shape = geometry.shape(value)
        maps = [str(v.name) for v in values(model) if geometry.has_grid(v) and is_learned(v)]
        way_out = f"the last that are: {', '.join(maps[-3:])}" if maps else "no tensor is one"
        raise NoSpatialFeatures(
            f"{value.name!r} with shape {list(shape) if shape else 'unknown'} is not a spatial feature map; {way_out}"
        )
    return _feature(value, reason, geometry)


def _feature(value: Value, reason: str, geometry: Geometry) -> FeatureTensor:
    """The FeatureTensor of a value. Raises where it is the image, or its numbers cannot be read as feature maps."""
    node, shape = value.producer(), geometry.shape(value)
    if node is None or shape is None or not is_learned(value):
        raise NoSpatialFeatures(f"{value.name!r} is the image itself, or its shape is unknown; choose another --layer")
    if is_blocked(value):
        raise NoSpatialFeatures(
            f"{value.name!r} is stored in blocks of channels (NCHWc), as onnxruntime's optimiser does at level ALL; "
            f"explain the export that was optimised, or optimise it without level ALL (ORT_ENABLE_EXTENDED)"
        )
    check_dequantisable(value)
    return FeatureTensor(str(value.name), shape, geometry.axes_of(value), reason, node.op_type)
