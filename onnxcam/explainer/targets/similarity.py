"""Similarity targets: how near the picture's embedding is to a reference."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets.kind import (
    REFERENCES,
    ClassLike,
    Feeds,
    HeadOutput,
    TargetKind,
    Vector,
    no_labels,
    stem,
)
from onnxcam.inputs.loader import read_array
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind

LEAST = 1e-6
"""Length below which an embedding has no direction."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """How near the picture's embedding is to a reference: their cosine, in [-1,1].

    reference: an embedding (numbers,), an .npy file of one, or a picture (a path, or an array as explain() takes it)
    that is embedded first. output: the output's name; needed only where the model has several. Explaining raises
    TargetError for a reference of another length, and PictureError for a file that cannot be read.
    """

    reference: str | os.PathLike[str] | npt.NDArray[Any]
    output: str | None = None


def feed(targets: Sequence[Similarity], output: HeadOutput) -> Feeds:
    """The references as vectors of length one."""
    references = [_embedding(target.reference, output) for target in targets]
    return {REFERENCES: np.stack([_direction(r.astype(np.float64).reshape(-1), output) for r in references])}


def _embedding(reference: Any, output: HeadOutput) -> npt.NDArray[Any]:
    if isinstance(reference, str | os.PathLike) and os.fspath(reference).lower().endswith(".npy"):
        reference = read_array(reference)
    if isinstance(reference, np.ndarray) and reference.size == output.logits.classes and reference.ndim <= 2:
        if reference.dtype.kind not in "fiub":
            raise TargetError(f"a reference is made of numbers, not of {reference.dtype}")
        return reference
    return output.embed(reference)


def _direction(vector: Vector, output: HeadOutput) -> Vector:
    if vector.size != output.values.size or not np.isfinite(vector).all():
        raise TargetError(
            f"a reference is an embedding of {output.values.size} finite numbers, as the output "
            f"{output.logits.output!r} gives them; this one has {vector.size}"
        )
    length = float(np.linalg.norm(vector))
    if length < LEAST:
        raise TargetError("the embedding is zero, so it has no direction to compare with")
    return np.asarray(vector / length)


def describe(targets: Sequence[Similarity], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Similarities are called by the reference's file, or by its number if it is an array."""
    cosines = (feeds[REFERENCES] @ _direction(output.values, output)).tolist()
    names = [_name(target.reference, f"reference {i}") for i, target in enumerate(targets)]
    return [
        ScoredTarget(i, f"similarity to {name}", cosine, cosine, Kind.EMBEDDING)
        for i, (name, cosine) in enumerate(zip(names, cosines, strict=True))
    ]


def _name(reference: Any, otherwise: str) -> str:
    return os.path.basename(os.fspath(reference)) if isinstance(reference, str | os.PathLike) else otherwise


def parse(words: Sequence[str], labels: Sequence[str]) -> list[Similarity]:
    """A picture's file, or an .npy of an embedding."""
    no_labels(labels, "--reference compares embeddings")
    return [Similarity(text) for text in words]


def file_name(target: Similarity) -> str:
    """The reference's file without its suffix."""
    return stem(_name(target.reference, "reference"))


def of_class(label: ClassLike) -> Similarity:
    """No class is a reference: raises OptionError."""
    raise OptionError("an embedding is explained by its similarity to a reference; give one (--reference)")


def again(scored: ScoredTarget, output: HeadOutput) -> Similarity:
    """A result does not keep its reference: raises TargetError."""
    raise TargetError(f"a result does not keep its reference ({scored.name}); give Similarity(reference) again")


SIMILARITY = TargetKind(
    "similarity", Similarity, Kind.EMBEDDING, feed, describe, file_name,
    of_class=of_class, again=again, option="reference", parse=parse,
)  # fmt: skip
