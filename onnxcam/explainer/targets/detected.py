"""Boxes of a detector that chooses its detections: a detection becomes the place of its candidate's score.

network/selection.py tells which candidates a picture's detections are. What is scored is a number of the table of
candidates, so that the same candidate is scored in every masked image.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from onnxcam.errors import TargetError
from onnxcam.explainer.targets.box_axes import rows_of_detections
from onnxcam.explainer.targets.box_places import InputBoxes, place_box, read_sides, with_x_first
from onnxcam.explainer.targets.classes import class_index, is_rank
from onnxcam.explainer.targets.kind import HeadOutput, literal
from onnxcam.network.selection import Detections
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.follow import Follow

TOLERANCE = 2e-2
"""Share of a score by which it may differ from its candidate's, as half precision does."""


def place_of(box: int | str, label: int | str | None, output: HeadOutput, detections: Detections) -> int:
    """The place in the flattened table of candidates of a detection's score.

    box: its place in the model's list, or 'top1' to 'topN' by score. label: a class: of 'topN' only its detections
    count, of a given box it is the class that is scored. Raises TargetError where there is no such detection.
    """
    if not len(detections):
        why = f"; {blank_inputs(detections)}" if detections.blank else ""
        raise TargetError(f"nothing was detected on this picture, so there is no detection to explain{why}")
    column = _column(label, output, detections) if label is not None else None
    if not is_rank(box):
        i = _detection(box, len(detections))
        place = int(detections.places[i])
        if column is None or place % output.logits.classes == column:
            return _checked(i, output, detections)
        if detections.follow is Follow.BEST:
            raise TargetError(
                f"detection {i} is of another class, and of a detector that proposes regions only the best box of each "
                f"class can be explained"
            )
        return place - place % output.logits.classes + column
    members = np.arange(len(detections))
    if column is not None:
        members = np.flatnonzero(detections.places % output.logits.classes == column)
    if column is not None and not len(members):
        if detections.every_row:
            return output.logits.place(int(_scores(output)[:, column].argmax()), column)
        raise TargetError(f"no {label!r} was detected on this picture; detected: {_listed(output, detections)}")
    ranked = members[np.argsort(-detections.scores[members], kind="stable")]
    return _checked(int(ranked[class_index(box, np.arange(len(ranked), 0, -1.0), None)]), output, detections)


def describe_detected(places: Sequence[int], output: HeadOutput, detections: Detections) -> list[ScoredTarget]:
    """A ScoredTarget for each place of the table of candidates, with its box where the model returns it."""
    scored = literal(places, [name_of(place, output, detections) for place in places], output)
    corners = boxes_of(output, detections).corners
    rows = detections.places // output.logits.classes
    described = []
    for one, place in zip(scored, places, strict=True):
        row, column = output.logits.entry(place)
        if detections.first_class is not None:
            index = column + detections.first_class
            one = replace(one, box_class=index, box_label=output.label(index))
        among = np.flatnonzero(detections.places == place)
        if not len(among) and detections.follow is not Follow.BEST:  # another class of the same candidate
            among = np.flatnonzero(rows == row)
        if len(among):
            number = int(among[detections.scores[among].argmax()])
            one = replace(one, box_number=number)
            one = place_box(one, corners[number], row, output) if corners is not None else one
        described.append(one)
    return described


def blank_inputs(detections: Detections) -> str:
    """What stands for inputs that were not given, and how to give them."""
    return (
        f"zeros stand for {', '.join(detections.blank)}, by which the model chooses its detections or scales their "
        f"boxes; give them with --input NAME=VALUE"
    )


def boxes_of(output: HeadOutput, detections: Detections) -> InputBoxes:
    """The boxes of the detections on the model's input, as the model returns them."""
    boxes = detections.boxes
    if boxes is None or output.turned_boxes:
        return InputBoxes(None)
    chosen = not detections.every_row
    sides, scores = np.asarray(boxes, np.float64), np.asarray(detections.scores, np.float64)
    upright, doubt = with_x_first(sides, rows_of_detections(output), output, detections.boxes_name, None)
    read = read_sides(upright, scores, output.size, what="the numbers of a detection", chosen=chosen)
    return read if doubt is None else replace(read, doubt=doubt)


def name_of(place: int, output: HeadOutput, detections: Detections) -> str:
    """Such as 'dog in detection 2', or 'dog in candidate 81' where no detection is of that candidate."""
    row, column = output.logits.entry(place)
    among = np.flatnonzero(detections.places == place)
    if len(among):
        where = f"detection {among[detections.scores[among].argmax()]}"
    else:
        where = "the best box" if detections.follow is Follow.BEST else f"candidate {row}"
    return f"{_name(column, output, detections)} in {where}"


def _name(column: int, output: HeadOutput, detections: Detections) -> str:
    if detections.first_class is None:
        return f"column {column}"
    index = column + detections.first_class
    return output.label(index) or f"class {index}"


def _column(label: int | str, output: HeadOutput, detections: Detections) -> int:
    """The column of a class in the table of candidates; of 'topN' by the best detection of each class."""
    first = detections.first_class
    if first is None:
        raise TargetError("which class is which column of the model's candidates is not known; leave out the class")
    best = np.full(output.logits.classes + first, -np.inf)
    np.maximum.at(best, detections.places % output.logits.classes + first, detections.scores)
    column = class_index(label, best, output.labels) - first
    if column < 0:
        raise TargetError(f"class {label!r} is the background, which is never detected")
    return column


def _detection(box: int | str, count: int) -> int:
    try:
        return class_index(box, np.zeros(count), None)
    except TargetError:
        raise no_such_box(box, count, "detections") from None


def no_such_box(box: int | str, count: int, what: str) -> TargetError:
    """The error for a box that is not there. count: the number of boxes. what: their name, such as 'detections'."""
    text = f"box {box!r} is none of the {what} 0 to {count - 1}, nor 'rank1', 'rank2', ... for the best ones"
    if isinstance(box, str) and not re.fullmatch(r"[+-]?\d+|", box.strip()):
        text += f"; of a class use --target {box.strip()[:40]} (without --box: its best box)"
    return TargetError(text)


def _checked(i: int, output: HeadOutput, detections: Detections) -> int:
    """The place of detection i. Raises TargetError where the table has another score there."""
    place, score = int(detections.places[i]), float(detections.scores[i])
    if place // output.logits.classes in detections.shared:
        raise TargetError(
            f"detection {i} is of a query whose cell another query was chosen from too, so its cell does not tell the "
            f"two apart; choose another detection"
        )
    if abs(output.values[place] - score) <= TOLERANCE * max(abs(score), 1e-3):
        return place
    if detections.follow is Follow.BEST:
        name = _name(place % output.logits.classes, output, detections)
        raise TargetError(
            f"detection {i} is not the best {name} on this picture, and of a detector that proposes regions only the "
            f"best box of each class can be explained; give the class"
        )
    raise TargetError(
        f"detection {i} has the score {score:.4g}, but its candidate {output.values[place]:.4g}, so it cannot be "
        f"followed; explain the export without selection"
    )


def _scores(output: HeadOutput) -> npt.NDArray[np.float64]:
    return output.values.reshape(output.logits.boxes, output.logits.classes)


def _listed(output: HeadOutput, detections: Detections, most: int = 5) -> str:
    """The best detections, such as 'dog 0.91, cat 0.34'."""
    best: Sequence[int] = np.argsort(-detections.scores, kind="stable")[:most].tolist()
    classes = output.logits.classes
    return ", ".join(
        f"{_name(int(detections.places[i]) % classes, output, detections)} {detections.scores[i]:.2g}" for i in best
    )
