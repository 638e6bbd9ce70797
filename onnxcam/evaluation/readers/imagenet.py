"""ImageNet as ILSVRC gives it: pictures with bounding boxes in XML or in Kaggle's LOC_val_solution.csv.

Classes are synsets. A list of them in the model's order (Kaggle's LOC_synset_mapping.txt, in the folder or given as
`classes`) makes labels of them that are the model's class indices; without it, a label is the synset's name. ImageNet's
boxes are taken as they are, from the outer edge of the first pixel: its annotators were not of one mind whether pixels
count from 0 or from 1.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.annotation_xml import read_annotation
from onnxcam.evaluation.readers.listing import Listing
from onnxcam.evaluation.readers.manifest import box_of
from onnxcam.evaluation.readers.reader import Annotated, Draft, Reader, Source, add_annotated
from onnxcam.evaluation.readers.synsets import SYNSET, read_synsets
from onnxcam.evaluation.readers.tables import read_rows
from onnxcam.evaluation.readers.upright import Size
from onnxcam.files import shown
from onnxcam.limits import brief

SPLITS = ("train", "val", "test")
MAPPING = "LOC_synset_mapping.txt"
SOLUTION = re.compile(r"(?:.*/)?LOC_(?:train|val)_solution\.csv")
_STEM = re.compile(r"(?:ILSVRC\d{4}_[a-z]+_\d{8}|n\d{8}_\d+)")


@dataclass(frozen=True)
class _Annotation:
    """Of one picture: its objects, whose labels are synsets, and its (width, height) if that is recorded."""

    place: str
    objects: tuple[Annotated, ...]
    size: Size | None = None


def read(source: Source) -> DataSet:
    """A picture's label is the class of its objects, else the synset in its name or its folder's."""
    draft = Draft(source, IMAGENET.name)
    mapping = source.classes or _file_called(source.listing, MAPPING)
    indices, draft.classes = ({}, {}) if mapping is None else read_synsets(mapping)
    pictures = _of_split(source.pictures, source)
    annotations = _annotations(source)
    used = set()
    for key, path in pictures.items():
        stem = _stem(key)
        used.add(stem)
        annotation = annotations.get(stem, _Annotation("", ()))
        objects = [replace(one, label=indices.get(str(one.label), one.label)) for one in annotation.objects]
        synset = _synset(key)
        labels = {one.label for one in objects} or {None if synset is None else indices.get(synset, synset)}
        label = labels.pop() if len(labels) == 1 else None
        item = DataItem(path, key.rpartition("/")[2], label, group=source.split or "")
        add_annotated(draft, item, objects, annotation.size, annotation.place)
    for stem in sorted(annotations.keys() - used):
        draft.skip(stem, f"{annotations[stem].place}: no picture of this name in {shown(source.pictures.root)}")
    return draft.finished()


def _of_split(listing: Listing, source: Source) -> Mapping[str, Path]:
    """The pictures of the split. Raises DataError where it has to be named, and where it has no pictures."""
    parts = {key: key.split("/")[:-1] for key in listing.pictures}
    splits = [split for split in SPLITS if any(split in folders for folders in parts.values())]
    if source.split is None:
        if len(splits) > 1:
            raise DataError(
                f"{shown(listing.root)}: holds the splits {', '.join(splits)}; name one: --split val (split= in Python)"
            )
        return listing.pictures
    chosen = {key: path for key, path in listing.pictures.items() if source.split in parts[key]}
    if not chosen:
        raise DataError(
            f"{shown(listing.root)}: no pictures in a folder {source.split!r}; its splits: {', '.join(splits)}"
        )
    return chosen


def _annotations(source: Source) -> Mapping[str, _Annotation]:
    """The annotations of the split, by the picture's name without its ending: of XML, else of Kaggle's tables."""
    files = {key: path for key, path in source.listing.files.items() if _is_of(key, source.split)}
    annotations: dict[str, _Annotation] = {}
    for key, path in files.items():
        if SOLUTION.fullmatch(key):
            annotations.update(_of_solution(path))
    for key, path in files.items():
        if key.lower().endswith(".xml"):
            annotations[_stem(key)] = _of_xml(path)
    return annotations


def _is_of(key: str, split: str | None) -> bool:
    """Whether annotations are of a split, by their folder or their name."""
    return split is None or split in key.split("/")[:-1] or f"_{split}_" in key


def _of_xml(path: Path) -> _Annotation:
    annotation = read_annotation(path)
    objects = tuple(Annotated(f"line {one.line} of {path.name}", one.name, one.corners) for one in annotation.objects)
    return _Annotation(shown(path), objects, annotation.size)


def _of_solution(path: Path) -> Iterator[tuple[str, _Annotation]]:
    """(name, annotation) of the rows `ImageId,PredictionString`, whose string is a synset and corners an object."""
    for line, row in read_rows(path):
        place = f"{shown(path)}, line {line}"
        words = str(row.get("predictionstring", "")).split()
        groups = [words[i : i + 5] for i in range(0, len(words), 5)]
        name = str(row.get("imageid", "")).strip()
        if not name or any(len(group) != 5 or not SYNSET.fullmatch(group[0]) for group in groups):
            raise DataError(
                f"{place}: {brief(' '.join(words))} is not ImageId and, an object, a synset and four corners"
            )
        yield (
            name,
            _Annotation(
                place,
                tuple(
                    Annotated(place, group[0], box_of(group[1:], place, written=" ".join(group[1:])))
                    for group in groups
                ),
            ),
        )


def _stem(key: str) -> str:
    return os.path.splitext(key.rpartition("/")[2])[0]


def _synset(key: str) -> str | None:
    """The synset in a picture's name, as training pictures have it, or in its folder's."""
    *folders, name = key.split("/")
    match = SYNSET.match(name) or (SYNSET.fullmatch(folders[-1]) if folders else None)
    return match[0] if match else None


def _file_called(listing: Listing, name: str) -> Path | None:
    return next((path for key, path in listing.files.items() if key.rpartition("/")[2] == name), None)


def recognises(source: Source) -> bool:
    """A folder with annotations whose names are ImageNet's, or with Kaggle's table of them."""
    if not source.is_folder:
        return False
    files = source.listing.files
    first = next(iter(source.listing.with_suffix(".xml")), None)
    return any(map(SOLUTION.fullmatch, files)) or (first is not None and _STEM.fullmatch(_stem(first)) is not None)


IMAGENET = Reader(
    "imagenet",
    "ILSVRC's pictures with their bounding boxes in XML, or with LOC_val_solution.csv",
    recognises,
    read,
    frozenset({"images", "classes", "split"}),
    files=False,
)
