"""Values as JSON and arrays, and back: what an isolated process sends and what a stored opening holds, never pickled.

The process has run a stranger's model. So what it sends is read by the types of the dataclasses that are expected:
numbers, texts, enumerations, arrays of numbers. Anything else is refused.
"""

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OnnxCamError

LARGEST_TEXT = 2**26
"""Bytes of the JSON of one message."""
MOST_AXES, LONGEST_SIDE = 8, 2**40
ARRAY = "array"
NUMBERS = re.compile(r"[<>|][fiub][0-9]{1,2}")
"""Types of numbers, as dtype.str has them."""
HEADER = struct.Struct("<Q")


class DamagedData(ValueError):
    """Something other than what was expected."""


def packed(value: Any) -> list[bytes]:
    """The parts of one message: the length of its JSON, the JSON, the arrays. Raises TypeError for other values."""
    arrays: list[npt.NDArray[Any]] = []
    text = json.dumps(_plain(value, arrays)).encode("ascii")
    return [HEADER.pack(len(text)), text, *(array.tobytes() for array in arrays)]


def unpacked(hint: Any, read: Callable[[int], bytearray], most: int | None = None) -> Any:
    """Reads a message of a value of this type. read: gives the next bytes. most: bytes of all arrays, None for any.

    Raises DamagedData, and what `read` raises.
    """
    (length,) = HEADER.unpack(read(HEADER.size))
    if length > LARGEST_TEXT:
        raise DamagedData(f"a message of {length} bytes")
    try:
        value = json.loads(read(length))
    except (ValueError, RecursionError) as error:
        raise DamagedData("a message that is not JSON") from error
    try:
        return _Reader(read, most)(value, hint)
    except DamagedData:
        raise
    except (ArithmeticError, AttributeError, LookupError, OnnxCamError, RecursionError, TypeError, ValueError) as error:
        raise DamagedData(f"a value that {getattr(hint, '__name__', hint)} does not have") from error


def _plain(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        arrays.append(np.ascontiguousarray(value))
        return {ARRAY: [value.dtype.str, *value.shape]}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, arrays) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} is no plain data")


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


class _Reader:
    """Makes values of the types that are expected. read, most: as unpacked() takes them."""

    def __init__(self, read: Callable[[int], bytearray], most: int | None) -> None:
        self._read, self._left = read, most

    def __call__(self, value: Any, hint: Any) -> Any:
        """The value, read as this type. Raises DamagedData."""
        origin, arms = _origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return self._one_of(value, arms)
        if origin is np.ndarray:
            return self._array(value)
        if origin is Literal and value in arms:
            return value
        if origin in (list, Sequence) and isinstance(value, list):
            return tuple(self(item, arms[0]) for item in value)
        if origin is tuple and isinstance(value, list):
            kinds = arms[:1] * len(value) if arms[1:] == (...,) else arms
            if len(kinds) == len(value):
                return tuple(self(item, kind) for item, kind in zip(value, kinds, strict=True))
        if origin is Mapping and isinstance(value, dict):
            return {key: self(item, arms[1]) for key, item in value.items()}
        if isinstance(hint, type) and is_dataclass(hint):
            return self._dataclass(value, hint)
        if hint is Any:
            return _tuples(value)
        return _scalar(value, hint)

    def _one_of(self, value: Any, arms: tuple[Any, ...]) -> Any:
        if value is None:
            return self(value, NoneType)
        for arm in arms:
            if arm is not NoneType and _may_be(value, arm):
                return self(value, arm)
        raise DamagedData(f"a {type(value).__name__} for one of {arms}")

    def _dataclass(self, value: Any, kind: type) -> Any:
        hints = _hints(kind)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise DamagedData(f"not the fields of {kind.__name__}")
        return kind(**{name: self(value[name], hint) for name, hint in hints.items()})  # in the order of their arrays

    def _array(self, value: Any) -> npt.NDArray[Any]:
        match value:
            case {"array": [str(text), *sides]} if len(sides) <= MOST_AXES and all(map(_is_side, sides)):
                pass
            case _:
                raise DamagedData("no array")
        if NUMBERS.fullmatch(text) is None:
            raise DamagedData("an array of an unknown type")
        dtype = np.dtype(text)
        size = dtype.itemsize
        for side in sides:
            size *= side
        if self._left is not None and size > self._left:
            raise DamagedData(f"an array of {size} bytes of type {dtype}")
        self._left = None if self._left is None else self._left - size
        return np.frombuffer(self._read(size), dtype).reshape(sides)


def _origin(hint: Any) -> Any:
    """What a type is of, through aliases: from Python 3.12, numpy's NDArray is one of those that `type` makes."""
    origin = get_origin(hint) or hint
    while hasattr(origin, "__value__"):
        origin = get_origin(origin.__value__) or origin.__value__
    return origin


def _may_be(value: Any, hint: Any) -> bool:
    """Whether a value can be of this type, by its outermost part."""
    origin = _origin(hint)
    if origin is np.ndarray:
        return isinstance(value, dict) and set(value) == {ARRAY}
    if isinstance(value, dict):
        return origin is Mapping or is_dataclass(origin)
    if isinstance(value, list):
        return origin in (tuple, list, Sequence)
    return type(value) is origin or (origin is float and type(value) is int) or (type(value) is str and _is_enum(hint))


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LONGEST_SIDE


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _scalar(value: Any, hint: Any) -> Any:
    if _is_enum(hint):
        try:
            return hint(value)
        except ValueError as error:
            raise DamagedData(f"no {hint.__name__}") from error
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint or (hint is NoneType and value is None):
        return value
    raise DamagedData(f"a {type(value).__name__} in place of {hint}")


def _tuples(value: Any) -> Any:
    """A plain value with tuples for lists, as options of methods have them."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
