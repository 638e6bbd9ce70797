"""The words of a caption: what was explained, what the model gave it, and how the map was made."""

from dataclasses import dataclass

from onnxcam.outputs.saliency import Provenance, Saliency, ScoredTarget
from onnxcam.types import NoteCode, Source

SELF_EXPLAINING = ("convention", "variant")
"""Options whose value needs no name beside it in a caption."""
LIMITS = ("budget", "tolerance")
"""Options that end an estimate; the caption shows the error that was reached instead."""


@dataclass(frozen=True)
class Caption:
    """The two lines under an overlay. The record holds them too, whether they are drawn or not."""

    title: str
    detail: str


def caption(saliency: Saliency) -> Caption:
    """The target's name, and below it its score, the method, and a preset that is only assumed."""
    provenance, score = saliency.provenance, cautious_score(saliency)
    assumed = [f"{provenance.preset.name} assumed"] if provenance.preset_origin.source is Source.ASSUMED else []
    doubtful = ["array perhaps not preprocessed"] if is_doubtful_array(saliency) else []
    return Caption(saliency.target.name, " · ".join([score, *_method_words(provenance), *assumed, *doubtful]))


def is_doubtful_array(saliency: Saliency) -> bool:
    """Whether an array was taken as it is although its numbers are those of a picture."""
    came_preprocessed = saliency.placement is None
    return came_preprocessed and any(note.code is NoteCode.VALUE_RANGE for note in saliency.provenance.notes)


def _method_words(provenance: Provenance) -> list[str]:
    """The method and what differs from its defaults: that changes the meaning of the picture."""
    differing = {name: provenance.options[name] for name in provenance.changed if name != "fill"}
    if provenance.error is not None:
        differing = {k: v for k, v in differing.items() if k not in LIMITS} | {"map error": _error(provenance.error)}
    words = [str(value) if name in SELF_EXPLAINING else f"{name} {value}" for name, value in differing.items()]
    return [provenance.method, *words, *([provenance.fill] if "fill" in provenance.changed else [])]


def _error(error: float) -> str:
    return f"{error:.3f}" if error >= 0.001 else f"{error:.1g}"


def target_text(target: ScoredTarget) -> str:
    """The target and its score, for the label of its box."""
    return f"{target.name}: {shown_score(target)}"


def shown_score(target: ScoredTarget) -> str:
    """What the model gave the target: a probability in percent, or the number itself."""
    return percent(target.probability) if target.is_probability else f"{target.logit:.3g}"


def cautious_score(saliency: Saliency) -> str:
    """shown_score() of the target, as 'only 0.1%' where the model hardly sees what is explained."""
    score = shown_score(saliency.target)
    return f"only {score}" if any(n.code is NoteCode.LOW_SCORE for n in saliency.provenance.notes) else score


def percent(probability: float) -> str:
    """A probability with one decimal, never rounded to 0% or 100% unless it is exactly that."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"
