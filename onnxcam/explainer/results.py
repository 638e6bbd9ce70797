"""From what a network answered for one picture to what a person is told, doubts included."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.inputs.loader import ModelInput
from onnxcam.inputs.preprocess import Preset
from onnxcam.methods.blocks import Method
from onnxcam.methods.maps import Outcome
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.probe import PictureProbe
from onnxcam.network.scorer import Arrays
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Channels, Features, FeaturesOnDevice, Image, Provenance, Saliency, ScoredTarget
from onnxcam.versions import versions

Head = tuple[Kind | None, str | None]
"""What is scored: the kind, and the output's name; None where the model decides."""


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
    preset_source: str
    size: tuple[int, ...]
    size_source: str
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
        preset=asdict(origin.preset),
        preset_source=origin.preset_source if prepared.placement is not None else "preprocessed by the caller",
        fill=method.perturb.name,
        method=method.name,
        options=dict(method.options),
        provider=opened.network.provider,
        batch=opened.network.batch,
        batch_mode=opened.batching.mode,
        features=f"{total} maps of {'x'.join(map(str, answer.features.shape[1:]))}",
        channels=Channels(total, scored, outcome.estimated, outcome.left) if scored is not None else None,
        forwards=count.forwards + 1,
        steps=count.steps,
        seconds=seconds,
        notes=(*doubts(answer, origin.size, origin.size_source), *answer.network.notes, *outcome.notes),
        error=outcome.error,
    )


def doubts(answer: ForwardResult, size: tuple[int, ...], size_source: str) -> tuple[str, ...]:
    """What the numbers themselves say against what was read from the graph."""
    opened, z = answer.network.opened, answer.values
    logits = opened.anatomy.logits
    notes = [f"auto: {reason}" for reason in opened.network.passed_over]
    notes += opened.network.notes
    if size_source.startswith("assumed"):
        notes.append(f"input size {'x'.join(map(str, size))} (HxW) {size_source}")
    notes += [*opened.notes, *(w for w in opened.anatomy.warnings if "is assumed" not in w)]
    if opened.batching.mode == "looped":
        notes.append(f"one mask a forward pass: {opened.batching.reason}")
    if logits.kind is Kind.CLASSES and logits.activation == "none" and len(z) == 1:
        notes.append(
            "a single output without activation: its sigmoid is taken for the probability; "
            "if it is a quantity, explain the number itself (--index 0)"
        )
    plain = logits.kind is Kind.CLASSES and logits.activation == "none" and len(z) > 1
    if plain and z.min() >= 0 and abs(z.sum() - 1) < 1e-3:
        notes.append(
            "the outputs are probabilities already although no softmax was found in the graph: "
            "the probabilities shown are a softmax too much; use the paper variant, which scores the outputs"
        )
    return tuple(notes)
