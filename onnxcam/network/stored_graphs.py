"""Finished graphs in the cache folder, each with plain data: what a process need not build again.

A file holds a signature, a SHA-256 of all that follows and of its own name, the length of the data, the data
(plain_data.py), the graph. Nothing in it is run as code or unpickled. It counts only if it is a regular file of this
user that nobody else may write, with the right name and checksum, whose data has the types that are expected, and whose
graph names no file (`refers_to_files`). Anything else is no file: its graph is built again, never an error.
"""

import hashlib
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any, BinaryIO

import onnxcam
from onnxcam.files import FileKind, open_regular, read_exactly, size_of
from onnxcam.logs import module_logger
from onnxcam.network import cache
from onnxcam.network.plain_data import DamagedData, packed, unpacked

SIGNATURE = b"onnxcam graph 1\n"
SUFFIX = ".graph"
LARGEST = 2**29
"""Bytes of a file: a larger graph is built anew, rather than copied to the disk and held beside the session."""
MOST = 2**31
"""Bytes of all files together; those that were not used for the longest time make room."""
LENGTH = struct.Struct("<Q")
HEAD = len(SIGNATURE) + hashlib.sha256().digest_size + LENGTH.size
BUILT_BY = ("surgeon", "network", "inputs")
"""The packages whose code decides what is stored."""
NAMES_A_FILE = (b"location", b"EPContext")
"""What stands in a graph whose weights are in another file (the key of TensorProto.external_data), or that loads a
compiled model. A tensor that is called so is taken for one too."""
RULES = "onnxcam.surgeon.autodiff.rules.registry"
"""The module with the table of gradient rules."""
KIND = FileKind("stored graph", LARGEST, cache.Unusable)
logger = module_logger(__name__)


@dataclass(frozen=True)
class Stored:
    """What a file holds. graph: the bytes of an .onnx file. data: read by the type that was asked for."""

    graph: bytes
    data: Any


def key(*parts: str) -> str:
    """Name of a file: a hash of the parts, of the packages' versions, and of onnxcam's own code."""
    return cache.key("graph", code_of(BUILT_BY), *parts)


def has_rules_from_outside() -> bool:
    """Whether a gradient rule is another package's: its code is in no key, so what it makes is not stored."""
    # Rules are registered in a file that a warm start does not load, and nothing is registered where it is not loaded.
    registry = sys.modules.get(RULES)
    return registry is not None and any(
        not str(getattr(one.rule, "__module__", "")).startswith("onnxcam.") for one in [*registry.VJP_RULES.values()]
    )


def refers_to_files(graph: bytes) -> bool:
    """Whether a graph may make onnxruntime open other files. Never False for one that does."""
    return any(word in graph for word in NAMES_A_FILE)


def load(name: str, hint: Any) -> Stored | None:
    """The file of a name, its data read as this type; None if there is none, or if it is not as it was written."""
    path = _path(name)
    if path is None or not os.path.lexists(path):
        return None
    try:
        with open_regular(path, KIND, follow=False) as file:
            cache.check_owner(file)
            stored = _read(file, path, name, hint)
        logger.info("cache: the graph %r is read", str(path))
    except (OSError, ValueError, RecursionError) as error:
        logger.info("cache: the graph %s is not usable (%s)", name, error)
        return None
    with suppress(OSError):  # of a folder that is not written to: the time says when it was used
        os.utime(path)
    return stored


def store(name: str, graph: bytes, data: Any) -> None:
    """Writes a file at once or not at all. What cannot be stored is only logged."""
    path = _path(name)
    if path is None:
        return
    plain = b"".join(packed(data))
    size = HEAD + len(plain) + len(graph)
    if size > LARGEST or refers_to_files(graph):
        logger.info("cache: a graph of %d bytes is not stored: it is too large, or may name a file", len(graph))
        return
    length = LENGTH.pack(len(plain))
    digest = _digest(name, length, plain, graph)
    cache.write(path, (SIGNATURE, digest, length, plain, graph), make_room=lambda: _make_room(path.parent, size))


def _path(name: str) -> Path | None:
    folder = cache.folder()
    return folder / f"{name}{SUFFIX}" if folder is not None else None


def _read(file: BinaryIO, path: Path, name: str, hint: Any) -> Stored:
    size = size_of(file)
    head = read_exactly(file, HEAD, path, KIND)
    length = head[-LENGTH.size :]
    (count,) = LENGTH.unpack(length)
    if not head.startswith(SIGNATURE) or count > size - HEAD:
        raise cache.Unusable("it is of another version, or damaged")
    data = read_exactly(file, count, path, KIND)
    graph = read_exactly(file, size - HEAD - count, path, KIND)
    if _digest(name, length, data, graph) != head[len(SIGNATURE) : -LENGTH.size]:
        raise cache.Unusable("it is not as it was written")
    if refers_to_files(graph):
        raise cache.Unusable("its graph may name a file")
    return Stored(graph, unpacked(hint, _reader(data), LARGEST))


def _reader(data: bytes) -> Callable[[int], bytearray]:
    """What gives the next bytes of the data."""
    at = 0

    def read(count: int) -> bytearray:
        nonlocal at
        if count > len(data) - at:
            raise DamagedData("it ends too early")
        at += count
        return bytearray(data[at - count : at])

    return read


def _digest(name: str, *parts: bytes) -> bytes:
    digest = hashlib.sha256(name.encode("ascii"))
    for part in parts:
        digest.update(part)
    return digest.digest()


def _make_room(folder: Path, size: int) -> None:
    """Removes the files that were not used for the longest time, until one of this size fits."""
    entries = sorted(_entries(folder), reverse=True)
    kept = size
    for _, path, bytes_of in entries:
        kept += bytes_of
        if kept > MOST:
            cache.remove(path)


def _entries(folder: Path) -> Iterator[tuple[int, Path, int]]:
    """(time of the last use, path, bytes) of each file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                yield status.st_mtime_ns, Path(entry.path), status.st_size


@once
def code_of(packages: tuple[str, ...]) -> str:
    """Stands for the code of these packages of onnxcam: the sizes and times of its files. '' is the modules beside."""
    digest = hashlib.sha256()
    root = os.path.dirname(onnxcam.__file__)
    for package in packages:
        for folder, folders, names in os.walk(os.path.join(root, package)):
            folders[:] = sorted(folders) if package else ()
            for name in sorted(names):
                if name.endswith(".py"):
                    status = os.stat(os.path.join(folder, name))
                    digest.update(f"{folder[len(root) :]}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
