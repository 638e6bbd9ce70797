"""Box targets: one box of a detector, scored by its number for a class."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import TargetError
from onnxcam.explainer.targets.background import background_of_boxes, class_scores, without
from onnxcam.explainer.targets.box_places import corners_of, place_box, read_boxes
from onnxcam.explainer.targets.classes import class_index, is_rank, ranks_of_words
from onnxcam.explainer.targets.detected import boxes_of, describe_detected, no_such_box, place_of
from onnxcam.explainer.targets.kind import TARGETS, ClassLike, Feeds, HeadOutput, TargetKind, Vector, literal
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import Note

OVERLAP = 0.5
"""Intersection over union from which two boxes show one object."""


@dataclass(frozen=True)
class Box:
    """One box of a detector, scored by its number for a class.

    box: its place in the output's table (of a model with non-maximum suppression or TopK inside, in its list of
    detections), or 'rank1' (or 'top1') to 'rankN' among the boxes that non-maximum suppression keeps. label:
    a class index or label; the box's best class if None. output: the output's name; needed only where the model has
    several. Explaining raises TargetError for a box or a class that is not there.
    """

    box: int | str = "top1"
    label: int | str | None = None
    output: str | None = None


@dataclass(frozen=True)
class _Candidate(Box):
    """A row of the table itself, of which the model may make a detection or not."""


@dataclass(frozen=True)
class _Table:
    """The detector's table. scores: (boxes, classes). corners: (boxes, 4) by which boxes overlap, or None.

    ranked: the scores with the background's below all others.
    """

    scores: Vector
    corners: Vector | None
    ranked: Vector


def _table(output: HeadOutput) -> _Table:
    logits = output.logits
    table = output.values.reshape(logits.shape[1:])
    table = table if logits.boxes_first else table.T  # (boxes, numbers)
    # Columns beyond the labels hold something else, such as a mask's coefficients.
    last = logits.first_class + (len(output.labels) if output.labels is not None else logits.classes)
    # Boxes are ranked as detectors rank them: by the class score, times the objectness where there is one.
    scores = table[:, logits.first_class : last]
    if logits.objectness is not None:
        objects = table[:, logits.objectness, None]
        raw = logits.exclusive is None  # numbers before their sigmoid
        scores = _sigmoid(scores) * _sigmoid(objects) if raw else scores * objects
    background = background_of_boxes(logits, output.labels, class_scores(output)).classes
    ranked = without(scores, [c for c in background if c < scores.shape[1] > 1])
    if logits.sides is None:
        return _Table(scores, None, ranked)
    corners = read_boxes(output, ranked.max(axis=1)).corners
    sides = table[:, logits.sides : logits.sides + 4]
    return _Table(scores, corners if corners is not None else corners_of(sides), ranked)


def _sigmoid(numbers: Vector) -> Vector:
    return np.asarray(0.5 + 0.5 * np.tanh(numbers / 2))


def scores_of(output: HeadOutput) -> Vector:
    """(boxes, classes) the scores by which boxes are ranked."""
    return _table(output).scores


def box_note(output: HeadOutput) -> Note | None:
    """What is doubtful about where the boxes are."""
    if output.detections is not None:
        return boxes_of(output, output.detections).doubt
    return read_boxes(output, _table(output).ranked.max(axis=1)).doubt


def feed(targets: Sequence[Box], output: HeadOutput) -> Feeds:
    """Places in the flattened table."""
    table = _table(output)
    places = []
    for target in targets:
        if output.detections is not None and not isinstance(target, _Candidate):
            places.append(place_of(target.box, target.label, output, output.detections))
            continue
        label = target.label
        c = class_index(label, table.ranked.max(axis=0), output.labels) if label is not None else None
        i = _box_index(target.box, table.corners, table.ranked.max(axis=1) if c is None else table.scores[:, c])
        places.append(output.logits.place(i, int(table.ranked[i].argmax()) if c is None else c))
    return {TARGETS: np.asarray(places, np.int64)}


def describe(targets: Sequence[Box], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Boxes are called by their class and place, such as 'dog in box 17'."""
    places = [int(place) for place in feeds[TARGETS]]
    entries = [output.logits.entry(place) for place in places]
    if output.detections is not None:
        scored = describe_detected(places, output, output.detections)
    else:
        named = literal(places, [f"{output.label(c) or f'class {c}'} in box {i}" for i, c in entries], output)
        scored = [_numbered(one, i, c, output) for one, (i, c) in zip(named, entries, strict=True)]
    if all(one.box is not None for one in scored):
        return scored
    corners = read_boxes(output, _table(output).ranked.max(axis=1)).corners
    if corners is None:
        return scored
    return [
        place_box(one, corners[i], i, output) if one.box is None else one
        for one, (i, _) in zip(scored, entries, strict=True)
    ]


def _numbered(scored: ScoredTarget, box: int, label: int, output: HeadOutput) -> ScoredTarget:
    """The target with its box and class as numbers. label: below 0 for a column that is no class."""
    if label < 0:
        return replace(scored, box_number=box)
    return replace(scored, box_class=label, box_label=output.label(label), box_number=box)


def _box_index(box: int | str, corners: Vector | None, scores: Vector) -> int:
    """corners (boxes,4); None where the table holds scores alone, which are only ranked."""
    if is_rank(box):
        ranked = [int(i) for i in np.argsort(-scores, kind="stable")]
        kept = _without_overlaps(corners, scores) if corners is not None else ranked
        return kept[class_index(box, np.arange(len(kept), 0, -1.0), None)]
    try:
        return class_index(box, scores, None)
    except TargetError:
        raise no_such_box(box, len(scores), "boxes") from None


def suppressed(boxes: Vector, scores: Vector, most: int = 100) -> list[int]:
    """Indices of the best boxes, best first, without those that overlap a better one (non-maximum suppression).

    boxes: (boxes,4) as centre x, centre y, width, height.
    """
    return _without_overlaps(corners_of(boxes), scores, most)


def _without_overlaps(corners: Vector, scores: Vector, most: int = 100) -> list[int]:
    low, high = corners[:, :2], corners[:, 2:]
    area = np.prod(np.maximum(high - low, 0), axis=1)
    candidates = [int(i) for i in np.argsort(-scores, kind="stable")]
    kept: list[int] = []
    while candidates and len(kept) < most:
        best = candidates.pop(0)
        kept.append(best)
        rest = np.asarray(candidates, int)
        shared = np.prod(np.maximum(np.minimum(high[rest], high[best]) - np.maximum(low[rest], low[best]), 0), axis=1)
        union = area[rest] + area[best] - shared
        candidates = [i for i, s, u in zip(candidates, shared, union, strict=True) if not s > OVERLAP * u]
    return kept


def parse(words: Sequence[str], labels: Sequence[str]) -> list[Box]:
    """'top1', 'rank2' or a place in the table, or several with commas between them, for each label of --target."""
    parts = ranks_of_words([part.strip() for text in words for part in text.split(",")])
    boxes = [int(text) if re.fullmatch(r"\d+", text) else text for text in parts]
    return [Box(box, label) for box in boxes for label in (labels or (None,))]


def file_name(target: Box) -> str:
    """The box and the label, such as 'box-top1-dog'."""
    return f"box-{target.box}" + (f"-{target.label}" if target.label is not None else "")


def of_class(label: ClassLike) -> Box:
    """'rank2' and None are about boxes; anything else is a class, whose best box is meant."""
    if isinstance(label, str) and is_rank(label):
        return Box(label)
    return Box("top1", label)


def again(scored: ScoredTarget, output: HeadOutput) -> Box:
    """The box and the class at the place of a result's target."""
    if not 0 <= scored.index < output.values.size:
        raise TargetError(
            f"place {scored.index} of a result's target is not inside the output {output.logits.output!r}"
        )
    box, label = output.logits.entry(scored.index)
    return _Candidate(box, label, scored.output)


BOX = TargetKind(
    "box", Box, Kind.BOXES, feed, describe, file_name, of_class=of_class, again=again, option="box", parse=parse
)
