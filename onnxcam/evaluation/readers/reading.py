"""read_data(): a data set of any format as a `DataSet`; sample(): some of its pictures."""

import hashlib
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from onnxcam.errors import DataError, OptionError, near
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers.folder import FOLDER
from onnxcam.evaluation.readers.listing import is_picture
from onnxcam.evaluation.readers.reader import Reader, Source, refuse
from onnxcam.evaluation.readers.registry import READERS
from onnxcam.evaluation.readers.tables import ROWS
from onnxcam.files import PathLike, shown
from onnxcam.limits import brief, is_whole


def read_data(
    source: PathLike,
    *,
    format: str | None = None,
    labels: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    split: str | None = None,
    crowds: bool = False,
) -> DataSet:
    """The pictures of a data set, with their labels and boxes. No picture is decoded; the headers of those that have
    boxes are read.

    source: a folder, a manifest, the JSON of COCO, a data.yaml, or a picture. format: one of READERS; without it, the
    content decides. labels: a file with the name and the label of each picture, for a folder. images: the folder of the
    pictures, where it is not the usual one. classes: a file with the data set's class names, one a line; for ImageNet,
    synsets in the model's order. split: such as 'val'; without it, all. crowds: COCO's crowds count as boxes.

    Raises DataError, with the file and line, for data that cannot be read; what lacks its picture or its area is left
    out, with the reason in `skipped`. Raises OptionError for an unknown format, and an option that it does not read.
    """
    options = {"labels": labels, "images": images, "classes": classes, "split": split, "crowds": crowds}
    if split is not None and not (isinstance(split, str) and split):
        raise OptionError(f"split is a name such as 'val', not {brief(split)}")
    check_bool(crowds, "crowds")
    paths = {name: None if value is None else path_of(value, name) for name, value in list(options.items())[:3]}
    data = Source(path_of(source, "a data set"), **paths, split=split, crowds=crowds)
    reader = _reader(data, format)
    refuse([name for name, value in options.items() if value is not None and value is not False], reader)
    given = {name: str(value.absolute()) for name, value in paths.items() if value is not None}
    rest = {"split": split} if split is not None else {}
    again = {"source": str(data.path.absolute()), "format": reader.name, **given, **rest, "crowds": crowds}
    return replace(reader.read(data), source=again)


def check_bool(value: object, name: str) -> None:
    """Raises OptionError for what is neither True nor False."""
    if not isinstance(value, bool):
        raise OptionError(f"{name} is True or False, not {brief(value)}")


def path_of(value: object, name: str) -> Path:
    """Raises OptionError for what is no path."""
    if not isinstance(value, str | os.PathLike) or isinstance(value, bytes) or not os.fspath(value):
        raise OptionError(f"{name} is a path, not {brief(value)} ({type(value).__name__})")
    return Path(value)


def _reader(source: Source, name: str | None) -> Reader:
    """The reader of a format, or the one that recognises the source."""
    if name is not None:
        if not isinstance(name, str) or name not in READERS:
            known = near(name, READERS) if isinstance(name, str) else f"known: {', '.join(READERS)}"
            raise OptionError(f"no format of data is called {brief(name)}; {known}")
        if not READERS[name].files and not source.is_folder:
            raise DataError(f"{shown(source.path)}: a file, but the format {name} is {READERS[name].about}")
        return READERS[name]
    if not source.is_folder and is_picture(source.path.name):
        return FOLDER
    chosen = [reader for reader in READERS.values() if reader is not FOLDER and reader.recognises(source)]
    if len(chosen) > 1:
        names = " and as ".join(reader.name for reader in chosen)
        raise DataError(
            f"{shown(source.path)}: can be read as {names}; say which: --format {chosen[0].name} (format= in Python)"
        )
    if chosen:
        return chosen[0]
    if not source.is_folder:
        raise DataError(
            f"{shown(source.path)}: no data set that can be read; give a folder, a table of pictures "
            f"({' '.join(ROWS)}), COCO's JSON or a data.yaml of YOLO"
        )
    return FOLDER


def sample(dataset: DataSet, n: int, seed: int = 0, *, by_label: bool = False) -> DataSet:
    """Some pictures of a data set, in its order: n, or all of them if it has no more.

    The same on every machine, and of a data set that grew: the pictures whose SHA-256 of seed and key is smallest.
    by_label: of each label as many as of the others, as far as there are; no label counts as one.

    Raises OptionError for an n below 1.
    """
    if not isinstance(dataset, DataSet):
        raise OptionError(f"a sample is of a DataSet, as read_data() gives it, not {brief(dataset)}")
    if not is_whole(n, 1) or not is_whole(seed) or abs(seed) >= 2**64:
        raise OptionError(
            f"a sample has a whole number of pictures from 1 on, and a whole seed below 2**64, not {brief((n, seed))}"
        )
    check_bool(by_label, "by_label")
    order = sorted(dataset.items, key=lambda item: _draw(item, seed))
    if by_label:
        turns: defaultdict[object, int] = defaultdict(int)
        turn_of = {}
        for item in order:
            turn_of[item.key] = turns[item.label]
            turns[item.label] += 1
        order.sort(key=lambda item: turn_of[item.key])
    chosen = {item.key for item in order[:n]}
    return replace(dataset, items=tuple(item for item in dataset.items if item.key in chosen))


def _draw(item: DataItem, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{item.key}".encode()).digest()
