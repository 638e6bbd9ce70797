"""Element targets: one number of an output, such as an age or a keypoint's coordinate."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets.classes import is_best
from onnxcam.explainer.targets.kind import TARGETS, ClassLike, Feeds, HeadOutput, TargetKind, literal, no_labels
from onnxcam.limits import brief, is_whole
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind


@dataclass(frozen=True)
class Element:
    """One number of an output.

    index: one entry per axis after the batch, such as (4, 17); negative ones count from the end; an integer for an
    output with one axis; () for the only number of an output of one. output: the output's name; needed only where the
    model has several. Raises TargetError for an index that is not made of whole numbers.
    """

    index: tuple[int, ...]
    output: str | None = None

    def __post_init__(self) -> None:
        index = (self.index,) if is_whole(self.index) else self.index
        if not isinstance(index, tuple | list) or not all(map(is_whole, index)):
            raise TargetError(
                f"an element's index is a tuple of whole numbers such as (4, 17), not {brief(self.index)}"
            )
        object.__setattr__(self, "index", tuple(int(i) for i in index))


def feed(targets: Sequence[Element], output: HeadOutput) -> Feeds:
    """Places in the flattened output."""
    return {TARGETS: np.asarray([_place(target, output) for target in targets], np.int64)}


def _place(target: Element, output: HeadOutput) -> int:
    shape = output.shape
    if not target.index and output.values.size == 1:  # the only number of the output
        return 0
    if not target.index:
        places = ",".join("0" for _ in shape)
        raise TargetError(
            f"the {output.values.size} numbers of {output.logits.output!r}, of shape {list(shape)} for one picture, "
            f"are no scores of classes, so none is the best one; name one by its index, such as --index {places}"
        )
    index = tuple(i + d if i < 0 else i for i, d in zip(target.index, shape, strict=False))
    if len(target.index) != len(shape) or not all(0 <= i < d for i, d in zip(index, shape, strict=True)):
        raise TargetError(
            f"index {list(target.index)} is not inside the output {output.logits.output!r}, whose shape for one "
            f"picture is {list(shape)}"
        )
    return int(np.ravel_multi_index(index, shape))


def describe(targets: Sequence[Element], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Elements are called by their output and index, such as 'age[0]'."""
    names = [
        f"{output.logits.output}[{', '.join(map(str, target.index))}]" if target.index else output.logits.output
        for target in targets
    ]
    return literal([int(i) for i in feeds[TARGETS]], names, output)


def parse(words: Sequence[str], labels: Sequence[str]) -> list[Element]:
    """'4,17' or '[4, 17]': one number per axis after the batch."""
    no_labels(labels, "--index names a number of the output")
    return [Element(parse_index(text)) for text in words]


def parse_index(text: str) -> tuple[int, ...]:
    """'4,17', also '[4, 17]'. Raises OptionError."""
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    if not all(re.fullmatch(r"\s*-?[0-9]{1,18}\s*", p) for p in parts):
        raise OptionError(f"index {text!r} is not a list of whole numbers such as 4,17")
    return tuple(int(p) for p in parts)


def file_name(target: Element) -> str:
    """The index, such as '4,17'."""
    return ",".join(map(str, target.index))


def of_class(label: ClassLike) -> Element:
    """An integer is the index of an output with one axis; None and 'top1' are the only number of an output of one."""
    if is_best(label):
        return Element(())
    if is_whole(label):
        return Element((int(label),))
    raise TargetError(f"an element of an output is named by its index, not by {label!r}; use --index, or Element(...)")


def again(scored: ScoredTarget, output: HeadOutput) -> Element:
    """The element at the place of a result's target."""
    if not 0 <= scored.index < output.values.size:
        raise TargetError(
            f"place {scored.index} of a result's target is not inside the output {output.logits.output!r}"
        )
    return Element(tuple(int(i) for i in np.unravel_index(scored.index, output.shape)), scored.output)


ELEMENT = TargetKind(
    "element", Element, Kind.ELEMENTS, feed, describe, file_name,
    of_class=of_class, again=again, option="index", parse=parse,
)  # fmt: skip
