"""The values that pass through an explanation, and the last step: outcomes of a method become Saliency results.

ForwardPass (one picture, run once) -> BoundRequest (the picture with its targets, ready for a method) -> Saliency.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnxcam.explainer.head_notes import head_notes
from onnxcam.inputs.loader import ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.methods import changed_options
from onnxcam.methods.blocks import Method
from onnxcam.methods.maps import Outcome
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.probe import Computed, ImageProbe
from onnxcam.network.selection import Detections
from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Arrays, BatchMode, Features, FeaturesOnDevice, Image, Note, NoteCode, Origin, Source
from onnxcam.versions import versions


class Head(NamedTuple):
    """What is scored: its kind and the name of the output, None where the model decides.

    layer: the feature tensor, for boxes of a scale that is not the one which the output is opened with.
    """

    kind: Kind | None
    output: str | None
    layer: str | None = None


PREPROCESSED = Origin(Source.PREPARED, "preprocessed by the caller")


@dataclass(frozen=True, eq=False)
class ForwardResult:
    """One unmasked picture before one head: what all its targets share, and all methods that use the same runner.

    features: (K,*grid). values: (numbers,) of the scored tensor, flattened. feeds: the picture and the extra inputs by
    the scoring graph's input names. seconds: duration of the forward pass with its preparation. forwards: passes of the
    picture up to here, more than one where another showed from which scale a box is, or what was detected. detections:
    of a detector that chooses among candidates. computed: what methods computed from it that others use again. is_step:
    whether the pass is a step of the method, which alone runs the picture with its gradient at once.
    """

    runner: GradientRunner
    model_input: ModelInput
    fill: Image
    feeds: Arrays
    features: Features | FeaturesOnDevice
    values: npt.NDArray[np.float64]
    seconds: float
    forwards: int = 1
    detections: Detections | None = None
    computed: Computed = field(default_factory=Computed)
    is_step: bool = False

    def release(self) -> None:
        """Frees the copy of this picture on the device."""
        self.runner.opened.network.release(self.feeds)


@dataclass(frozen=True, eq=False, repr=False)
class ForwardPass:
    """A picture that was read and run once, with a result for each head that its targets need.

    heads: of each target. others: those of further layers, whose maps are fused with this one's (fusion.py).
    """

    model_input: ModelInput
    results: Mapping[Head, ForwardResult]
    heads: tuple[Head, ...]
    others: tuple["ForwardPass", ...] = ()

    def release(self) -> None:
        """Frees the copies of this picture on the device; called for a picture that is not explained."""
        for result in self.results.values():
            result.release()
        for other in self.others:
            other.release()


@dataclass(frozen=True, eq=False)
class BoundRequest:
    """A picture with its targets of one head, ready for a method.

    notes: on how the targets were chosen. target_notes: further ones on each target.
    """

    forward: ForwardResult
    targets: Sequence[ScoredTarget]
    probe: ImageProbe
    notes: tuple[Note, ...]
    target_notes: Sequence[tuple[Note, ...]]


@dataclass(frozen=True, eq=False)
class ExplainerInfo:
    """What all explanations of one Explainer share.

    model: the file's name. size: (H,W) of the model's input. preset_notes: doubts about the preset; array_notes: makes
    those about an image that came preprocessed. turned_boxes: whether the last number of a detector's box is the angle
    by which it is turned. labelled: whether names of the classes are known.
    """

    model: str
    model_sha256: str
    preset: Preset
    preset_origin: Origin
    size: tuple[int, ...]
    size_origin: Origin
    method: Method
    preset_notes: tuple[Note, ...] = ()
    array_notes: Callable[[Image], tuple[Note, ...]] = lambda image: ()
    turned_boxes: bool = False
    labelled: bool = False

    @cached_property
    def changed(self) -> tuple[str, ...]:
        """Names of the method's options that differ from the defaults."""
        return changed_options(self.method)


def saliencies(
    info: ExplainerInfo, outcomes: Sequence[Outcome], request: BoundRequest, seconds: float
) -> list[Saliency]:
    """One Saliency per target, each with its provenance. seconds: time that the picture took."""
    scores, model_input = request.probe.originals[info.method.score], request.forward.model_input
    picture = model_input.kept()
    return [
        Saliency(
            outcome.map, outcome.raw, target, float(score), model_input.placement,
            _provenance(info, outcome, request, notes, seconds), outcome.finish, picture,
        )
        for outcome, target, score, notes in zip(
            outcomes, request.targets, scores, request.target_notes, strict=True
        )
    ]  # fmt: skip


def _provenance(
    info: ExplainerInfo, outcome: Outcome, request: BoundRequest, target_notes: Sequence[Note], seconds: float
) -> Provenance:
    forward, count, method = request.forward, request.probe.count, info.method
    opened, model_input, scored = forward.runner.opened, forward.model_input, outcome.channels
    total = forward.features.shape[0]
    return Provenance(
        versions=versions(),
        model=info.model,
        model_sha256=info.model_sha256,
        image=model_input.name,
        layer=opened.anatomy.features.tensor,
        layer_reason=opened.anatomy.features.reason,
        logits=opened.anatomy.logits.tensor,
        activation=opened.anatomy.logits.activation,
        preset=info.preset,
        preset_origin=info.preset_origin if not model_input.is_prepared else PREPROCESSED,
        size_origin=info.size_origin,
        fill=method.perturb.name,
        method=method.name,
        options=method.options,
        changed=info.changed,
        provider=opened.network.provider,
        provider_options=dict(opened.network.provider_options),
        batch=opened.network.batch,
        batch_mode=opened.batching.mode,
        features=tuple(forward.features.shape),
        channels=Channels(total, scored, outcome.estimated, outcome.left) if scored is not None else None,
        forwards=count.forwards + forward.forwards - forward.is_step,
        steps=count.steps,
        seconds=seconds,
        notes=(
            *model_input.notes,
            *preprocessing_notes(info, model_input),
            *notes_of(forward, info.size, info.size_origin, labelled=info.labelled),
            *request.notes,
            *forward.runner.notes,
            *target_notes,
            *outcome.notes,
        ),
        error=outcome.error,
        window=model_input.window,
        bands=model_input.bands,
        image_input=opened.anatomy.image.name,
        precision=str(opened.options.engine.precision) if opened.network.reduced else None,
    )


def preprocessing_notes(info: ExplainerInfo, model_input: ModelInput) -> tuple[Note, ...]:
    """Doubts about the numbers that the model was given."""
    return info.preset_notes if not model_input.is_prepared else info.array_notes(model_input.image)


def notes_of(
    forward: ForwardResult, size: tuple[int, ...], size_origin: Origin, *, labelled: bool = False
) -> tuple[Note, ...]:
    """Notes about choices that were assumed, and about outputs that contradict what was read from the graph."""
    opened, values = forward.runner.opened, forward.values
    notes = [Note(NoteCode.PROVIDER_SKIPPED, f"auto: {reason}") for reason in opened.network.skipped_providers]
    notes += opened.network.notes
    if size_origin.source is Source.ASSUMED:
        notes.append(Note(NoteCode.SIZE_ASSUMED, f"input size {'x'.join(map(str, size))} (HxW) {size_origin}"))
    notes += [*opened.notes, *(w for w in opened.anatomy.notes if w.code is not NoteCode.SIZE_ASSUMED)]
    if opened.batching.mode is BatchMode.LOOPED:
        notes.append(Note(NoteCode.LOOPED, f"one mask a forward pass: {opened.batching.reason}"))
    notes += head_notes(opened.anatomy.logits, values, labelled=labelled)
    return tuple(notes)
