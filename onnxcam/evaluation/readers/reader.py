"""What a reader of a data set is: `Reader`, a line of the table in registry.py, `Source`, what it reads, and `Draft`,
in which it gathers the pictures.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from onnxcam.errors import DataError, OptionError
from onnxcam.evaluation.dataset import DataItem, DataSet, LabelledBox
from onnxcam.evaluation.readers.listing import Listing, is_folder, key_of, natural
from onnxcam.evaluation.readers.upright import Size, header_or_none, upright_boxes
from onnxcam.files import shown
from onnxcam.inputs.images import Header
from onnxcam.metrics.metric import Box

Label = str | int
ROUNDING = 1.0
"""Pixels by which a box may reach beyond its picture: programs round, and count from 0 or 1."""
FLAGS = {
    "labels": "--data-labels",
    "images": "--pictures",
    "classes": "--classes",
    "split": "--split",
    "crowds": "--crowds",
    "format": "--format",
}
"""Options of read_data(), as `onnxcam evaluate` has them."""
GIVE_IMAGES = "give the folder of the pictures: --pictures FOLDER (images= in Python)"
MISTAKES = "are corners and xywh (left, top, width, height) exchanged, or was the picture resized?"


@dataclass(frozen=True, eq=False)
class Source:
    """Where a data set lies. path: a file or a folder. The other fields are the options of read_data()."""

    path: Path
    labels: Path | None = None
    images: Path | None = None
    classes: Path | None = None
    split: str | None = None
    crowds: bool = False

    @cached_property
    def is_folder(self) -> bool:
        return is_folder(self.path)

    @cached_property
    def listing(self) -> Listing:
        """The files of the folder; of a file, those beside it and below."""
        return Listing.of(self.path if self.is_folder else self.path.parent)

    @cached_property
    def pictures(self) -> Listing:
        """The files of `images`, where that is given, else the listing."""
        return self.listing if self.images is None else Listing.of(self.images)

    @property
    def name(self) -> str:
        """Of the data set, for reports."""
        return self.path.stem if not self.is_folder else self.path.resolve().name

    @property
    def suffix(self) -> str:
        """The ending of a file in small letters; empty for a folder."""
        return "" if self.is_folder else self.path.suffix.lower()


@dataclass(frozen=True)
class Reader:
    """A format. about: what it looks like, for lists of formats. recognises: whether a source is of it, by content.

    options: those of read_data() that it reads; others are refused. files: whether it reads a file too.
    """

    name: str
    about: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], DataSet]
    options: frozenset[str] = frozenset()
    files: bool = True


@dataclass(eq=False)
class Draft:
    """Pictures of a data set while it is read, by key; `finished` makes the DataSet.

    way_out: what to do where no picture is there, for that error.
    """

    source: Source
    form: str
    classes: Mapping[int, str] = field(default_factory=dict)
    items: dict[str, DataItem] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    way_out: str = ""

    def add(self, item: DataItem, place: str = "") -> None:
        """place: where the data names the picture, as messages say it. Raises DataError for a key that is there."""
        if item.key in self.items:
            first = f" ({self.places[item.key]})" if self.places[item.key] else ""
            where = f"{place}: " if place else ""
            raise DataError(f"{where}{item.key} is named before{first}; a picture counts once: remove one of the two")
        self.items[item.key] = item
        self.places[item.key] = place

    def skip(self, key: str, why: str) -> None:
        """Leaves out a picture, or an annotation. A second reason for the same key is kept beside the first."""
        self.reasons[key] += 1
        self.skipped[key if self.reasons[key] == 1 else f"{key} ({self.reasons[key]})"] = why

    def finished(self) -> DataSet:
        """The data set in natural order. Raises DataError for one without a picture."""
        if not self.items:
            why = next((f": {key}: {text}" for key, text in self.skipped.items()), "")
            way = f"; {self.way_out}" if self.way_out else ""
            more = f"; {len(self.skipped) - 1:,} more were left out" if len(self.skipped) > 1 else ""
            raise DataError(
                f"{shown(self.source.path)}: no picture in this data set (read as {self.form}){why}{more}{way}"
            )
        order = sorted(self.items, key=natural)
        items = tuple(self.items[key] for key in order)
        return DataSet(self.source.name, self.form, items, self.classes, self.skipped)


def label_of(text: str) -> Label:
    """A label as data name it: a whole number without leading zeros is the model's class index, all else a name."""
    plain = text.strip()
    is_number = plain.isascii() and plain.isdigit() and (plain == "0" or plain[0] != "0") and len(plain) < 10
    return int(plain) if is_number else plain


def is_empty(box: Sequence[float]) -> bool:
    """Whether a box (left, top, right, bottom) has no area."""
    return not (box[2] > box[0] and box[3] > box[1])


@dataclass(frozen=True)
class Annotated:
    """One object as its data have it. place: where it is annotated, for messages."""

    place: str
    label: Label | None
    box: Box


def add_annotated(
    draft: Draft, item: DataItem, objects: Sequence[Annotated], size: Size | None = None, place: str = ""
) -> None:
    """Adds a picture with its boxes, made upright; leaves it out where they were made on a picture of another size.

    size: (width, height) as the annotation records it. place: where the data name the picture.
    """
    boxes: list[Box] | str = [one.box for one in objects]
    header = header_or_none(item.path) if objects else None
    if header is not None:
        boxes = upright_boxes([one.box for one in objects], header, size)
    if isinstance(boxes, str):
        draft.skip(item.key, f"{place}: {boxes}")
        return
    upright = [replace(one, box=box) for one, box in zip(objects, boxes, strict=True)]
    draft.add(replace(item, boxes=only_boxes(draft, item.key, upright, header)), place)


def only_boxes(draft: Draft, key: str, objects: Sequence[Annotated], header: Header | None) -> tuple[LabelledBox, ...]:
    """The boxes that have an area in the picture. What is left out, a box or its part beyond the picture, is in
    `skipped` with the reason.

    header: of the picture; None where it cannot be read, so that its size is unknown.
    """
    kept = []
    for one in objects:
        box, why = _inside(one.box, header)
        if why is not None:
            draft.skip(f"{key}: {one.place}", f"the box ({', '.join(f'{value:g}' for value in one.box)}) {why}")
        if box is not None:
            kept.append(LabelledBox(box, one.label))
    return tuple(kept)


def _inside(box: Box, header: Header | None) -> tuple[Box | None, str | None]:
    """(what is left of a box, why something was left out). A box that programs rounded stays as it is."""
    if is_empty(box):
        return None, "has no area"
    if header is None:
        return box, None
    height, width = header.upright
    left, top, right, bottom = box
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if is_empty(inside):
        return None, f"lies outside of the picture, which has {width} x {height} pixels; {MISTAKES}"
    if max(abs(after - before) for after, before in zip(inside, box, strict=True)) <= ROUNDING:
        return box, None
    return inside, f"reaches beyond the picture, which has {width} x {height} pixels: that part was cut off; {MISTAKES}"


def one_picture(keys: Sequence[str], name: str, place: str) -> str | None:
    """The key of the picture that a name means, None if there is none. Raises DataError if it means several."""
    if len(keys) > 1:
        shown_keys = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
        raise DataError(f"{place}: {name!r} may mean {len(keys)} pictures ({shown_keys}); name its folder too")
    return keys[0] if keys else None


def inner_name(name: str, place: str, way_out: str) -> str:
    """A relative path that an annotation names, as a key. Raises DataError for one that leads out of its folder."""
    key = portable(name)
    if not key or key.startswith("../") or key == ".." or is_absolute(key):
        raise DataError(
            f"{place}: {name!r} leads out of the folder of the pictures, which only a manifest may; {way_out}"
        )
    return key


def portable(name: str) -> str:
    """A path as data sets have it, of any system, with forward slashes and without '.' and 'x/..'."""
    text = name.replace("\\", "/")
    return key_of(os.path.normpath(text)) if text.strip() else ""


def is_absolute(name: str) -> bool:
    """Whether a path is absolute on any system: from the root, or with a drive."""
    return name.startswith(("/", "\\")) or name[1:2] == ":"


def refuse(options: Sequence[str], reader: Reader) -> None:
    """Raises OptionError for options of read_data() that a reader does not read."""
    others = [name for name in options if name not in reader.options]
    if others:
        known = ", ".join(FLAGS[name] for name in sorted(reader.options))
        raise OptionError(
            f"the format {reader.name} does not read {FLAGS[others[0]]} ({others[0]}= in Python); it reads {known}; "
            f"leave it out, or give another format"
        )
