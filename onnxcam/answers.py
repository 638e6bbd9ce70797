"""What a network answered for one picture, and what its numbers say against what was read from the graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Floats, Image
from onnxcam.differentiation import Differentiated
from onnxcam.intake import Prepared
from onnxcam.network import Arrays
from onnxcam.surgeon.anatomy import Kind

Head = tuple[Kind | None, str | None]
"""What is scored: the kind, and the output's name; None where the model decides."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One picture before one head: what all its targets share."""

    network: Differentiated
    prepared: Prepared
    fill: Image
    feeds: Arrays
    features: Floats
    values: npt.NDArray[np.float64]
    seconds: float
    """That the first pass took."""


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture that was read and run once as it is: what an explanation begins with."""

    prepared: Prepared
    answers: Mapping[Head, Answer]


def doubts(answer: Answer, size: tuple[int, ...], size_source: str) -> tuple[str, ...]:
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
