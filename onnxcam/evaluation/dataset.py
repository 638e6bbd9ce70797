"""A data set as values: `DataSet`, its pictures as `DataItem`, and the objects that are drawn in them.

onnxcam.evaluation.readers makes them from folders, manifests and the formats of annotations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxcam.metrics.metric import Box


@dataclass(frozen=True)
class LabelledBox:
    """One object. box: in pixels of the upright picture, 0 at the outer edge of the first pixel. label: None if the
    data names no class; a number is the model's class index, a text is looked up in the model's labels."""

    box: Box
    label: str | int | None = None


@dataclass(frozen=True)
class DataItem:
    """One picture of a data set.

    path: its file. key: its name in rows and reports, unique in the data set, with forward slashes, and the same
    wherever the data set lies. label: the class of the whole picture; None where the data names none. boxes: of its
    objects. group: which split or sub-folder it is of, to sort by; may be empty.
    """

    path: Path
    key: str
    label: str | int | None = None
    boxes: tuple[LabelledBox, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class DataSet:
    """Pictures in a fixed order.

    name: for reports. format: the name of its reader, such as 'coco'. items: in an order that is the same on every
    machine. classes: the names of the data set's own class numbers, where it has them. skipped: what was left out, and
    why (an entry without a picture, for example), by key. source: the arguments by which read_data() reads it again,
    with absolute paths as text; empty where it came from elsewhere.
    """

    name: str
    format: str
    items: tuple[DataItem, ...]
    classes: Mapping[int, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
