"""A manifest: a table whose rows name pictures, with labels and boxes if it has them. Columns, in any order:

- picture (or path, image, file_name, filename, ...): relative to the manifest's folder, or to `images`; a manifest is
  the user's own list, so it may name absolute paths and lead out of its folder.
- label (or class, category, ...): a name, or the model's class index.
- boxes (or box, xyxy): left, top, right, bottom; xywh: left, top, width, height. A list of four numbers or of several
  boxes, in a text cell as '10 20 30 40; 50 60 70 80' or JSON; an object {"box": [...], "label": ...} has its own label.
- xmin, ymin, xmax, ymax (or x1 y1 x2 y2, or left top right bottom): one box a row; rows of one picture are joined.
- objects: {"bbox": [[left, top, width, height], ...], "categories": [...]}, as Hugging Face's folders of pictures have.
- group (or split).

Other columns are passed over. Boxes are in pixels of the upright picture. Text has a line `name label`, or `name`.
"""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.reader import GIVE_IMAGES, Annotated, Draft, Label, Reader, Source, only_boxes, portable
from onnxcam.evaluation.readers.tables import (
    LABEL,
    PICTURE,
    ROWS,
    column,
    label_value,
    misspelt,
    no_column,
    read_rows,
    text_of,
)
from onnxcam.evaluation.readers.upright import header_or_none
from onnxcam.files import first_bytes, parse_json, shown
from onnxcam.limits import brief, is_number
from onnxcam.metrics.metric import Box

BOXES = ("boxes", "box", "xyxy")
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
GROUP = ("group", "split")
KINDS = (PICTURE, LABEL, (*BOXES, "xywh", "bbox", "objects"), GROUP)
"""Names of the columns that are read beside CORNERS, by what they hold."""
IN_FOLDER = tuple(f"{stem}{ending}" for stem in ("manifest", "metadata") for ending in (".csv", ".jsonl", ".parquet"))
"""Names under which a manifest is looked for in a folder."""


@dataclass(frozen=True)
class _Entry:
    """One row: label of the whole row, and its boxes, each with where it is."""

    place: str
    label: Label | None
    boxes: tuple[Annotated, ...]
    group: str


def read(source: Source) -> DataSet:
    """Rows of one picture are joined; its label is that on which they agree, else none."""
    path = _file(source)
    base = source.images or path.parent
    draft = Draft(source, MANIFEST.name, way_out=f"correct the paths, or {GIVE_IMAGES}")
    entries: defaultdict[str, list[_Entry]] = defaultdict(list)
    files: dict[str, Path] = {}
    columns: set[str] = set()
    for line, row in read_rows(path):
        place = f"{shown(path)}, {'entry' if path.suffix.lower() in ('.json', '.parquet') else 'line'} {line}"
        if not row.keys() <= columns:
            for name, right in _slips(row).items():
                if name not in columns:
                    draft.skip(f"column {name}", f"{shown(path)}: this column is not read; did you mean {right}?")
            columns |= row.keys()
        key, file = _picture(row, base, place)
        if key not in files and not os.path.exists(file):
            draft.skip(key, f"{place}: {shown(file)}: no such file")
            continue
        files[key] = file
        entries[key].append(_entry(row, place))
    for key, file in files.items():
        draft.add(_item(key, file, entries[key], draft))
    return draft.finished()


def _slips(row: Mapping[str, Any]) -> Mapping[str, str]:
    """Of the columns that are not read, those that nearly have the name of one that the row lacks -> that name."""
    known = {name for kind in (*KINDS, *CORNERS) for name in kind}
    lacking = [name for kind in KINDS if column(row, kind) is None for name in kind]
    lacking += [name for corners in CORNERS if column(row, corners) for name in corners if name not in row]
    return misspelt([name for name in row if name not in known], lacking)


def _file(source: Source) -> Path:
    """The manifest itself; of a folder, the one that lies in it."""
    if not source.is_folder:
        return source.path
    names = [name for name in IN_FOLDER if name in source.listing.files]
    if len(names) != 1:
        what = " and ".join(names) or f"none of {', '.join(IN_FOLDER)}"
        raise DataError(f"{shown(source.path)}: holds {what}; name the manifest itself")
    return source.listing.files[names[0]]


def _picture(row: Mapping[str, Any], base: Path, place: str) -> tuple[str, Path]:
    """(key, file). The key of a relative path is that path; an absolute one is its own key."""
    name = column(row, PICTURE)
    if name is None:
        raise no_column(place, list(row), PICTURE)
    text = text_of(row[name], place, name)
    if "\0" in text:
        raise DataError(f"{place}: the name {brief(text)} holds a null character; correct it")
    literal = base / text  # an absolute path is itself
    if "\\" in text and not os.path.exists(literal):  # of Windows
        literal = base / text.replace("\\", "/")
    return portable(text), literal


def _entry(row: Mapping[str, Any], place: str) -> _Entry:
    name = column(row, LABEL)
    label = None if name is None or row[name] in (None, "") else label_value(row[name], place)
    boxes = tuple(Annotated(place, label if inner is None else inner, box) for box, inner in _boxes_of_row(row, place))
    group = column(row, GROUP)
    return _Entry(place, label, boxes, str(row[group] or "") if group else "")


def _item(key: str, file: Path, entries: Sequence[_Entry], draft: Draft) -> DataItem:
    bare = next((entry for entry in entries if not entry.boxes), None)
    if len(entries) > 1 and bare is not None:
        other = next(entry for entry in entries if entry is not bare)
        raise DataError(
            f"{bare.place}: {key} is named twice ({other.place}); only rows with boxes are joined: remove one"
        )
    labels = {entry.label for entry in entries}
    label = labels.pop() if len(labels) == 1 else None
    objects = [one for entry in entries for one in entry.boxes]
    boxes = only_boxes(draft, key, objects, header_or_none(file) if objects else None)
    return DataItem(file, key, label, boxes, entries[0].group)


def _boxes_of_row(row: Mapping[str, Any], place: str) -> Iterator[tuple[Box, Label | None]]:
    """(box, its own label) of every column that holds boxes. Raises DataError for a box that is none."""
    for names in CORNERS:
        absent = [name for name in names if name not in row]
        if len(absent) == 1:
            others = ", ".join(name for name in names if name not in absent)
            near = "".join(f"rename {name} to " for name, right in _slips(row).items() if right == absent[0])
            raise DataError(f"{place}: columns {others}, but none is called {absent[0]}; {near or 'add '}{absent[0]}")
        if not absent and not all(row[name] in (None, "") for name in names):
            cells = [row[name] for name in names]
            yield box_of(cells, place, written=", ".join(map(str, cells))), None
    if (name := column(row, BOXES)) is not None:
        yield from _boxes_in(row[name], place, sized=False)
    if "xywh" in row:
        yield from _boxes_in(row["xywh"], place, sized=True)
    if "bbox" in row:
        raise DataError(
            f"{place}: a column bbox may hold corners or sizes; call it xyxy (left, top, right, bottom) or xywh "
            f"(left, top, width, height)"
        )
    if row.get("objects") not in (None, ""):
        yield from _objects(row["objects"], place)


def _objects(value: object, place: str) -> Iterator[tuple[Box, Label | None]]:
    value = _json(value, place) if isinstance(value, str) else value
    boxes = value.get("bbox") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(boxes, list):
        raise DataError(f'{place}: objects is {brief(value)}, not {{"bbox": [[left, top, width, height], ...]}}')
    labels = next((value[name] for name in ("categories", "category", "label", "labels") if name in value), None)
    labels = [None] * len(boxes) if labels is None else labels
    if not isinstance(labels, list) or len(labels) != len(boxes):
        raise DataError(f"{place}: {len(boxes)} boxes, but their categories are {brief(labels)}; give each its own")
    for box, label in zip(boxes, labels, strict=True):
        yield box_of(box, place, sized=True), None if label is None else label_value(label, place)


def _boxes_in(value: object, place: str, *, sized: bool) -> Iterator[tuple[Box, Label | None]]:
    """(box, its own label) of a cell."""
    if isinstance(value, str) and value.strip()[:1] not in ("[", "{"):
        for part in filter(str.strip, re.split(r"[;|]", value)):  # of '10 20 30 40; 50 60 70 80'
            yield box_of(re.split(r"[\s,]+", part.strip()), place, sized=sized, written=value.strip()), None
        return
    if isinstance(value, str):
        value = _json(value, place)
    if value is None or (isinstance(value, list) and not value):
        return
    if isinstance(value, list) and not isinstance(value[0], list | dict):
        value = [value]
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            yield box_of(one, place, sized=sized), None
            continue
        name = next((name for name in ("box", "xyxy", "xywh") if name in one), None)
        if name is None:
            raise DataError(
                f'{place}: {brief(one)} has no box; write {{"box": [left, top, right, bottom], "label": ...}}'
            )
        label = one.get("label")
        box = box_of(one[name], place, sized=name == "xywh" or (name == "box" and sized))
        yield box, None if label is None else label_value(label, place)


def _json(text: str, place: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{place}: the boxes {brief(text)}: {error}; mend them") from None


def box_of(values: object, place: str, *, sized: bool = False, written: str | None = None) -> Box:
    """(left, top, right, bottom) of four numbers, or of their texts. sized: they are left, top, width and height.

    written: the text that they come from, for messages. Raises DataError for anything else, and for exchanged sides.
    """
    text = brief(values if written is None else written)
    order = "left, top, width, height" if sized else "left, top, right, bottom"
    numbers = [_number(value) for value in values] if isinstance(values, list | tuple) else []
    if len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
        raise DataError(f"{place}: the box {text} is not four numbers: {order}")
    left, top, right, bottom = numbers
    if sized:
        right, bottom = left + right, top + bottom
    if right < left or bottom < top:
        raise DataError(f"{place}: the box {text} ends before it starts; the order is {order}")
    return left, top, right, bottom


def _number(value: object) -> float:
    """NaN for what is none."""
    try:
        return float(value) if isinstance(value, str) or is_number(value) else math.nan  # type: ignore[arg-type]
    except ValueError:
        return math.nan


def recognises(source: Source) -> bool:
    """A table that is no other format's; in a folder, one that is called manifest or metadata."""
    if source.is_folder:
        return any(name in source.listing.files for name in IN_FOLDER)
    start = first_bytes(source.path, 64).removeprefix(b"\xef\xbb\xbf").lstrip()
    return source.suffix in ROWS and (source.suffix != ".json" or start.startswith(b"["))


MANIFEST = Reader(
    "manifest",
    "a CSV, TSV, JSON, JSONL or Parquet table with a column picture, and label and boxes, or lines `name label`",
    recognises,
    read,
    frozenset({"images"}),
)
