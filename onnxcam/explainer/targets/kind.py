"""What a kind of target is: TargetKind, the functions that one file of this package gives, and what they receive."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, TargetError
from onnxcam.network.scorer import probabilities
from onnxcam.network.selection import Detections
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits, Scale
from onnxcam.surgeon.graphs import tensor_names
from onnxcam.types import Placement

TARGETS, REGIONS, REFERENCES = tensor_names.TARGETS, tensor_names.REGIONS, tensor_names.REFERENCES
"""The inputs of a scoring graph that targets feed."""

Vector = npt.NDArray[np.float64]
Feeds = Mapping[str, npt.NDArray[Any]]
"""Arrays by the name of the scoring graph's input, with one entry per target along their first axis."""


class TargetValue(Protocol):
    """A target other than a class: a value that may name the output that it is about."""

    @property
    def output(self) -> str | None: ...


ClassLike = int | str | None
"""An index, a label, 'rank1' to 'rankN' ('top1' is 'rank1'), an index as text, or None for the prediction."""
TargetLike = ClassLike | TargetValue
"""A class; an Element, a Box, a Region or a Similarity; the target of a result; or a value of a kind from outside."""
Targets = Sequence[TargetLike] | npt.NDArray[np.integer[Any]]
"""Several targets; an array holds class indices."""


TABLES = (Kind.REGION, Kind.SEQUENCE)
"""Kinds with classes at every place or step."""
SIDES = ("negative", "positive")
"""What the classes 0 and 1 of a single output are."""


def _no_embedding(reference: Any) -> Vector:
    raise TargetError("this reference is no embedding, and nothing here can embed a picture")


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """The output of one head for the unmasked picture.

    values: (numbers,) the scored tensor, flattened. labels: the classes' names, None if unknown. size: (H,W) of the
    model's input. placement: where the input lies on the picture, None for a preprocessed image. embed: returns the
    embedding (numbers,) of a reference picture. detections: of a detector that chooses among candidates; values are
    the candidates' scores then. read_sides: returns (boxes,4) of a detector whose boxes are another output than the
    scores. turned_boxes: whether the last number of a detector's box is its angle. scales: of a detector's table.
    """

    logits: Logits
    values: Vector
    labels: Sequence[str] | None
    size: tuple[int, ...]
    placement: Placement | None
    embed: Callable[[Any], Vector] = _no_embedding
    detections: Detections | None = None
    read_sides: Callable[[], Vector] | None = None
    turned_boxes: bool = False
    scales: Sequence[Scale] = ()

    @cached_property
    def other_sides(self) -> Vector | None:
        """(boxes,4) of another output; None where there is none."""
        return self.read_sides() if self.read_sides is not None else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the scored tensor for one picture, without the batch."""
        return self.logits.shape[1:] if len(self.logits.shape) > 1 else self.logits.shape

    @cached_property
    def probabilities(self) -> Vector:
        """(..., classes) by the model's own activation; one line per place of a class map or step of a sequence."""
        table = self.values.reshape(-1, self.logits.classes) if self.logits.kind in TABLES else self.values
        return probabilities(table, self.logits)

    @property
    def sides(self) -> tuple[str, ...]:
        """NEGATIVE and POSITIVE where one number stands for two classes, else ()."""
        return SIDES if self.logits.two_sided else ()

    @property
    def decided(self) -> Vector:
        """(classes,) of a class vector, by which classes are ranked: a graph may decide by a threshold of its own."""
        logits = self.logits
        threshold = logits.threshold - 0.5 if logits.has_probabilities else logits.threshold
        return self.values - np.array([-1.0, 1.0]) * threshold if logits.two_sided else self.values

    def side(self, index: int) -> str | None:
        """Which side of a single output the class is; None where every class has a number of its own."""
        return self.sides[index] if self.sides else None

    def label(self, index: int) -> str | None:
        """The name of a class, None if unknown."""
        return self.labels[index] if self.labels is not None else None


@dataclass(frozen=True, eq=False)
class TargetKind:
    """One kind of target: a value that a person gives, and the functions that make it a number of the model's output.

    name: what the kind is called. value: the type, or types, of its values. head: which kind of output it is scored on.

    feed(targets, output): the feeds of the scoring graph for these values, one entry per target along the first axis.
    describe(targets, feeds, output): a ScoredTarget for each of them. Both raise TargetError.
    file_name(target): how a file name calls the target.
    of_class(label): the value that a plain class stands for on this head; None for a kind that has no part in that.
    again(scored, output): the value that explains a result's target once more; TargetError if the result lacks it.
    any_head: whether a value is scored on whatever the model offers, by of_class() of the kind that owns that head.
    option: the command line's option, without dashes; parse(words, labels): the values that its words and the labels
    of --target stand for; raises OptionError. None for a kind that the command line does not offer.
    """

    name: str
    value: type | tuple[type, ...]
    head: Kind
    feed: Callable[[Sequence[Any], HeadOutput], Feeds]
    describe: Callable[[Sequence[Any], Feeds, HeadOutput], Sequence[ScoredTarget]]
    file_name: Callable[[Any], str] = str
    of_class: Callable[[ClassLike], Any] | None = None
    again: Callable[[ScoredTarget, HeadOutput], Any] | None = None
    any_head: bool = False
    option: str | None = None
    parse: Callable[[Sequence[str], Sequence[str]], Sequence[Any]] | None = None

    @property
    def types(self) -> tuple[type, ...]:
        """The types of its values."""
        return self.value if isinstance(self.value, tuple) else (self.value,)


def literal(indices: Sequence[int], names: Sequence[str], output: HeadOutput) -> list[ScoredTarget]:
    """ScoredTargets of single numbers: probability and logit are both the number itself, unless it is a logit."""
    chosen = output.values[list(indices)]
    shown = probabilities(chosen, output.logits) if output.logits.activation == "sigmoid" else chosen
    return [
        ScoredTarget(i, name, float(p), float(value), output.logits.kind)
        for i, name, p, value in zip(indices, names, shown, chosen, strict=True)
    ]


def no_labels(labels: Sequence[str], why: str) -> None:
    """Raises OptionError if --target was given beside an option that says what is scored by itself."""
    if labels:
        raise OptionError(f"{why}, so it goes without --target")


def stem(path: str | Path) -> str:
    """A file's name without folder and suffix."""
    return Path(path).stem
