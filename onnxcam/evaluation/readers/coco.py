"""COCO: one JSON with images, annotations and categories. A box is [left, top, width, height] from the outer edge of
the first pixel, so that is how it is taken.
"""

import math
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.listing import Listing
from onnxcam.evaluation.readers.reader import GIVE_IMAGES, Annotated, Draft, Reader, Source, add_annotated, inner_name
from onnxcam.evaluation.readers.upright import Size
from onnxcam.files import ANNOTATIONS, first_bytes, parse_json, read_text, shown
from onnxcam.limits import brief, is_number, is_whole
from onnxcam.metrics.metric import Box

OTHER_TASKS = ("captions_", "person_keypoints_", "panoptic_", "stuff_", "image_info_")
"""How the names of COCO's files begin that hold no boxes of all classes."""
LOOKED_AT = 200
"""Pictures by which their folder is found."""
_LISTS = re.compile(rb'"(?:images|annotations|categories)"\s*:\s*\[')


def read(source: Source) -> DataSet:
    """Crowds are left out, as COCO's own evaluation does, unless `crowds` keeps them; labels are category names."""
    path = _file(source)
    values = _load(path)
    draft = Draft(source, COCO.name)
    draft.classes = _categories(values, path)
    objects = _objects(values, path, draft.classes, crowds=source.crowds)
    entries = [_named(entry, path) for entry in _list(values, "images", path)]
    pictures = _pictures(source, path, [name for _, name, _ in entries])
    group = path.stem.removeprefix("instances_").removeprefix("_annotations.coco")
    known = set()
    for number, name, size in entries:
        place = f"{shown(path)}, image {number}"
        if number in known:
            raise DataError(f"{place}: two images have this id; give each its own")
        known.add(number)
        file = pictures.files.get(name)
        if file is None:
            draft.skip(name, f"{place}: no such picture in {shown(pictures.root)}")
            continue
        add_annotated(draft, DataItem(file, name, group=group), objects.get(number, ()), size, place)
    for number in objects.keys() - known:
        for one in objects[number]:
            draft.skip(one.place, f"of image {number}, which the file does not list")
    return draft.finished()


def _load(path: Path) -> dict[str, Any]:
    try:
        values = parse_json(read_text(path, ANNOTATIONS), quick=True)
    except ValueError as error:
        raise DataError(f"{shown(path)}: {error}; get the file again") from None
    except MemoryError:
        raise DataError(f"{shown(path)}: does not fit into memory; split it") from None
    if not isinstance(values, dict):
        raise DataError(f"{shown(path)}: COCO's JSON is an object with images, annotations and categories")
    return values


def _list(values: Mapping[str, Any], name: str, path: Path) -> list[Mapping[str, Any]]:
    entries = values.get(name)
    if not isinstance(entries, list):
        raise DataError(f"{shown(path)}: no list {name!r}; COCO's JSON has images, annotations and categories")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{shown(path)}, entry {i + 1} of {name}: {brief(entry)} is no object")
    return entries


def _categories(values: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Category ids, which may have gaps, and their names. Raises DataError where annotations need them in vain."""
    names: dict[int, str] = {}
    entries = values.get("categories")
    if values.get("annotations") and not (isinstance(entries, list) and entries):
        raise DataError(
            f"{shown(path)}: has annotations but no list 'categories', which names their classes; "
            f'add it: [{{"id": 1, "name": ...}}, ...]'
        )
    for entry in entries if isinstance(entries, list) else []:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        if not is_whole(number) or not isinstance(name, str) or number in names:
            raise DataError(f"{shown(path)}, categories: {brief(entry)} has no id and name of its own")
        names[number] = name
    return names


def _named(entry: Mapping[str, Any], path: Path) -> tuple[object, str, Size | None]:
    """(id, name of the file as a key, (width, height) if recorded) of an image."""
    number, name = entry.get("id"), entry.get("file_name")
    place = f"{shown(path)}, image {brief(number)}"
    if not isinstance(name, str) or not isinstance(number, int | str):
        raise DataError(f"{place}: {brief(entry)} has no id and file_name")
    width, height = entry.get("width"), entry.get("height")
    size = (float(width), float(height)) if width and height and is_number(width) and is_number(height) else None
    return number, inner_name(name, place, GIVE_IMAGES), size


def _objects(
    values: Mapping[str, Any], path: Path, classes: Mapping[int, str], *, crowds: bool
) -> Mapping[object, list[Annotated]]:
    """The annotations of each image id. crowds: whether those of crowds count."""
    objects: defaultdict[object, list[Annotated]] = defaultdict(list)
    for i, entry in enumerate(_list(values, "annotations", path)):
        place = f"annotation {brief(entry['id'])}" if "id" in entry else f"entry {i + 1} of annotations"
        where = f"{shown(path)}, {place}"
        category, image = entry.get("category_id"), entry.get("image_id")
        if not isinstance(category, int) or category not in classes:
            raise DataError(f"{where}: no category has the id {brief(category)}; add it to categories")
        if not isinstance(image, int | str):
            raise DataError(f"{where}: its image_id is {brief(image)}; name an image by its id")
        if entry.get("bbox") is None:
            raise DataError(f"{where} has no bbox; add it (left, top, width, height), or remove the annotation")
        box = _box(entry["bbox"], where)
        if crowds or not entry.get("iscrowd", 0):
            objects[image].append(Annotated(place, classes[category], box))
    return objects


def _box(values: object, where: str) -> Box:
    """(left, top, right, bottom). Raises DataError for what is not four finite numbers, the last two not negative."""
    if not isinstance(values, list) or len(values) != 4 or not all(is_number(value) for value in values):
        raise DataError(f"{where}: its bbox is {brief(values)}, not four numbers: left, top, width, height")
    left, top, width, height = map(float, values)
    if width < 0 or height < 0 or not math.isfinite(left + width + top + height):
        raise DataError(f"{where}: its bbox {brief(values)} has a negative size; the order is left, top, width, height")
    return left, top, left + width, top + height


def _pictures(source: Source, path: Path, names: Sequence[str]) -> Listing:
    """The folder of the pictures: `images`, else the one of the usual places that holds the most of them."""
    if source.images is not None:
        return source.pictures
    parent = path.parent
    split = path.stem.removeprefix("instances_")
    root = parent.parent if parent.name.lower() in ("annotations", "labels") else parent
    places = (
        parent,
        root,
        *(root / name for name in (split, "images", f"images/{split}", "data", "train", "val", "test")),
    )
    sample = names[:: max(1, len(names) // LOOKED_AT)]
    counts = {place: sum(os.path.exists(place / name) for name in sample) for place in dict.fromkeys(places)}
    best = max(counts, key=counts.__getitem__)
    if not counts[best]:
        looked = ", ".join(shown(place) for place in counts if place.is_dir())
        raise DataError(f"{shown(path)}: none of its pictures, such as {names[0]}, is in {looked}; {GIVE_IMAGES}")
    return Listing.of(best)


def _file(source: Source) -> Path:
    """The JSON itself; of a folder, the one in it, chosen by `split` if there are several."""
    if not source.is_folder:
        if source.split not in (None, _split("/".join(source.path.absolute().parts[-2:]))):
            raise DataError(
                f"{shown(source.path)}: one JSON is not split further; leave --split out (split= in Python)"
            )
        return source.path
    paths = _candidates(source)
    if not paths:
        raise DataError(f"{shown(source.path)}: holds no JSON of COCO, with images, annotations and categories")
    chosen = [key for key in paths if source.split in (None, _split(key), key)]
    if len(chosen) != 1:
        splits = sorted({_split(key) for key in paths})
        raise DataError(
            f"{shown(source.path)}: holds {', '.join(paths)}; name one, or its split: --split {splits[0]} "
            f"(split= in Python; the splits are {', '.join(splits)})"
        )
    return source.listing.files[chosen[0]]


def _candidates(source: Source) -> list[str]:
    """Keys of the files of a folder that may hold COCO's boxes."""
    keys = [key for key in source.listing.with_suffix(".json") if key.count("/") <= 2]
    chosen = [key for key in keys if not key.rpartition("/")[2].startswith(OTHER_TASKS)]
    return [key for key in chosen if _begins_as_coco(source.listing.files[key])]


def _split(key: str) -> str:
    """What a JSON is of: 'val2017' of instances_val2017.json; 'valid' of valid/_annotations.coco.json."""
    stem = key.rpartition("/")[2].removesuffix(".json")
    return key.split("/")[-2] if stem == "_annotations.coco" and "/" in key else stem.removeprefix("instances_")


def _begins_as_coco(path: Path) -> bool:
    start = first_bytes(path, 65536).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith(b"{") and _LISTS.search(start) is not None


def recognises(source: Source) -> bool:
    """A JSON object with images or annotations, or a folder that holds one."""
    return bool(_candidates(source)) if source.is_folder else source.suffix == ".json" and _begins_as_coco(source.path)


COCO = Reader(
    "coco",
    "a JSON with images, annotations and categories, or a folder with annotations/instances_*.json",
    recognises,
    read,
    frozenset({"images", "split", "crowds"}),
)
