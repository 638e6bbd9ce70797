"""Region targets: a class over a part of a segmentation."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, TargetError
from onnxcam.explainer.targets.background import background_of_map, without
from onnxcam.explainer.targets.classes import class_of, is_best
from onnxcam.explainer.targets.classes import file_name as class_name
from onnxcam.explainer.targets.kind import REGIONS, TARGETS, ClassLike, Feeds, HeadOutput, TargetKind, Vector
from onnxcam.limits import brief, is_number
from onnxcam.outputs.outlines import bounds, contours
from onnxcam.outputs.saliency import MASKED, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import Placement

Where = tuple[float, float, float, float] | npt.NDArray[Any] | None
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


@dataclass(frozen=True, eq=False)
class Region:
    """A class over a part of a segmentation: the mean of its scores there.

    label: an index, a label or 'top1' (the class that is predicted most often; of a map of one class its positive side,
    if that is predicted anywhere). where: (left, top, right, bottom) in
    pixels of the picture (of the array, if one was given), or a mask of the picture's (height, width), non-zero inside;
    where the class is predicted if None. output: the output's name; needed only where the model has several. Raises
    TargetError for a `where` that is neither; explaining does so for a region without a cell of the class map.
    """

    label: int | str | None = None
    where: Where = None
    output: str | None = None

    def __post_init__(self) -> None:
        where = self.where
        if where is None:
            return
        if isinstance(where, np.ndarray) and where.dtype.kind in "fiub":
            if not np.isfinite(where).all():
                raise TargetError("a region's mask holds NaN or infinity; make it True inside and False outside")
            return
        if not isinstance(where, tuple | list) or len(where) != 4 or not all(map(_is_side, where)):
            raise TargetError(
                f"a region is (left, top, right, bottom) in pixels, or a mask as an array, not {brief(where)}"
            )
        object.__setattr__(self, "where", tuple(float(w) for w in where))


def _is_side(value: object) -> bool:
    """Whether this is a number; infinity is one, that of a region without end."""
    return isinstance(value, float | np.floating) or is_number(value)


def feed(targets: Sequence[Region], output: HeadOutput) -> Feeds:
    """The classes, and for each region the weights of the class map's places, which add up to one."""
    table, classes = output.values.reshape(-1, output.logits.classes), output.logits.classes
    two_sided, threshold = output.logits.two_sided, output.logits.threshold
    if output.logits.literal:
        return _quantity(targets, table[:, 0], output)
    predicted = (table[:, 1] > threshold).astype(np.int64) if two_sided else table.argmax(axis=1)
    votes = np.bincount(predicted, minlength=classes).astype(np.float64)
    if two_sided and votes[1]:  # the map is about its positive side, however small
        votes = np.array([0.0, 1.0])
    # The background is what is left, so it is not what the picture shows.
    ranked = without(votes, background_of_map(output.labels, votes).classes)
    indices, weights = [], []
    for target in targets:
        index = class_of(target.label, output, ranked)
        inside = (predicted == index) if target.where is None else _inside(target.where, output)
        if not inside.any():
            reason = (
                "the class is predicted nowhere"
                if target.where is None
                else "the region holds no cell of what the model sees (a crop may have cut it off)"
            )
            raise TargetError(f"{reason}, so there is nothing to score; give another class or region")
        indices.append(index)
        weights.append(inside / inside.sum())
    return {TARGETS: np.asarray(indices, np.int64), REGIONS: np.stack(weights)}


def _quantity(targets: Sequence[Region], values: Vector, output: HeadOutput) -> Feeds:
    """Regions of a map of a quantity: by default where it is above the graph's own threshold, else all of it."""
    above = values > output.logits.threshold
    weights = []
    for target in targets:
        if not is_best(target.label) and target.label != 0:
            raise TargetError(f"the output {output.logits.output!r} is a map of one quantity; leave the class out")
        inside = (
            (above if above.any() else np.ones_like(above)) if target.where is None else _inside(target.where, output)
        )
        if not inside.any():
            raise TargetError("the region holds no cell of what the model sees (a crop may have cut it off)")
        weights.append(inside / inside.sum())
    return {TARGETS: np.zeros(len(targets), np.int64), REGIONS: np.stack(weights)}


def describe(targets: Sequence[Region], feeds: Feeds, output: HeadOutput) -> list[ScoredTarget]:
    """Classes with the mean of their probability and logit over the region."""
    table = output.values.reshape(-1, output.logits.classes)
    scored = [
        ScoredTarget(
            i, output.label(i), float(weights @ output.probabilities[:, i]), float(weights @ table[:, i]), Kind.REGION,
            side=output.side(i), quantity=output.logits.literal,
        )
        for i, weights in zip(map(int, feeds[TARGETS]), feeds[REGIONS], strict=True)
    ]  # fmt: skip
    return [replace(one, **_place(target.where)) for one, target in zip(scored, targets, strict=True)]


def _place(where: Where) -> dict[str, Any]:
    """The fields of a ScoredTarget that say where a region is."""
    if not isinstance(where, np.ndarray):
        return {"where": where, "box": where}
    outline = contours(where != 0)
    return {"where": MASKED, "box": bounds(outline), "outline": outline}


def _inside(where: tuple[float, float, float, float] | npt.NDArray[Any], output: HeadOutput) -> npt.NDArray[np.bool_]:
    """(places,) whether the centre of a cell of the class map lies in the region of the picture."""
    if len(output.size) != 2:
        raise TargetError("a region is given on pictures only; leave it out to score where the class is predicted")
    placement, (height, width) = output.placement, output.size
    sides = output.logits.space[::-1] if output.logits.sideways else output.logits.space
    rows, columns = ((np.arange(n) + 0.5) / n for n in sides)
    left, top, right, bottom = placement.box if placement is not None else (0, 0, width, height)
    y, x = top + rows * (bottom - top), left + columns * (right - left)
    if isinstance(where, tuple):
        inside = np.outer((y >= where[1]) & (y < where[3]), (x >= where[0]) & (x < where[2]))
        return (inside.T if output.logits.sideways else inside).reshape(-1)
    picture = placement.picture if placement is not None else output.size
    if where.shape != tuple(picture):
        raise TargetError(
            f"a region's mask has the picture's shape {tuple(picture)} (height, width), not {where.shape}"
        )
    i, j = np.clip(y.astype(int), 0, picture[0] - 1), np.clip(x.astype(int), 0, picture[1] - 1)
    on_picture = np.outer((y >= 0) & (y < picture[0]), (x >= 0) & (x < picture[1]))
    inside = np.asarray((where[np.ix_(i, j)] != 0) & on_picture)
    return (inside.T if output.logits.sideways else inside).reshape(-1)


def mask_of(
    places: npt.NDArray[np.bool_], logits: Logits, size: tuple[int, ...], placement: Placement | None
) -> npt.NDArray[np.bool_]:
    """(height, width) of the picture, the pixels whose centres lie in these places of the class map.

    It is a mask for a Region, which then holds the same places wherever they are as large as a pixel. placement: None
    for an image that came preprocessed, whose mask has the size of the model's input.
    """
    rows, columns = logits.space[::-1] if logits.sideways else logits.space
    table = places.reshape(logits.space).T if logits.sideways else places.reshape(logits.space)
    picture = placement.picture if placement is not None else size
    left, top, right, bottom = placement.box if placement is not None else (0, 0, size[1], size[0])
    i = np.floor((np.arange(picture[0]) + 0.5 - top) / (bottom - top) * rows).astype(int)
    j = np.floor((np.arange(picture[1]) + 0.5 - left) / (right - left) * columns).astype(int)
    inside = np.outer((i >= 0) & (i < rows), (j >= 0) & (j < columns))
    return np.asarray(table[np.ix_(i.clip(0, rows - 1), j.clip(0, columns - 1))] & inside)


def parse(words: Sequence[str], labels: Sequence[str]) -> list[Region]:
    """One region for each label of --target, the class that is predicted most often if there is none."""
    return [Region(label, parse_region(text)) for text in words for label in labels or ["top1"]]


def parse_region(text: str) -> tuple[float, float, float, float] | npt.NDArray[Any]:
    """'left,top,right,bottom' in pixels, or the file of a mask: a picture or an .npy array. Raises OptionError."""
    parts = text.split(",")
    if len(parts) == 4 and all(re.fullmatch(rf"\s*{NUMBER}\s*", p) for p in parts):
        left, top, right, bottom = (float(p) for p in parts)
        if not (left < right and top < bottom):
            raise OptionError(f"region {text!r} is empty: it is left,top,right,bottom in pixels")
        return left, top, right, bottom
    if not os.path.exists(text):
        if Path(text).suffix:
            raise OptionError(f"region {text!r}: no such file")
        raise OptionError(f"region {text!r} is neither left,top,right,bottom in pixels nor a file with a mask")
    from onnxcam.inputs.loader import read_image

    mask = read_image(text)
    return np.asarray(mask.max(axis=2) > 127 if mask.ndim == 3 and mask.shape[2] == 3 else mask != 0)


def file_name(target: Region) -> str:
    """The class."""
    return class_name(target.label)


def of_class(label: ClassLike) -> Region:
    """The class where it is predicted."""
    return Region(label)


def again(scored: ScoredTarget, output: HeadOutput) -> Region:
    """The class over the same rectangle, or where it is predicted."""
    if isinstance(scored.where, str):
        raise TargetError("a result does not keep the mask of its region; give Region(label, mask) again")
    return Region(scored.index, scored.where, scored.output)


REGION = TargetKind(
    "region", Region, Kind.REGION, feed, describe, file_name,
    of_class=of_class, again=again, option="region", parse=parse,
)  # fmt: skip
