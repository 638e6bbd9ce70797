"""The files of a data set: listed once, named by keys that are the same on every machine, in natural order."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from onnxcam.errors import DataError
from onnxcam.files import reason, shown
from onnxcam.inputs.images import SUFFIXES as PICTURE_SUFFIXES

ANNOTATION_SUFFIXES = frozenset(
    {".json", ".xml", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".yaml", ".yml"}
)
DEEPEST = 64
"""Folders within folders that are entered."""
_NUMBER = re.compile(r"([0-9]+)")

Order = tuple[tuple[tuple[int, str] | str, ...], ...]


def natural(key: str) -> tuple[Order, str]:
    """What keys are sorted by: part by part, numbers by value, capitals as small letters; ties by the key itself."""
    return tuple(_natural_part(part) for part in key.lower().split("/")), key


def _natural_part(part: str) -> tuple[tuple[int, str] | str, ...]:
    pieces = _NUMBER.split(part)  # text and numbers in turn
    digits = [piece.lstrip("0") for piece in pieces[1::2]]
    values: list[tuple[int, str] | str] = list(pieces)
    values[1::2] = [(len(number), number) for number in digits]
    return tuple(values)


def key_of(name: str) -> str:
    """A relative path as a key: forward slashes, composed characters, and \\udcNN for bytes that are no UTF-8."""
    text = name.replace(os.sep, "/")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.encode("utf-8", "backslashreplace").decode())
    return text


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture, by its ending."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


class Listing:
    """The files below a folder, by key in natural order: pictures, and what may be annotations.

    Hidden files and folders are left out. Links are followed, but never into a folder that holds them. Raises DataError
    for a folder that cannot be read.
    """

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root = root
        self.files = files

    @classmethod
    def of(cls, root: Path) -> "Listing":
        files: dict[str, Path] = {}
        for path, name in _walk(root, "", ()):
            key = key_of(name)
            if key in files:
                raise DataError(f"{shown(path)}: another file has the same name, spelt with other bytes; rename one")
            files[key] = path
        return cls(root, {key: files[key] for key in sorted(files, key=natural)})

    def below(self, folder: str) -> "Listing":
        """What lies below a folder, named by its key; the keys start there. Empty if there is no such folder."""
        start = f"{folder}/" if folder else ""
        files = {key.removeprefix(start): path for key, path in self.files.items() if key.startswith(start)}
        return Listing(self.root / folder, files)

    @cached_property
    def pictures(self) -> Mapping[str, Path]:
        return {key: path for key, path in self.files.items() if is_picture(key)}

    def with_suffix(self, *suffixes: str) -> Mapping[str, Path]:
        """The files with one of these endings, in small letters."""
        return {key: path for key, path in self.files.items() if key.lower().endswith(suffixes)}

    @cached_property
    def folders(self) -> frozenset[str]:
        """Keys of the folders that hold files, at any depth."""
        folders: set[str] = set()
        for key in self.files:
            folder = key.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        return frozenset(folders)

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        """Base name -> the keys of the pictures called so."""
        return _grouped((key.rpartition("/")[2], key) for key in self.pictures)

    @cached_property
    def by_stem(self) -> Mapping[str, tuple[str, ...]]:
        """Key without its ending -> the keys of the pictures called so."""
        return _grouped((os.path.splitext(key)[0], key) for key in self.pictures)

    @cached_property
    def by_last_stem(self) -> Mapping[str, tuple[str, ...]]:
        """Base name without its ending -> the keys of the pictures called so."""
        return _grouped((os.path.splitext(key.rpartition("/")[2])[0], key) for key in self.pictures)

    def named(self, name: str) -> tuple[str, ...]:
        """Keys of the pictures that a name may mean: the one of this key, else all of this base name, where an ending
        may be missing. An annotation that names a folder means the pictures in it alone.
        """
        if name in self.pictures:
            return (name,)
        for table in (self.by_stem, self.by_name, self.by_last_stem):
            if keys := table.get(name):
                return keys
        return ()


def _grouped(pairs: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name, key in pairs:
        groups[name].append(key)
    return {name: tuple(keys) for name, keys in groups.items()}


def _walk(folder: Path, start: str, above: tuple[tuple[int, int], ...]) -> Iterable[tuple[Path, str]]:
    """(path, name from the root) of the files. above: device and number of the folders that this one lies in."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder)}: {reason(error)}") from error
    here = (status.st_dev, status.st_ino)
    if (here in above and status.st_ino) or len(above) > DEEPEST:  # Windows numbers no folder
        return
    for entry in visible:
        name = start + entry.name
        if _is_folder(entry):
            yield from _walk(Path(entry.path), f"{name}{os.sep}", (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES | ANNOTATION_SUFFIXES:
            yield Path(entry.path), name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: an error of this picture, not of the folder
        return False


def is_folder(path: Path) -> bool:
    """Whether a source is a folder. Raises DataError for what is not there."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)}: {reason(error)}") from error
