"""Finds the classes that mean no object, which are never 'top1': by name, by the graph, or by how often they win.

Boxes whose classes compete in a softmax need such a class, as most of them show nothing. SSD and its kin list it first,
DETR and its kin last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.explainer.targets.classes import is_rank
from onnxcam.explainer.targets.kind import HeadOutput, TargetLike, Vector
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import Note, NoteCode

NAMES = frozenset({"background", "bg", "no object", "noobject", "n/a", "???", "void", "unlabeled", "unlabelled"})
"""Names of no object, in lower case, without underscores and hyphens around and inside them."""
MOST = 0.5
"""Share of the boxes, or of the picture, from which a class without a name may be the background."""


@dataclass(frozen=True)
class Background:
    """classes: those that are never 'top1'. note: what was assumed, None if nothing was."""

    classes: tuple[int, ...] = ()
    note: Note | None = None


def named_background(labels: Sequence[str]) -> tuple[int, ...]:
    """The classes whose names mean no object; () where all do."""
    classes = [i for i, label in enumerate(labels) if _plain(label) in NAMES]
    return tuple(classes) if len(classes) < len(labels) else ()


def background_of_boxes(logits: Logits, labels: Sequence[str] | None, scores: Vector) -> Background:
    """The classes that mean no object in a table of boxes. scores: (boxes, classes), with those beyond the labels."""
    if labels is not None and (classes := named_background(labels)):
        return Background(classes)
    if logits.background is not None:
        return Background((logits.background,))
    if (
        logits.classes < 2
        or logits.exclusive is False
        or logits.objectness is not None
        or (labels is not None and len(labels) == logits.classes)
    ):
        return Background()
    wins = np.bincount(scores.argmax(axis=1), minlength=logits.classes) / max(len(scores), 1)
    last = logits.classes - 1
    if logits.exclusive:
        chosen = last if wins[last] > MOST else 0
        text = (
            f"the classes of a box compete in a softmax, so one of them means background; class {chosen} is taken for "
            f"it, which wins {wins[chosen]:.0%} of the boxes, and is never 'top1'; --target takes it by its number, "
            f"--labels FILE says which it is"
        )
        return Background((chosen,), Note(NoteCode.BACKGROUND, text))
    winner = int(wins.argmax())
    if winner not in (0, last) or wins[winner] <= MOST:
        return Background()
    text = f"class {winner} wins {wins[winner]:.0%} of the boxes, so it may mean background"
    if winner == last:
        return Background((last,), Note(NoteCode.BACKGROUND, f"{text}, and is never 'top1'"))
    return Background((), Note(NoteCode.BACKGROUND, f"{text}; name another class with --target"))


def background_of_map(labels: Sequence[str] | None, votes: Vector) -> Background:
    """The classes that mean no object in a class map. votes: (classes,) places where each is predicted.

    A picture that is nothing else is explained for its background.
    """
    classes = named_background(labels) if labels is not None else ()
    others = np.delete(votes, list(classes))
    if classes and others.any():
        return Background(classes)
    share, winner = float(votes.max() / max(votes.sum(), 1)), int(votes.argmax())
    if share <= MOST or len(votes) < 2 or (labels is not None and not classes):
        return Background()
    text = f"class {winner} covers {share:.0%} of the picture and may be its background; name another with --target"
    return Background((), Note(NoteCode.BACKGROUND, text))


def without(values: npt.NDArray[np.float64], classes: Sequence[int]) -> npt.NDArray[np.float64]:
    """The values (..., classes) with those of some classes below all others."""
    lowered = values.copy()
    lowered[..., list(classes)] = -np.inf
    return lowered


def is_ranked(target: TargetLike) -> bool:
    """Whether the class of a target is the model's choice: None, a rank, or a Box or Region without label."""
    label = target if target is None or isinstance(target, str) else getattr(target, "label", "")
    if isinstance(target, ScoredTarget):
        return False
    return label is None or is_rank(label)


def class_scores(output: HeadOutput) -> Vector:
    """(boxes, classes) of a table, before any objectness."""
    logits = output.logits
    table = output.values.reshape(logits.shape[1:])
    table = table if logits.boxes_first else table.T
    return table[:, logits.first_class : logits.first_class + logits.classes]


def background_notes(targets: Sequence[TargetLike], output: HeadOutput) -> tuple[Note, ...]:
    """A note where one of the targets was chosen among classes of which one may mean no object."""
    logits = output.logits
    if not any(map(is_ranked, targets)) or logits.kind not in (Kind.BOXES, Kind.REGION) or logits.two_sided:
        return ()
    if logits.kind is Kind.BOXES:
        note = background_of_boxes(logits, output.labels, class_scores(output)).note
    else:
        classes = logits.classes
        predicted = output.values.reshape(-1, classes).argmax(axis=1)
        note = background_of_map(output.labels, np.bincount(predicted, minlength=classes).astype(np.float64)).note
    return (note,) if note is not None else ()


def _plain(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").replace("-", " ").split())
