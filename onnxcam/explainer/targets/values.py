"""What to explain: a class by index, label or rank; or an element, a box, a region, a similarity."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, TargetError
from onnxcam.inputs.labels import find_class


@dataclass(frozen=True)
class Element:
    """One number of an output. index: one entry an axis after the batch, negative ones from the end."""

    index: tuple[int, ...]
    output: str | None = None

    def __post_init__(self) -> None:
        index = (self.index,) if isinstance(self.index, int | np.integer) else self.index
        if not isinstance(index, tuple | list) or not all(isinstance(i, int | np.integer) for i in index):
            raise TargetError(f"an element's index is a tuple of whole numbers such as (4, 17), not {self.index!r}")
        object.__setattr__(self, "index", tuple(int(i) for i in index))


@dataclass(frozen=True)
class Box:
    """One box of a detector, scored by its number for a class.

    box: its place in the output's table, or 'top1' to 'topN' among the boxes that non-maximum suppression leaves.
    label: a class's index or label; the box's best class if None.
    """

    box: int | str = "top1"
    label: int | str | None = None
    output: str | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """A class over a part of a segmentation: the mean of its scores there.

    label: an index, a label or 'top1' (the class that is predicted most often). where: (left, top, right, bottom) in
    pixels of the picture (of the array, if one was given), or a mask of the picture's (height, width); where the class
    is predicted if None.
    """

    label: int | str | None = None
    where: tuple[float, float, float, float] | npt.NDArray[Any] | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        where = self.where
        if where is None or isinstance(where, np.ndarray):
            return
        numbers = isinstance(where, tuple | list) and len(where) == 4
        if not numbers or not all(isinstance(w, int | float | np.number) for w in where):
            raise TargetError(
                f"a region is (left, top, right, bottom) in pixels, or a mask as an array, not {self.where!r}"
            )
        object.__setattr__(self, "where", tuple(float(w) for w in where))


@dataclass(frozen=True, eq=False)
class Similarity:
    """How near the picture's embedding is to a reference: the cosine.

    reference: the embedding itself, or a picture (a path, or an array as explain takes it) that is embedded first.
    """

    reference: str | os.PathLike[str] | npt.NDArray[Any]
    output: str | None = None


ClassLike = int | str | None
"""An index, a label, 'top1' to 'topN', an index as text, or None for the prediction."""
TargetLike = ClassLike | Element | Box | Region | Similarity

LONGEST = 1000
"""Characters of a target; no label is longer."""


def resolve(target: ClassLike, logits: npt.NDArray[np.float64], labels: Sequence[str] | None) -> int:
    """The class's index; raises TargetError with the range or the near labels."""
    classes = len(logits)
    if target is None:
        return int(logits.argmax())
    if isinstance(target, str):
        text = target.strip()
        if len(text) > LONGEST:
            raise TargetError(f"a target of {len(text)} characters is neither an index nor a label")
        rank = re.fullmatch(r"top-?(\d+)", text, re.IGNORECASE)
        if rank:
            return _ranked(int(rank[1]), logits)
        if not re.fullmatch(r"[+-]?\d+", text):
            return _labelled(text, labels, classes)
        target = int(text)
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise TargetError(f"a target is a class index, a label or 'top1', not {target!r}")
    if not 0 <= target < classes:
        raise TargetError(f"target {target} is out of range: the model has the classes 0 to {classes - 1}")
    return int(target)


def _ranked(rank: int, logits: npt.NDArray[np.float64]) -> int:
    if not 1 <= rank <= len(logits):
        raise TargetError(f"top{rank} does not exist: the model has {len(logits)} classes")
    return int(np.argsort(-logits, kind="stable")[rank - 1])


def _labelled(text: str, labels: Sequence[str] | None, classes: int) -> int:
    if labels is None:
        raise TargetError(
            f"no labels are known for this model, so {text!r} names no class; "
            f"give an index from 0 to {classes - 1}, 'top1', or --labels FILE"
        )
    return int(find_class(labels, text))


def is_sequence(targets: object) -> bool:
    """Whether the value holds several targets: a list, a tuple or an array with an axis."""
    if isinstance(targets, np.ndarray):
        return targets.ndim > 0
    return isinstance(targets, Sequence) and not isinstance(targets, str | bytes | bytearray)


def target_list(targets: "Targets | TargetLike") -> list[TargetLike]:
    """The targets as a list: the entries of a list, a tuple or an array of integers; anything else is one target.

    Raises OptionError for an empty list, TargetError for what is no target.
    """
    if isinstance(targets, np.ndarray):
        if targets.dtype.kind not in "iu" or targets.ndim > 1:
            raise TargetError(
                f"an array of targets holds class indices (integers) along one axis, not {targets.dtype} "
                f"{targets.shape}"
            )
        entries: list[Any] = list(targets.reshape(-1))
    else:
        entries = list(targets) if is_sequence(targets) else [targets]  # type: ignore[arg-type]
    if not entries:
        raise OptionError("no target given; leave the targets out to explain the prediction")
    for entry in entries:
        check_target(entry)
    return entries


def check_target(target: object) -> None:
    """Raises TargetError for what is no target."""
    if isinstance(target, bool) or not isinstance(target, KINDS):
        shown = repr(target) if len(repr(target)) <= SHOWN else f"{repr(target)[:SHOWN]}..."
        raise TargetError(
            f"a target is a class index, a label or 'top1', or an Element, Box, Region or Similarity, not {shown} "
            f"({type(target).__name__}); explain() takes several as a list"
        )


Targets = Sequence[TargetLike] | npt.NDArray[np.integer[Any]]
"""Several targets: an array holds class indices."""
SHOWN = 60
"""Characters of a wrong target that a message shows."""
KINDS = (int, np.integer, str, type(None), Element, Box, Region, Similarity)
