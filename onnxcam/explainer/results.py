"""From what a network answered for one picture to what a person is told, doubts included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.loader import ModelInput
from onnxcam.inputs.presets import Preset
from onnxcam.methods import changed_options
from onnxcam.methods.blocks import Method
from onnxcam.methods.maps import Outcome
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.probe import PictureProbe
from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Arrays, Features, FeaturesOnDevice, Image, Note, NoteCode, Origin, Source
from onnxcam.versions import versions

Head = tuple[Kind | None, str | None]
"""What is scored: the kind, and the output's name; None where the model decides."""


PREPROCESSED = Origin(Source.GIVEN, "preprocessed by the caller")


@dataclass(frozen=True, eq=False)
class ForwardResult:
    """One picture before one head: what all its targets share."""

    network: GradientRunner
    prepared: ModelInput
    fill: Image
    feeds: Arrays
    features: Features | FeaturesOnDevice
    values: npt.NDArray[np.float64]
    seconds: float
    """That the first pass took."""


@dataclass(frozen=True, eq=False, repr=False)
class ForwardPass:
    """A picture that was read and run once as it is: what an explanation begins with."""

    prepared: ModelInput
    answers: Mapping[Head, ForwardResult]


@dataclass(frozen=True, eq=False)
class BoundRequest:
    """A picture with its targets, ready for a method."""

    answer: ForwardResult
    targets: Sequence[ScoredTarget]
    probe: PictureProbe


@dataclass(frozen=True, eq=False)
class ExplainerInfo:
    """What is the same for every explanation of an explainer."""

    model: str
    sha256: str
    preset: Preset
    preset_origin: Origin
    size: tuple[int, ...]
    size_origin: Origin
    method: Method


def saliencies(
    origin: ExplainerInfo, outcomes: Sequence[Outcome], asked: BoundRequest, seconds: float
) -> list[Saliency]:
    """One a target, each with its provenance. seconds: that the picture took."""
    scores, prepared = asked.probe.originals[origin.method.score], asked.answer.prepared
    return [
        Saliency(
            outcome.map, outcome.raw, target, float(score), prepared.placement,
            _provenance(origin, outcome, asked, seconds), outcome.finish,
        )
        for outcome, target, score in zip(outcomes, asked.targets, scores, strict=True)
    ]  # fmt: skip


def _provenance(origin: ExplainerInfo, outcome: Outcome, asked: BoundRequest, seconds: float) -> Provenance:
    answer, count, method = asked.answer, asked.probe.count, origin.method
    opened, prepared, scored, total = answer.network.opened, answer.prepared, outcome.channels, answer.features.shape[0]
    return Provenance(
        versions=versions(),
        model=origin.model,
        model_sha256=origin.sha256,
        image=prepared.name,
        layer=opened.anatomy.features.tensor,
        layer_reason=opened.anatomy.features.reason,
        logits=opened.anatomy.logits.tensor,
        activation=opened.anatomy.logits.activation,
        preset=origin.preset,
        preset_origin=origin.preset_origin if prepared.placement is not None else PREPROCESSED,
        size_origin=origin.size_origin,
        fill=method.perturb.name,
        method=method.name,
        options=dict(method.options),
        changed=changed_options(method),
        provider=opened.network.provider,
        batch=opened.network.batch,
        batch_mode=opened.batching.mode,
        features=tuple(answer.features.shape),
        channels=Channels(total, scored, outcome.estimated, outcome.left) if scored is not None else None,
        forwards=count.forwards + 1,
        steps=count.steps,
        seconds=seconds,
        notes=(*doubts(answer, origin.size, origin.size_origin), *answer.network.notes, *outcome.notes),
        error=outcome.error,
    )


def doubts(answer: ForwardResult, size: tuple[int, ...], size_origin: Origin) -> tuple[Note, ...]:
    """What the numbers themselves say against what was read from the graph."""
    opened, z = answer.network.opened, answer.values
    logits = opened.anatomy.logits
    notes = [Note(NoteCode.PROVIDER_SKIPPED, f"auto: {reason}") for reason in opened.network.skipped_providers]
    notes += opened.network.notes
    if size_origin.source is Source.ASSUMED:
        notes.append(Note(NoteCode.SIZE_ASSUMED, f"input size {'x'.join(map(str, size))} (HxW) {size_origin}"))
    notes += [*opened.notes, *(w for w in opened.anatomy.notes if w.code is not NoteCode.SIZE_ASSUMED)]
    if opened.batching.mode == "looped":
        notes.append(Note(NoteCode.LOOPED, f"one mask a forward pass: {opened.batching.reason}"))
    if logits.kind is Kind.CLASSES and logits.activation == "none" and len(z) == 1:
        text = (
            "a single output without activation: its sigmoid is taken for the probability; "
            "if it is a quantity, explain the number itself (--index 0)"
        )
        notes.append(Note(NoteCode.SINGLE_OUTPUT, text))
    plain = logits.kind is Kind.CLASSES and logits.activation == "none" and len(z) > 1
    if plain and z.min() >= 0 and abs(z.sum() - 1) < 1e-3:
        text = (
            "the outputs are probabilities already although no softmax was found in the graph: "
            "the probabilities shown are a softmax too much; use the paper variant, which scores the outputs"
        )
        notes.append(Note(NoteCode.ALREADY_PROBABILITIES, text))
    return tuple(notes)
