"""Class targets: an index, a label, a rank ('rank2') or None for the prediction become the index of a class here.

The look-up of a label in the list of labels is inputs/labels.find_class."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnxcam.errors import TargetError
from onnxcam.explainer.targets.kind import TARGETS, ClassLike, Feeds, HeadOutput, TargetKind
from onnxcam.inputs.choices import fits
from onnxcam.inputs.labels import find_class, several
from onnxcam.limits import brief, is_whole
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.graphs.tensor_names import PREDICTION

T = TypeVar("T")

LONGEST = 1000
"""Characters of a target; no label is longer."""
RANK = re.compile(r"rank-?(\d+)|top-?0*([01])", re.IGNORECASE)
"""A place in the order of the scores: 'rank1' or 'top1' is the best. A label may begin with these words too."""
BEST = re.compile(r"top-?(\d+)", re.IGNORECASE)
"""The best ones: 'top5' is 'rank1' to 'rank5'."""
MOST = 10_000
"""Targets that one word may stand for."""


def class_index(target: ClassLike, scores: npt.NDArray[np.float64], labels: Sequence[str] | None) -> int:
    """The index of a class. scores: (classes,) by which 'top1' and None rank them.

    Raises TargetError, with the range of indices or the labels that come near.
    """
    if target is None:
        return int(scores.argmax())
    if isinstance(target, str):
        text = target.strip()
        if len(text) > LONGEST:
            raise TargetError(f"a target of {len(text)} characters is neither an index nor a label")
        if not text:
            raise TargetError("a target is empty; give an index, a label or 'top1'")
        if rank := RANK.fullmatch(text):
            return _of_rank(int(rank[1] or rank[2]), text, scores)
        if best := BEST.fullmatch(text):
            raise TargetError(
                f"{text} is the best {best[1]}, where one is expected; 'rank{best[1]}' is the last of these"
            )
        if not re.fullmatch(r"[+-]?\d+", text):
            return _of_label(text, labels, len(scores))
        target = int(text)
    if not is_whole(target):
        raise TargetError(f"a target is a class index, a label or 'top1', not {brief(target)}")
    if not 0 <= target < len(scores):
        raise TargetError(f"target {brief(target)} is out of range: the model has the classes 0 to {len(scores) - 1}")
    return int(target)


def class_names(labels: Sequence[str] | None, logits: Logits) -> Sequence[str] | None:
    """The names of the classes, of both sides where a single number has one label; None where they do not fit."""
    if labels is None or not fits(labels, logits):
        return None
    return (f"not {labels[0]}", labels[0]) if logits.two_sided and len(labels) == 1 else labels


def class_before_running(target: object, labels: Sequence[str] | None, classes: int) -> int | None:
    """The index of a class that is named without the model's scores, PREDICTION for the best one.

    None for what is no class, for the second best and so on, and for what class_index() refuses.
    """
    if isinstance(target, ScoredTarget):
        target = target.index if target.kind == Kind.CLASSES else target
    if is_best(target):
        return PREDICTION
    if is_rank(target) or not isinstance(target, int | np.integer | str):
        return None
    try:
        return class_index(target, np.zeros(classes), labels)  # type: ignore[arg-type]
    except TargetError:
        return None


def is_rank(target: object) -> bool:
    """Whether this is 'rank1' to 'rankN', or 'top1' to 'topN'."""
    return isinstance(target, str) and (RANK.fullmatch(target.strip()) or BEST.fullmatch(target.strip())) is not None


def is_best(target: object) -> bool:
    """Whether this is the best one: None, 'top1' or 'rank1'."""
    return target is None or (
        isinstance(target, str) and re.fullmatch(r"(top|rank)-?1", target.strip().lower()) is not None
    )


def ranks(target: T) -> list[T | str]:
    """'top5' as its five targets, 'rank1' to 'rank5'; anything else as it is. Raises TargetError for too many."""
    match = BEST.fullmatch(target.strip()) if isinstance(target, str) else None
    if match is None or RANK.fullmatch(match[0]):
        return [target]
    if len(match[1]) > len(str(MOST)) or int(match[1]) > MOST:
        raise TargetError(f"{brief(target)} is more than {MOST:,} targets; give fewer")
    return [f"rank{i + 1}" for i in range(int(match[1]))]


def ranks_of_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, each 'topN' as its N targets, each target once."""
    expanded = [rank for word in words for rank in ranks(word)]
    if len(expanded) > len(words):  # 'top1' is among the others by its place, too
        expanded = ["rank1" if is_best(word) else word for word in expanded]
    return list(dict.fromkeys(expanded))


def _of_rank(rank: int, text: str, scores: npt.NDArray[np.float64]) -> int:
    if rank == 0:
        raise TargetError(f"{text} does not exist: ranks count from 1, and the model has {len(scores)} classes")
    if rank > len(scores):
        raise TargetError(f"rank{rank} does not exist: the model has {len(scores)} classes")
    return int(np.argsort(-scores, kind="stable")[rank - 1])


def _of_label(text: str, labels: Sequence[str] | None, classes: int) -> int:
    if labels is None:
        raise TargetError(
            f"no labels are known for this model, so {text!r} names no class; "
            f"give an index from 0 to {classes - 1}, 'top1', or --labels FILE{several(text)}"
        )
    return int(find_class(labels, text))


def feed(targets: Sequence[ClassLike], output: HeadOutput) -> Feeds:
    """The class indices."""
    return {TARGETS: np.asarray([class_of(t, output, output.decided) for t in targets], np.int64)}


def class_of(target: ClassLike, output: HeadOutput, scores: npt.NDArray[np.float64]) -> int:
    """The index of a class of this output: as class_index() gives it, or by the side of a single output."""
    word = " ".join(target.casefold().split()) if isinstance(target, str) else None
    if word in output.sides and word not in (output.labels or ()):
        return output.sides.index(word)
    return class_index(target, scores, output.labels if output.labels is not None else output.sides or None)


def describe(targets: Sequence[Any], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Classes with their probability and logit on the unmasked picture."""
    indices = [int(i) for i in feeds[TARGETS]]
    return [
        ScoredTarget(
            i, output.label(i), float(output.probabilities[i]), float(output.values[i]), side=output.side(i)
        )
        for i in indices
    ]  # fmt: skip


def parse(words: Sequence[str], labels: Sequence[str]) -> list[ClassLike]:
    """The labels of --target; the prediction if there are none."""
    return [*labels] or ["top1"]


def file_name(target: ClassLike) -> str:
    """The label or the index as it was given."""
    return "top1" if target is None else str(target)


def _same(target: ClassLike) -> ClassLike:
    return target


def _again(scored: ScoredTarget, output: HeadOutput) -> int:
    return scored.index


CLASS = TargetKind(
    "class", (int, np.integer, str, type(None)), Kind.CLASSES, feed, describe, file_name,
    of_class=_same, again=_again, any_head=True, parse=parse,
)  # fmt: skip
