"""Where a picture's bytes come from: a path, the content of a file, an open file. Nothing is ever fetched.

`opened` gives a source as a file that can be rewound, `name_of` what messages and results call it.
"""

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, TypeGuard

from onnxcam.errors import PictureError
from onnxcam.files import ADDRESS, PICTURE, FileKind, is_device, not_fetched, open_regular, read_stream
from onnxcam.files import reason as reason
from onnxcam.inputs.deadlines import Timed
from onnxcam.inputs.pixel_limit import most_bytes
from onnxcam.limits import SAFE, Limits

FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, or what stands in a file: its bytes, or the file opened for reading bytes."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, and a BigTIFF."""

START = 2**24
"""Bytes of an open file that are read before it has to be a picture."""
BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"P", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP", *TIFF)

UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What open files raise: closed ones, those opened for writing, and those of damaged archives."""


def is_file_source(source: object) -> TypeGuard[FileSource]:
    """Whether this names or holds a file: a path, bytes, or an open file. A memoryview of numbers is an array."""
    if isinstance(source, memoryview):
        try:
            return source.ndim == 1 and source.format in ("B", "b", "c")
        except ValueError:
            raise PictureError("<bytes>: the memoryview was released; give it before that") from None
    return isinstance(source, str | os.PathLike | bytes | bytearray) or callable(getattr(source, "read", None))


def name_of(source: FileSource) -> str:
    """What messages call the source: its path, printable; '<bytes>' or '<file>' where it has none."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    name = path_of(source) if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    if not isinstance(name, str):  # of a file in memory, or of one that has a number only
        return "<file>"
    return name if name.isprintable() and name else repr(name)


def is_stand_in(name: str) -> bool:
    """Whether a picture is called this because it has no name: '<bytes>', '<file>', '<array 3x224x224>'."""
    return name.startswith("<") and name.endswith(">")


def path_of(source: str | os.PathLike[str]) -> str:
    """A path as text. Raises PictureError for an object that says it is one and gives none."""
    try:
        return os.fsdecode(source)
    except (TypeError, ValueError) as error:
        raise PictureError(f"{type(source).__name__}: gives no path ({reason(error)}); give it as text") from None


def starts_with(file: BinaryIO, start: bytes, name: str) -> bool:
    """Whether an open file that can be rewound begins so; it is rewound. Raises PictureError if it cannot be read."""
    try:
        if not (callable(seekable := getattr(file, "seekable", None)) and seekable()):
            return False
        file.seek(0)
        content = file.read(len(start))
        file.seek(0)
    except UNREADABLE as error:  # closed, or not opened for reading
        raise PictureError(f"{name}: the open file cannot be read ({reason(error)})") from error
    return bool(content == start)


@contextmanager
def fitting(name: str) -> Iterator[None]:
    """Makes PictureError of a picture for which the memory does not suffice."""
    try:
        yield
    except MemoryError:
        raise PictureError(f"{name}: does not fit into memory; make it smaller first") from None


def check_address(source: object) -> None:
    """Raises PictureError for a URL."""
    if isinstance(source, str | os.PathLike) and ADDRESS.match(text := path_of(source)) and not os.path.lexists(text):
        shown = text if len(text) <= 100 else f"{text[:100]}..."
        raise PictureError(f"{shown}: {not_fetched(shown)} or its bytes")


@contextmanager
def opened(source: FileSource, name: str, kind: FileKind = PICTURE, limits: Limits = SAFE) -> Iterator[BinaryIO]:
    """The source as a file that can be rewound. A file that the caller opened is read from its start, and stays open.

    Raises PictureError for what is missing, empty, no regular file, too large, or gives no bytes. Of an open file,
    which may never end, as much is read as a picture within the limit of pixels has, for the limit of seconds.
    """
    if isinstance(source, str | os.PathLike):
        check_address(source)
        with open_regular(source, kind, name=name) as file:
            yield file
        return
    is_stream = not isinstance(source, bytes | bytearray | memoryview)
    most = most_bytes(limits, kind.most) if is_stream else kind.most
    content = source if isinstance(source, bytes | bytearray | memoryview) else _content(source, name, kind, limits)
    if not len(content):
        raise PictureError(f"{name}: empty (0 bytes)")
    if len(content) > most:
        way = f"; {limits.way_out('pixels')}" if most < kind.most else ""
        raise PictureError(f"{name}: more than {most:,} bytes, which no {kind.noun} may have{way}")
    yield BytesIO(bytes(content))  # a memoryview may leave out bytes


def _begins_as_a_picture(content: bytes) -> bool:
    """Whether the first bytes are those of a format that is read; a DICOM file without its mark is none."""
    return content.startswith(BEGINNINGS) or content[4:8] == b"ftyp" or content[128:132] == b"DICM"


def _content(file: BinaryIO, name: str, kind: FileKind, limits: Limits) -> bytes:
    """All bytes of an open file, or one more than it may have; only START of what does not begin as a picture."""
    if is_device(file):
        raise PictureError(f"{name}: the open file is a device or a folder; save the {kind.noun} to a file first")
    try:
        if callable(seekable := getattr(file, "seekable", None)) and seekable():
            file.seek(0)
        clock, most = Timed(file, name, limits), most_bytes(limits, kind.most)
        content = read_stream(clock, min(START, most))
        if isinstance(content, bytes) and START < len(content) <= most:
            if kind is PICTURE and not _begins_as_a_picture(content):
                raise PictureError(f"{name}: not a picture, and more than {START:,} bytes; give a picture's own bytes")
            content = read_stream(clock, most, content)
    except UNREADABLE as error:
        raise PictureError(f"{name}: the open file cannot be read ({reason(error)})") from error
    if callable(close := getattr(content, "close", None)):  # a coroutine: unawaited, it would warn
        close()
    if not isinstance(content, bytes | bytearray | memoryview):
        hint = "open it with 'rb'" if isinstance(content, str) else "give the bytes themselves"
        raise PictureError(f"{name}: read() gives {type(content).__name__}, not bytes; {hint}")
    return bytes(content)
