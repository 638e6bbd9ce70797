"""The work on one picture: read once, explained by every method, each map measured by every metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt

from onnxcam.errors import OnnxCamError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.map_rows import PictureContext, SourceMap, error_row, measured_rows, score_masked_pictures
from onnxcam.evaluation.options import DataTarget, EvaluationOptions, SourceKind
from onnxcam.evaluation.other_maps import map_file, read_map
from onnxcam.evaluation.rows import ItemResult
from onnxcam.evaluation.shared_scorer import SharedScorer
from onnxcam.evaluation.targets_of_data import Label, TargetClass, boxes_of, label_of, model_class
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.measuring import Again, same_target
from onnxcam.explainer.results import ForwardPass
from onnxcam.explainer.targets.kind import TargetLike
from onnxcam.explainer.together import explain_next
from onnxcam.inputs.loader import ModelInput
from onnxcam.metrics.baselines import BASELINES
from onnxcam.types import Score


@dataclass(frozen=True, eq=False)
class OpenedMethods:
    """A model opened for all methods. base: whose Scorers measure every map. explainers: by the source's key.

    errors: why a method does not go with the model, by the source's key. name: of the model.
    """

    name: str
    base: Explainer
    explainers: Mapping[str, Explainer]
    errors: Mapping[str, OnnxCamError]


@dataclass(frozen=True, eq=False)
class _Read:
    """A picture that was read. requested: the label of the data that is explained, if one is. passes: so far."""

    model_input: ModelInput
    inputs: Mapping[str, npt.ArrayLike]
    target: TargetLike
    requested: Label | None
    passes: list[ForwardPass]


def evaluate_picture(
    opened: OpenedMethods, options: EvaluationOptions, item: DataItem, sources: Sequence[SourceMap]
) -> ItemResult:
    """The rows of a picture. sources: without their maps yet. What goes wrong is in the rows."""
    context = PictureContext(opened.name, item.label, step=options.step, seed=options.seed)
    try:
        read = _read(opened.base, options, item)
    except OnnxCamError as error:
        return _failed(item, sources, context, error)
    try:
        maps = [_with_map(source, opened, item, read) for source in sources]
        if all(each.values is None for each in maps):
            return ItemResult(item.key, tuple(error_row(each, context) for each in maps))
        scorer, context = _scorer(opened.base, options, item, read, context)
    except OnnxCamError as error:
        return _failed(item, sources, context, error)
    finally:
        for forward in read.passes:
            forward.release()
    score_masked_pictures(maps, scorer)
    rows = [row for each in maps for row in measured_rows(each, scorer, context)]
    kept = [each for each in maps if options.keep_maps and _is_kept(each)]
    values = {each.source.title: each.values for each in kept if each.values is not None}
    keys = {each.source.title: each.key for each in kept if each.values is not None}
    return ItemResult(item.key, tuple(rows), values, dict.fromkeys(values, scorer.placement), keys)


def _failed(item: DataItem, sources: Sequence[SourceMap], context: PictureContext, error: OnnxCamError) -> ItemResult:
    """A row with the error for each source. It names the picture by its key, wherever the data lies."""
    named = type(error)(str(error).replace(str(item.path), item.key))
    return ItemResult(item.key, tuple(error_row(replace(source, error=named), context) for source in sources))


def _is_kept(source_map: SourceMap) -> bool:
    return source_map.source.kind is not SourceKind.BASELINE  # which every reader can make again


def _read(base: Explainer, options: EvaluationOptions, item: DataItem) -> _Read:
    """Reads the picture, and resolves what is explained as far as the data says it. Raises OnnxCamError."""
    model_input, inputs = base._read(item.path, item.key, None)
    if options.target is DataTarget.PREDICTION:
        return _Read(model_input, inputs, None, None, [])
    label = label_of(item)
    return _Read(model_input, inputs, model_class(label, base.labels, options.classes), label, [])


def _with_map(source_map: SourceMap, opened: OpenedMethods, item: DataItem, read: _Read) -> SourceMap:
    """The source with its map of the picture, or with the reason why it has none."""
    source = source_map.source
    try:
        if source.kind is SourceKind.METHOD:
            return _explained(source_map, opened, read)
        if source.folder is not None:
            limits = opened.base._loader.limits
            path = map_file(source.folder, item.key)
            return replace(source_map, values=read_map(path, opened.base.size, read.model_input.placement, limits))
        return replace(source_map, values=BASELINES[source.key](opened.base.size))
    except OnnxCamError as error:
        return replace(source_map, error=error)


def _explained(source_map: SourceMap, opened: OpenedMethods, read: _Read) -> SourceMap:
    key = source_map.source.key
    if key in opened.errors:
        raise opened.errors[key]
    explainer = opened.explainers[key]
    explained = explain_next(explainer, read.model_input, [read.target], read.inputs, read.passes)
    if isinstance(explained, OnnxCamError):
        raise explained
    (saliency,) = explained
    made = saliency.provenance
    again = Again(explainer, saliency, read.model_input, same_target(read.target, saliency.target), read.inputs)
    return replace(
        source_map, values=saliency.map, again=again, passes=made.forwards + made.steps, seconds=made.seconds
    )


def _scorer(
    base: Explainer, options: EvaluationOptions, item: DataItem, read: _Read, context: PictureContext
) -> tuple[SharedScorer, PictureContext]:
    """What scores the changed picture, from the forward passes that were made; and the context with its target."""
    forward = base._pipeline.forward(read.model_input, [read.target], read.inputs, read.passes)
    read.passes.append(forward)
    scorer = base._pipeline.scorer(read.model_input, [read.target], read.inputs, Score.PROBABILITY, read.passes)
    (target,) = scorer.targets
    boxes = boxes_of(item, TargetClass(target.class_index, target.name, read.requested, base.labels, options.classes))
    return SharedScorer(scorer), replace(context, target=target, boxes=boxes)
