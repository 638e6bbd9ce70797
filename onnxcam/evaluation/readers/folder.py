"""Pictures in folders: class sub-folders, or any folder with the labels in a file beside."""

import re
from collections.abc import Mapping
from pathlib import Path

from onnxcam.errors import DataError, OptionError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.listing import Listing
from onnxcam.evaluation.readers.reader import FLAGS, Draft, Label, Reader, Source, label_of, one_picture, portable
from onnxcam.evaluation.readers.synsets import SYNSET, read_synsets
from onnxcam.evaluation.readers.tables import read_labels_table
from onnxcam.files import first_bytes, shown
from onnxcam.inputs.images import SUFFIXES

LABEL_FILES = ("labels.csv", "labels.tsv", "labels.txt")
"""Read where no other is given."""
SPLITS = frozenset("train training val valid validation test testing dev".split())
IMAGENET_CLASSES = 1000
_NAMED_PICTURE = re.compile(rf"\.(?:{'|'.join(suffix[1:] for suffix in sorted(SUFFIXES))})\"?[ \t,;]", re.IGNORECASE)


def read(source: Source) -> DataSet:
    """A picture's label: by the file of labels; else the name of its sub-folder, of the first below the split's."""
    draft = Draft(source, FOLDER.name, way_out="pictures are files called .jpg, .png, .webp, .tif, ..., in it or below")
    if not source.is_folder:
        given = {"labels": source.labels, "classes": source.classes, "split": source.split}
        for name, value in given.items():
            if value is not None:
                flag = f"{FLAGS[name]} ({name}= in Python)"
                raise OptionError(
                    f"{shown(source.path)}: one picture takes no {flag}; give its folder, or leave it out"
                )
        draft.add(DataItem(source.path, portable(source.path.name)))
        return draft.finished()
    listing = source.listing if source.split is None else split_of(source.listing, source.split)
    path = source.labels or labels_beside(source)
    labels = {} if path is None else labels_in(path, listing, draft)
    tops = {key.partition("/")[0] for key in listing.pictures if "/" in key}
    has_splits = bool(tops) and {top.lower() for top in tops} <= SPLITS
    classes, names = _classes(source, listing, has_splits)
    for key, file in listing.pictures.items():
        split, _, rest = key.partition("/") if has_splits and "/" in key else (source.split or "", "", key)
        name, inside, _ = rest.partition("/")
        if path is not None:
            label = labels.get(key)
            label = classes.get(label, label) if isinstance(label, str) else label
            group = key.rpartition("/")[0]
        else:
            label = classes.get(name, label_of(name)) if inside else None
            group = split or rest.rpartition("/")[0]
        draft.add(DataItem(file, key, label, group=group))
    draft.classes = names
    return draft.finished()


def split_of(listing: Listing, split: str) -> Listing:
    """The pictures of one sub-folder. Raises DataError if it has none."""
    inner = listing.below(split)
    if not inner.pictures:
        known = ", ".join(sorted(key for key in listing.folders if "/" not in key)[:8]) or "none"
        raise DataError(f"{shown(listing.root)}: no pictures in a sub-folder {split!r}; its sub-folders: {known}")
    return inner


def _classes(source: Source, listing: Listing, has_splits: bool) -> tuple[Mapping[str, int], Mapping[int, str]]:
    """(synset -> the model's class index, index -> name): of a list of synsets, or of a folder with all of ImageNet."""
    if source.classes is not None:
        return read_synsets(source.classes)
    parts = (key.split("/") for key in listing.pictures)
    names = sorted({part[has_splits] for part in parts if len(part) > 1 + has_splits})
    if len(names) == IMAGENET_CLASSES and all(SYNSET.fullmatch(name) for name in names):
        return {name: index for index, name in enumerate(names)}, dict(enumerate(names))
    return {}, {}


def labels_beside(source: Source) -> Path | None:
    """The file of labels in the folder itself; None without. A labels.txt without pictures lists the classes."""
    for name in LABEL_FILES:
        path = source.listing.files.get(name)
        if path is not None and (path.suffix != ".txt" or _names_pictures(path)):
            return path
    return None


def _names_pictures(path: Path) -> bool:
    return _NAMED_PICTURE.search(first_bytes(path, 4096).decode("utf-8", "replace")) is not None


def labels_in(path: Path, listing: Listing, draft: Draft) -> dict[str, Label]:
    """The labels of a file, by the picture's key. What it names without a picture is left out, with the reason.

    Raises DataError for a picture with two labels, and a name of several pictures.
    """
    labels: dict[str, Label] = {}
    for line, name, label in read_labels_table(path):
        place = f"{shown(path)}, line {line}"
        key = one_picture(listing.named(portable(name)), name, place)
        if key is None:
            draft.skip(name, f"{place}: no such picture")
        elif key in labels and labels[key] != label:
            raise DataError(f"{place}: {key} has the labels {labels[key]!r} and {label!r}; a picture has one")
        else:
            labels[key] = label
    return labels


def recognises(source: Source) -> bool:
    """Whatever no other reader takes."""
    return source.is_folder


FOLDER = Reader(
    "folder",
    "pictures in class sub-folders, or anywhere below with labels.csv or labels.txt (a line: name label)",
    recognises,
    read,
    frozenset({"labels", "classes", "split"}),
)
