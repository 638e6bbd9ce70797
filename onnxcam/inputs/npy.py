"""Reads .npy files without NumPy's own reader, which runs Python's tokenizer on the header and fails in many ways.

The header is a dict of three entries, and the shape that it claims must fit into the bytes that are there. Only plain
numbers are read: no pickles, records, text, times or complex numbers.
"""

import ast
import math
import re
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError
from onnxcam.files import ARRAY, read_exactly, reason
from onnxcam.inputs.pixel_limit import check_shape
from onnxcam.limits import SAFE, Limits

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000
"""Bytes, as NumPy has it; a header of numbers has about a hundred."""
_ENTRIES = {"descr", "fortran_order", "shape"}
_MOST_AXES = 32
_TYPE = re.compile(r"[<>|=]?([fiub])([0-9]{1,2})|\?", re.ASCII)
_HEADER = re.compile(r"[\w\s{}()\[\],:'\"<>|=?.+-]*", re.ASCII)
_ODD_NUMBER = re.compile(r"[0-9][a-zA-Z_]")
"""A digit before a letter: in no header, and Python may warn of it, as in 1if."""
_LONG = re.compile(r"\b([0-9]+)L\b")
"""How Python 2 wrote a whole number."""


def read_npy(file: BinaryIO, name: str, limits: Limits = SAFE) -> npt.NDArray[Any]:
    """The numbers of a file that stands at its start. What follows them is not read, as by NumPy.

    Raises PictureError, in a sentence, for a header that is damaged or does not describe plain numbers, for a shape
    that needs more bytes than there are, and for one beyond the limit of pixels.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = read_exactly(file, min(size, 12), name, ARRAY)
    if start[:4] == b"PK\3\4":
        raise PictureError(f"{name}: an .npz archive of several arrays; save the one to use with numpy.save")
    if start[:6] != MAGIC or len(start) < 12:
        raise _damaged(name, "it does not begin as one")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise _damaged(name, f"version {version[0]}.{version[1]} is unknown")
    begin = 10 if version == (1, 0) else 12
    (length,) = struct.unpack("<H" if version == (1, 0) else "<I", start[8:begin])
    if length > min(_LONGEST_HEADER, size - begin):
        raise _damaged(name, f"its header of {length} bytes is too long")
    file.seek(begin)
    dtype, fortran, shape = _described(read_exactly(file, length, name, ARRAY), version, name)
    count = math.prod(shape)
    if not count:
        raise PictureError(f"{name}: the array of shape {_short(shape)} is empty")
    needed, held = count * dtype.itemsize, size - begin - length
    if needed > held:
        raise _damaged(name, f"its shape {_short(shape)} of {dtype} needs {_short(needed)} bytes, and {held} are there")
    check_shape(shape, dtype.itemsize, name, limits)
    numbers = np.frombuffer(_content(file, needed, name), np.uint8 if dtype.kind == "b" else dtype)
    numbers = numbers != 0 if dtype.kind == "b" else numbers
    return numbers.reshape(shape[::-1]).T if fortran else numbers.reshape(shape)


def _content(file: BinaryIO, size: int, name: str) -> bytearray:
    """So many bytes, which an array may share and change."""
    try:
        data = bytearray(size)
        read = file.readinto(data)  # type: ignore[attr-defined]
    except OSError as error:
        raise PictureError(f"{name}: cannot be read ({reason(error)})") from None
    except MemoryError:
        raise PictureError(f"{name}: {size:,} bytes do not fit into memory; make the array smaller") from None
    if read != size:
        raise _damaged(name, "it changed while it was read")
    return data


def _described(header: bytes, version: tuple[int, int], name: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """(the type of a number, whether the first axis runs fastest, the shape) of a header."""
    text = header.decode("latin-1")
    text = text.strip(" \t\r\n")
    if version < (3, 0):  # which Python 2 did not write
        text = _LONG.sub(r"\1", text)
    if not _HEADER.fullmatch(text) or _ODD_NUMBER.search(text):
        raise _damaged(name, "its header is no description of numbers")
    try:
        values = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise _damaged(name, "its header cannot be read") from None
    if not isinstance(values, dict) or set(values) != _ENTRIES or any(text.count(entry) > 1 for entry in _ENTRIES):
        raise _damaged(name, "its header has other entries than descr, fortran_order and shape")
    kind, fortran, shape = values["descr"], values["fortran_order"], values["shape"]
    if not isinstance(fortran, bool) or not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
        raise _damaged(name, "its header names no shape and order")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise _damaged(name, f"its shape is {_short(shape)}")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise PictureError(f"{name}: an .npy array of numbers is needed, not one of {_short(kind)}")
    try:
        return np.dtype(kind), fortran, shape
    except TypeError:  # f3, or a size that this machine does not have
        raise PictureError(f"{name}: an .npy array of numbers is needed, and {kind} is none here") from None


def _damaged(name: str, why: str) -> PictureError:
    return PictureError(f"{name}: not an .npy array of numbers, or a damaged one ({why}); save it with numpy.save")


def _short(value: object) -> str:
    try:
        text = str(value)
    except ValueError:  # a whole number of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 80 else text[:80] + "..."
