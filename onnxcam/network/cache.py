"""What an opening learnt about a model, stored for the next one: tensor shapes, and how it batches.

A record is a small JSON file in the user's cache folder. Its name is a hash of everything that it depends on; weights
are never stored. ONNXCAM_CACHE names another folder, or 'off'. opening.py reads and writes the records.

Records are not trusted. One counts only if it is a regular file of this user that nobody else may write, has the right
size, version, name and checksum, and describes the model at hand (recorded.py). Anything else is no record: what it
would have said is learnt again, never an error.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from platformdirs import user_cache_path

from onnxcam.files import FileKind, open_regular, parse_json, read_exactly, size_of
from onnxcam.logs import module_logger
from onnxcam.temporary import sweep, temporary
from onnxcam.types import BatchMode, Shapes
from onnxcam.versions import cache_versions

FORMAT = 4
"""To be raised whenever the same file and options give another trace, so that records of before are not read."""
LARGEST = 2**24
"""Bytes of a record; larger ones are neither stored nor read."""
LARGEST_SIDE, MOST_AXES, LONGEST_REASON = 2**31, 64, 5000
logger = module_logger(__name__)
Record = TypeVar("Record")


class Unusable(ValueError):
    """Why a file of the cache counts as none. It never leaves what reads them: this module and stored_graphs.py."""


RECORD = FileKind("record", LARGEST, Unusable)


@dataclass(frozen=True)
class ModelRecord:
    """shapes: of every tensor, by name. mode, reason: how images are batched, as BatchSupport has them."""

    shapes: Shapes
    mode: BatchMode
    reason: str


def folder() -> Path | None:
    """Where records are stored; None if ONNXCAM_CACHE turns the cache off, or if there is no such place.

    '~' is expanded; a relative path is one of the working directory.
    """
    chosen = os.environ.get("ONNXCAM_CACHE")
    if chosen is not None and chosen.strip().lower() in ("", "off", "0"):
        return None
    path = os.path.expanduser(chosen) if chosen else str(user_cache_path("onnxcam", appauthor=False))
    if path.startswith("~") or "\0" in path or not (chosen or os.path.isabs(path)):  # a user without a home
        logger.info("cache: there is no folder %r", path)
        return None
    return Path(path)


def key(*parts: str) -> str:
    """Name of a record: a hash of the parts, and of the versions of the packages that wrote it."""
    texts = [str(FORMAT), *parts, *(f"{name}={number}" for name, number in cache_versions().items())]
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def load(name: str) -> ModelRecord | None:
    """The record of a model; None if there is none, or if it is not as it was written."""
    return _load(name, _model_record)


def store(name: str, model: ModelRecord) -> None:
    """Writes the record at once or not at all. A folder that cannot be written to is only logged."""
    shapes = {tensor: list(shape) for tensor, shape in model.shapes.items()}
    _store(name, {"shapes": shapes, "mode": model.mode, "reason": model.reason})


def _model_record(data: Any) -> ModelRecord:
    shapes, mode, reason = _fields(data, "shapes", "mode", "reason")
    if not isinstance(shapes, dict):
        raise Unusable("no shapes")
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise Unusable("no reason")
    return ModelRecord({name: _shape(shape) for name, shape in shapes.items()}, BatchMode(mode), reason)


def _load(name: str, parse: Callable[[Any], Record]) -> Record | None:
    directory = folder()
    path = directory / f"{name}.json" if directory is not None else None
    if path is None:
        return None
    if not os.path.lexists(path):
        logger.info("cache: there is no record %r yet", str(path))
        return None
    try:
        with open_regular(path, RECORD, follow=False) as file:
            check_owner(file)
            data = read_exactly(file, size_of(file), path, RECORD)
        record = parse(_unsealed(parse_json(data.decode("ascii")), name))
        logger.info("cache: the record %r is read", str(path))
        return record
    except (OSError, ValueError, RecursionError) as error:
        logger.info("cache: the record %s is not usable (%s)", name, error)
        return None


def check_owner(file: BinaryIO) -> None:
    """Raises Unusable for a file of another user, and for one that others may write. Windows has no such owners."""
    status = os.fstat(file.fileno())
    if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise Unusable("it belongs to another user, or others may write it")


def _sealed(name: str, record: Mapping[str, Any]) -> str:
    return json.dumps({"format": FORMAT, "sha256": _checksum(name, record), "record": record})


def _unsealed(data: Any, name: str) -> Any:
    version, checksum, record = _fields(data, "format", "sha256", "record")
    if type(version) is not int or version != FORMAT or checksum != _checksum(name, record):
        raise Unusable("it is not as it was written")
    return record


def _checksum(name: str, record: Any) -> str:
    text = json.dumps([FORMAT, name, record], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _fields(data: Any, *names: str) -> list[Any]:
    """The values of exactly these fields."""
    if not isinstance(data, dict) or set(data) != set(names):
        raise Unusable(f"other fields than {', '.join(names)}")
    return [data[name] for name in names]


def _store(name: str, record: Mapping[str, Any]) -> None:
    directory = folder()
    text = _sealed(name, record)
    if directory is not None and len(text) <= LARGEST:
        write(directory / f"{name}.json", (text.encode("ascii"),))


def write(path: Path, parts: Sequence[bytes], make_room: Callable[[], None] = lambda: None) -> None:
    """Writes a file of the cache at once or not at all; its folder is made. What fails is only logged.

    make_room: called once the folder is there.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(path.parent)
        make_room()
        _write(path, parts)
    except OSError as error:
        logger.info("cache: %s cannot be written (%s)", path.parent, error)


def _write(path: Path, parts: Sequence[bytes]) -> None:
    """Puts the file in its place whole, and leaves nothing else, whatever fails. Only this user may read it."""
    new = temporary(path.parent)
    try:
        with open(new, "xb", opener=_private) as file:
            for part in parts:
                file.write(part)
        os.replace(new, path)
    except BaseException:
        remove(new)
        raise


def _private(path: str, flags: int) -> int:
    """Opens a file for open(), which closes it whatever fails. Only this user may read it."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def remove(path: Path) -> None:
    """Removes a file of the cache. What fails is only logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.info("cache: %s cannot be removed (%s)", path, error)


def _shape(data: Any) -> tuple[int, ...]:
    whole = isinstance(data, list) and all(type(d) is int and 0 <= d <= LARGEST_SIDE for d in data)
    if not whole or len(data) > MOST_AXES:
        raise Unusable(f"no shape: {str(data)[:80]}")
    return tuple(data)
