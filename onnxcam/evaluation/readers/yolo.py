"""YOLO: a text file a picture, with a line `class centre-x centre-y width height` an object, as shares of the picture.

Lines of a polygon (segments, and oriented boxes of four corners) give the box around it; with a kpt_shape in data.yaml,
the points behind a box are passed over; so is one further number, a confidence. The shares are of the upright picture,
as Ultralytics trains on it; its size is read from the picture's header. Without names of the classes, a label is the
number of its class, which is the model's index.
"""

import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.data_yaml import DataYaml, class_names, is_data_yaml, read_data_yaml, yaml_in
from onnxcam.evaluation.readers.listing import Listing, natural
from onnxcam.evaluation.readers.reader import (
    GIVE_IMAGES,
    Annotated,
    Draft,
    Reader,
    Source,
    inner_name,
    only_boxes,
    portable,
)
from onnxcam.evaluation.readers.upright import header_or_none
from onnxcam.files import ANNOTATION, first_bytes, read_text, shown
from onnxcam.limits import brief
from onnxcam.metrics.metric import Box

NO_LABELS = frozenset("classes.txt labels.txt train.txt val.txt valid.txt test.txt readme.txt".split())
"""Text files that are no annotations."""
SLACK = 0.01
"""By which a centre or side may lie outside of 0 to 1: programs round."""


@dataclass(frozen=True)
class _Object:
    """shares: left, top, right, bottom as shares of the picture. place: the file and line."""

    place: str
    number: int
    shares: Box


def read(source: Source) -> DataSet:
    """Keys are relative to the folder, or to that of data.yaml. Pictures without a label file have no objects."""
    path = yaml_in(source)
    config = DataYaml() if path is None else read_data_yaml(path)
    draft = Draft(source, YOLO.name)
    draft.classes = class_names(source, config)
    used = set()
    for key, group in _chosen(source, config).items():
        name = next((name for name in _label_files(key) if name in source.listing.files), None)
        used.add(name)
        objects = () if name is None else tuple(_objects(source.listing.files[name], config.point_values))
        _add(draft, DataItem(source.pictures.pictures[key], key, group=group), objects)
    if source.split is None:
        for name in source.listing.with_suffix(".txt"):
            if (
                "labels" in name.split("/")[:-1]
                and name not in used
                and name.rpartition("/")[2].lower() not in NO_LABELS
            ):
                draft.skip(name, f"{shown(source.listing.files[name])}: no picture of this name")
    return draft.finished()


def _add(draft: Draft, item: DataItem, objects: tuple[_Object, ...]) -> None:
    header = header_or_none(item.path) if objects else None
    if header is None:
        draft.add(item)
        return
    height, width = header.upright
    annotated = []
    for one in objects:
        if draft.classes and one.number not in draft.classes:
            raise DataError(
                f"{one.place}: no name for the class {one.number}; the names are of {_range(draft.classes)}"
            )
        left, top, right, bottom = one.shares
        box = (left * width, top * height, right * width, bottom * height)
        annotated.append(Annotated(one.place, draft.classes.get(one.number, one.number), box))
    draft.add(DataItem(item.path, item.key, None, only_boxes(draft, item.key, annotated, header), item.group))


def _range(classes: Mapping[int, str]) -> str:
    return f"{min(classes)} to {max(classes)}"


def _chosen(source: Source, config: DataYaml) -> Mapping[str, str]:
    """Key of each picture -> its split. Of a picture in several splits, the first counts."""
    if source.images is None and config.splits:
        names = list(config.splits) if source.split is None else [source.split]
        if names[0] not in config.splits:
            raise DataError(f"{config.place}: no split {names[0]!r}; it has {', '.join(config.splits)}")
        chosen: dict[str, str] = {}
        for name in names:
            for place in config.splits[name]:
                for key in _pictures_of(place, name, config, source.listing):
                    chosen.setdefault(key, name)
        return dict(sorted(chosen.items(), key=lambda pair: natural(pair[0])))
    pictures = source.pictures.pictures
    in_images = [key for key in pictures if "images" in key.split("/")[:-1]]
    groups = {key: _group(key) for key in in_images or pictures}
    if source.split is None:
        return groups
    if source.split not in groups.values():
        known = ", ".join(sorted(set(groups.values()) - {""})) or "none"
        raise DataError(f"{shown(source.path)}: no pictures of the split {source.split!r}; its splits: {known}")
    return {key: group for key, group in groups.items() if group == source.split}


def _group(key: str) -> str:
    """'val' of images/val/a.jpg and of val/images/a.jpg."""
    return "/".join(part for part in key.split("/")[:-1] if part != "images")


def _pictures_of(place: str, split: str, config: DataYaml, listing: Listing) -> Iterator[str]:
    """Keys of the pictures in a folder, or in a list of pictures, that data.yaml names."""
    where = f"{config.place}: {split}"
    name = portable(os.path.join(config.path, place))
    if name.startswith("../") and name[3:] in listing.folders:  # as Roboflow writes it, and Ultralytics reads it
        name = name[3:]
    name = inner_name(name, where, f"remove it, or {GIVE_IMAGES}")
    if name in listing.files:
        yield from _listed(name, listing)
        return
    inside = [key for key in listing.pictures if name == "." or key.startswith(f"{name}/")]
    if not inside and name not in listing.folders:
        raise DataError(f"{where}: no pictures in {shown(listing.root / name)}; correct the path, or {GIVE_IMAGES}")
    yield from inside


def _listed(name: str, listing: Listing) -> Iterator[str]:
    """The pictures that a text file lists, relative to its folder. Those that are missing raise DataError."""
    path, folder = listing.files[name], name.rpartition("/")[0]
    for number, line in enumerate(read_text(path, ANNOTATION).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{shown(path)}, line {number}"
        key = inner_name(os.path.join(folder, line.strip()), place, "list pictures of the data set alone")
        if key not in listing.pictures:
            raise DataError(f"{place}: no picture {key}; correct the list")
        yield key


def _label_files(key: str) -> Iterator[str]:
    """Where the objects of a picture may stand: in labels/ for images/, beside the picture, or in labels/ alone."""
    stem = os.path.splitext(key)[0]
    *folders, name = stem.split("/")
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        yield "/".join([*folders[:last], "labels", *folders[last + 1 :], f"{name}.txt"])
    if f"{name}.txt".lower() not in NO_LABELS:
        yield f"{stem}.txt"
    yield f"labels/{stem}.txt"


def _objects(path: Path, point_values: int) -> Iterator[_Object]:
    """The objects of a label file, which may be empty. Raises DataError, with the line."""
    if _is_empty(path):
        return
    for number, line in enumerate(read_text(path, ANNOTATION).splitlines(), start=1):
        if words := line.split():
            place = f"{shown(path)}, line {number}"
            values = [_number(word) for word in words]
            if len(values) < 5 or not all(map(math.isfinite, values)) or values[0] != int(values[0]) or values[0] < 0:
                raise DataError(f"{place}: {brief(line.strip())} is no class with numbers behind it; {WRITE}")
            yield _Object(place, int(values[0]), _shares(values[1:], point_values, place, line))


def _is_empty(path: Path) -> bool:
    """Whether this is a file without content; of what cannot be read, read_text() says why."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and not status.st_size


WRITE = "write: class centre-x centre-y width height"


def _shares(values: list[float], point_values: int, place: str, line: str) -> Box:
    """The box of what stands behind the class: a box, with a confidence or key points, or a polygon."""
    if len(values) in (4, 5) or (point_values and len(values) == 4 + point_values):
        x, y, width, height = values[:4]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        shares = values[:4]
    elif point_values or len(values) < 6:
        raise DataError(
            f"{place}: {len(values)} numbers behind the class, but a box has 4, and kpt_shape {point_values}"
        )
    else:
        shares = values[: len(values) // 2 * 2]  # an odd number ends in a confidence
        corners = (min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2]))
    if min(shares) < -SLACK or max(shares) > 1 + SLACK:
        raise DataError(f"{place}: {brief(line.strip())} leaves 0 to 1; numbers are shares of the picture, not pixels")
    return corners


def _number(word: str) -> float:
    """NaN for what is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def recognises(source: Source) -> bool:
    """A data.yaml, a folder with one or with images/ and labels/, or pictures with label files beside them."""
    if not source.is_folder:
        return source.suffix in (".yaml", ".yml")
    files = source.listing.files
    if any("/" not in key and is_data_yaml(path) for key, path in source.listing.with_suffix(".yaml", ".yml").items()):
        return True
    texts = source.listing.with_suffix(".txt")
    for key in source.listing.pictures:
        name = next((name for name in _label_files(key) if name in texts), None)
        if name is not None and (start := first_bytes(files[name], 4096)):
            return _begins_as_labels(start)
    return False


def _begins_as_labels(start: bytes) -> bool:
    """Whether the first line is a class with at least four numbers."""
    words = start.split(b"\n", 1)[0].decode("utf-8", "replace").lstrip("\ufeff").split()
    return len(words) >= 5 and all(math.isfinite(_number(word)) for word in words)


YOLO = Reader(
    "yolo",
    "data.yaml, images/ with labels/*.txt, or a text file beside each picture",
    recognises,
    read,
    frozenset({"images", "classes", "split"}),
)
