"""Opens every file that a user or a model names: regular files only, whose size is known before they are read.

A pipe, a socket, a device or a folder is refused at once: files are opened without waiting, and the descriptor that is
read is the one that was checked, so nothing can take its place in between. So is a file that claims more bytes than it
holds. A `FileKind` says what a file is for: the limit of its size, and the error that is raised.
"""

import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from onnxcam.errors import DataError, LabelError, ModelError, OnnxCamError, PictureError, PresetError


class SupportsRead(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> Any: ...


PathLike = str | os.PathLike[str]

MEBIBYTE = 2**20
SPARSE_FROM = MEBIBYTE
"""Bytes from which on a file may not be mostly holes."""
MOST_EXTENTS = 10_000
"""Pieces of a sparse file that are counted; a file of more is taken to be whole."""
CHUNK = 16 * MEBIBYTE
"""Bytes that are read of an open file at a time."""
_FLAGS = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_NO_LINK, _FOLDER = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True)
class FileKind:
    """What a file is for. noun: what messages call it. most: bytes at most. error: made of a message and raised.

    missing: said where there is no such file. instead: what to give in place of a folder.
    """

    noun: str
    most: int
    error: Callable[[str], Exception]
    missing: str = "no such file or folder"
    instead: str = "name a file in it"


MODEL = FileKind("model", 2**31 - 1, ModelError, "no such model file", "give the .onnx file")
"""protobuf reads no larger one; larger models have external weights."""
WEIGHTS = FileKind("weights file", 2**40, ModelError)
"""Any size: what the model's tensors need of it is limited."""
PICTURE = FileKind("picture", 2**31, PictureError)
ARRAY = FileKind("array", 2**31, PictureError)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|data:", re.IGNORECASE)
"""How a URL starts, in a Path too, which makes one slash of two; the drive of a Windows path has one letter."""
FETCHED_BY_CURL = ("http", "https", "ftp")

ANY = FileKind("file", 2**62, OnnxCamError)
LABELS = FileKind("label file", 8 * MEBIBYTE, LabelError)
CONFIG = FileKind("configuration", 8 * MEBIBYTE, PresetError)
ANNOTATIONS = FileKind("file of annotations", 2**30, DataError)
"""Of a whole data set: COCO's largest has half of that."""
ANNOTATION = FileKind("file of annotations", 16 * MEBIBYTE, DataError)
"""Of one picture, or a list of pictures."""


def open_regular(
    path: PathLike, kind: FileKind, *, most: int | None = None, follow: bool = True, name: str | None = None
) -> BinaryIO:
    """The file, opened for reading. most: bytes at most, by default those of its kind. follow: links are followed.

    name: what messages call it, by default its path.

    Raises the error of its kind for what is missing, cannot be read, is no regular file, is empty, is larger than
    `most`, or consists of holes.
    """
    try:
        descriptor = os.open(path, _FLAGS | (0 if follow else _NO_LINK))
    except (OSError, ValueError, TypeError) as error:
        raise kind.error(f"{name or shown(path)}: {_why_not_opened(path, error, kind)}") from None
    return checked(descriptor, name or path, kind, most=most)


def open_inside(folder: PathLike, parts: Sequence[str], kind: FileKind) -> BinaryIO:
    """The file folder/part/part, opened for reading. No link below the folder is followed, whenever it appears.

    Raises the error of its kind, as open_regular().
    """
    path = os.path.join(folder, *parts)
    if os.open not in os.supports_dir_fd:
        return open_regular(path, kind, follow=False)
    try:
        inner = os.open(folder, _FLAGS | _FOLDER)
        for part in parts[:-1]:
            outer, inner = inner, -1
            try:
                inner = os.open(part, _FLAGS | _FOLDER | _NO_LINK, dir_fd=outer)
            finally:
                os.close(outer)
        try:
            descriptor = os.open(parts[-1], _FLAGS | _NO_LINK, dir_fd=inner)
        finally:
            os.close(inner)
    except (OSError, ValueError) as error:
        raise kind.error(f"{shown(path)}: {_why_not_opened(path, error, kind)}") from None
    return checked(descriptor, path, kind)


def read_bytes(path: PathLike, kind: FileKind, *, most: int | None = None, follow: bool = True) -> bytes:
    """The content of a file, of exactly the size that it had when it was opened. Raises as open_regular()."""
    with open_regular(path, kind, most=most, follow=follow) as file:
        return read_exactly(file, size_of(file), path, kind)


def file_sha256(path: PathLike, kind: FileKind) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises as open_regular()."""
    digest = hashlib.sha256()
    with open_regular(path, kind) as file:
        try:
            while block := file.read(MEBIBYTE):
                digest.update(block)
        except OSError as error:
            raise kind.error(f"{shown(path)}: cannot be read ({reason(error)})") from None
    return digest.hexdigest()


def first_bytes(path: PathLike, count: int) -> bytes:
    """How a regular file begins; nothing for what cannot be read."""
    try:
        with open_regular(path, ANY) as file:
            return file.read(count)
    except (OnnxCamError, OSError):
        return b""


def read_text(path: PathLike, kind: FileKind, *, most: int | None = None) -> str:
    """UTF-8 text, with or without a byte order mark. Raises as open_regular(), and for another encoding."""
    data = read_bytes(path, kind, most=most)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind.error(
            f"{shown(path)}: not UTF-8 text (byte {error.start} of {len(data)}); save the {kind.noun} as UTF-8"
        ) from None


def read_exactly(file: BinaryIO, size: int, path: PathLike, kind: FileKind) -> bytes:
    """So many bytes from where the file is; raises the error of its kind if it gives fewer, or fails."""
    try:
        data = file.read(size)
    except OSError as error:
        raise kind.error(f"{shown(path)}: cannot be read ({reason(error)})") from None
    except (MemoryError, OverflowError):
        raise kind.error(f"{shown(path)}: {size} bytes do not fit into memory") from None
    if len(data) != size:
        raise kind.error(f"{shown(path)}: ends after {len(data)} of {size} bytes; it changed while it was read")
    return data


def read_stream(file: SupportsRead, most: int, before: bytes = b"") -> Any:
    """All that an open file gives, in pieces, so that an endless one ends: more than `most` bytes if there are more.

    before: what was read of it already, and comes first.

    What read() gives instead of bytes is returned as it is. Raises what read() raises.
    """
    content = io.BytesIO()  # gives its bytes without copying them
    total = content.write(before)
    while total <= most:
        piece = file.read(min(CHUNK, most + 1 - total))
        if not isinstance(piece, bytes | bytearray | memoryview):
            return piece
        if not len(piece):
            break
        total += content.write(piece)
    return content.getvalue()


def is_device(file: object) -> bool:
    """Whether an open file is a device or a folder rather than a file, a pipe or a socket. Never blocks."""
    if not isinstance(file, io.BufferedReader | io.BufferedRandom | io.FileIO):
        return False  # the fileno() of others may have effects: a spooled file would move to the disk
    try:
        mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError):  # closed, or without a descriptor
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)


def size_of(file: BinaryIO) -> int:
    """Bytes of a file that open_regular() gave."""
    return os.fstat(file.fileno()).st_size


def checked(descriptor: int, path: PathLike, kind: FileKind, *, most: int | None = None) -> BinaryIO:
    """The file of an open descriptor, which it owns. Raises as open_regular(), and closes the descriptor then."""
    try:
        status = os.fstat(descriptor)
        problem = _problem(descriptor, status, kind, kind.most if most is None else most)
        if problem is not None:
            raise kind.error(f"{shown(path)}: {problem}")
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def parse_json(text: str, *, quick: bool = False) -> Any:
    """The value of a JSON text. Raises ValueError, in a sentence, for anything that is not plain and unambiguous JSON:
    damage, a repeated key, too deep a nesting, and numbers that no float holds.

    quick: for large texts whose values are checked where they are used, in half the time: the last of repeated keys
    counts, and floats may be infinite.
    """
    try:
        if quick:
            return json.loads(text)
        return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} in line {error.lineno})") from None


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:160] or type(error).__name__


def shown(path: object) -> str:
    """A path as messages have it: printable, and cut in its middle where it is very long."""
    text = str(path)
    text = text if text.isprintable() and text else repr(text)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-100:]}"


def _problem(descriptor: int, status: os.stat_result, kind: FileKind, most: int) -> str | None:
    """What is wrong with an open file, and the way out; None if it can be read."""
    if stat.S_ISDIR(status.st_mode):
        return f"cannot be read: it is a folder, not a {kind.noun}; {kind.instead}"
    if not stat.S_ISREG(status.st_mode):  # a pipe may never end
        return f"not a regular file but {_name_of_type(status.st_mode)}; save the {kind.noun} to a file first"
    if not status.st_size:
        return f"empty (0 bytes), not a {kind.noun}"
    if status.st_size > most:
        return f"{status.st_size:,} bytes is more than a {kind.noun} may have ({most:,})"
    if status.st_size >= SPARSE_FROM and (stored := _stored(descriptor, status.st_size)) * 2 < status.st_size:
        return (
            f"claims {status.st_size:,} bytes but holds {stored:,}: an incomplete download, or a sparse file; "
            f"get it again, or make it whole with cp --sparse=never"
        )
    return None


def _name_of_type(mode: int) -> str:
    tests = {"a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((name for name, test in tests.items() if test(mode)), "a device")


def _stored(descriptor: int, size: int) -> int:
    """Bytes of a file that are not holes, as far as its file system says."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    stored = position = 0
    try:
        for _ in range(MOST_EXTENTS):
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = os.lseek(descriptor, start, os.SEEK_HOLE)
            stored += position - start
            if position >= size:
                return stored
        return size
    except OSError as error:  # ENXIO: no data from here on; anything else: the file system does not know
        return stored if error.errno == errno.ENXIO else size
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def not_fetched(address: str) -> str:
    """Why a URL is refused, and how its file is had. The slashes of a Path, which makes one of two, do as well."""
    scheme, _, rest = address.partition(":")
    way = f" (`curl -LO {scheme}://{rest.lstrip('/')}`)" if scheme.lower() in FETCHED_BY_CURL else ""
    return f"nothing is fetched: download it first{way}, and give the file"


def _why_not_opened(path: object, error: Exception, kind: FileKind) -> str:
    if isinstance(error, FileNotFoundError):
        return not_fetched(text) if ADDRESS.match(text := str(path)) else kind.missing
    if isinstance(error, OSError):
        if error.errno == errno.ENXIO:
            return f"not a regular file but a socket; save the {kind.noun} to a file first"
        if isinstance(error, PermissionError) and os.path.isdir(str(path)):  # Windows opens no folder
            return f"cannot be read: it is a folder, not a {kind.noun}; {kind.instead}"
        return f"cannot be read ({reason(error)})"
    return f"{kind.missing} ({reason(error)})"  # a null character, or half of a surrogate pair


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"its JSON repeats the key {repeated[:80]!r}")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"its JSON has a number that no float holds ({text[:40]})")
    return number


def _whole(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"its JSON has a number of {len(text)} digits")
    return int(text)
