"""What the data says of a picture, as a model takes it: its class as a target, and the boxes of that class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxcam.errors import TargetError, near
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.explainer.targets.kind import SIDES
from onnxcam.inputs.labels import find_class
from onnxcam.limits import is_whole
from onnxcam.metrics.metric import Box

Label = str | int
PREDICTION = "explain the prediction (target prediction)"
SHOWN = 5
"""The most classes that a message names."""


def label_of(item: DataItem) -> Label:
    """The class of the picture: its own, else that of its boxes where they are all of one.

    Raises TargetError where the data names none, or several.
    """
    if item.label is not None:
        return item.label
    labels = list(dict.fromkeys(box.label for box in item.boxes if box.label is not None))
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise TargetError(
            f"the data names no class of the whole picture, and its boxes are of several ({_listed(labels)}); "
            f"{PREDICTION}"
        )
    raise TargetError(f"the data names no class of this picture; label it, or {PREDICTION}")


def model_class(label: Label, labels: Sequence[str] | None, classes: Mapping[int, str]) -> Label:
    """The label as a target of a model: of a model without labels, the data set's number of a class that it names.

    labels: the model's. classes: the data set's names by number. Raises TargetError for a name that neither has.
    """
    if labels is not None or not isinstance(label, str):
        return label
    number = number_of(label, classes)
    if number is not None:
        return number
    if label.casefold() in SIDES:  # of a model of one output
        return label
    numbered = f", and the data set numbers no class of this name ({near(label, classes.values())})" if classes else ""
    raise TargetError(
        f"the model has no labels, so {label!r} names no class of it{numbered}; give --labels FILE (or --labels "
        f"imagenet), or label the pictures with class numbers"
    )


def check_labels(dataset: DataSet) -> None:
    """Raises TargetError for a data set in which no picture has a class that could be explained, before any work."""
    reason = ""
    for item in dataset.items:
        try:
            label_of(item)
        except TargetError as error:
            reason = reason or f"{item.key}: {error}"
        else:
            return
    if any(item.boxes for item in dataset.items):
        raise TargetError(f"no picture of {dataset.name} can be explained by the data's label (target label); {reason}")
    ways = {
        "folder": "give --data-labels FILE (labels= in Python) or class sub-folders",
        "manifest": "add a column label",
    }
    way = ways.get(dataset.format, "give data with classes")
    left_out = next((f"; left out: {key}: {why}" for key, why in dataset.skipped.items()), "")
    raise TargetError(
        f"the target is the data's label, but {dataset.name} (read as {dataset.format}) has none of any picture; "
        f"{way}, or {PREDICTION}{left_out}"
    )


def number_of(name: Label, classes: Mapping[int, str]) -> int | None:
    """The data set's number of a class by its name; None where it has none of that name, or several."""
    numbers = [number for number, other in classes.items() if other == name]
    return numbers[0] if len(numbers) == 1 else None


@dataclass(frozen=True)
class TargetClass:
    """The class of what was explained, as boxes of the data are compared with it.

    number: the model's; None where what is scored is no class. name: for messages. requested: the data's label, where
    that was the target. labels: the model's. classes: the data set's names by number.
    """

    number: int | None
    name: str
    requested: Label | None
    labels: Sequence[str] | None
    classes: Mapping[int, str]

    def holds(self, label: Label) -> bool:
        """Whether a box's label is this class: the requested one, its number in the model, or a name of that."""
        if self.requested is not None and label == self.requested:
            return True
        if is_whole(label):
            return label == self.number
        if self.labels is None:
            return self.number is not None and number_of(label, self.classes) == self.number
        try:
            return find_class(self.labels, str(label)) == self.number
        except TargetError:  # the model has no such class
            return False


def boxes_of(item: DataItem, target: TargetClass) -> tuple[Box, ...] | str:
    """The boxes of the target's class, in pixels of the picture, or why there are none.

    Where no box has a label, all of them count.
    """
    if not item.boxes:
        return "the data has no box of this picture"
    labels = list(dict.fromkeys(box.label for box in item.boxes if box.label is not None))
    if not labels:
        return tuple(box.box for box in item.boxes)
    matching = tuple(box.box for box in item.boxes if box.label is not None and target.holds(box.label))
    return matching or f"no box of this picture is of {target.name!r}; they are of {_listed(labels)}"


def _listed(labels: Sequence[Label]) -> str:
    return ", ".join(map(str, labels[:SHOWN])) + (", ..." if len(labels) > SHOWN else "")
