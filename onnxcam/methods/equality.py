"""`same` compares two methods part by part, also where these are functions or hold arrays.

A method of another package is often made of closures. Each call of its maker builds new function objects, so `==` finds
no two of them equal. `same` compares what the functions do: their code and the values that they carry.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np


def same(one: object, other: object) -> bool:
    """Returns whether two values are equal. Functions are equal if code, defaults and enclosed values are.

    Returns False where it cannot tell, as for objects of a class without `__eq__`.
    """
    return _same(one, other, set())


def _same(one: object, other: object, open_pairs: set[tuple[int, int]]) -> bool:
    """open_pairs: ids of the pairs under comparison; a closure may hold itself, and such a pair adds no difference."""
    pair = (id(one), id(other))
    if one is other or pair in open_pairs:
        return True
    if type(one) is not type(other):
        return _equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    parts, other_parts = _parts(one), _parts(other)
    if parts is None or other_parts is None:
        return _equal(one, other)
    open_pairs.add(pair)
    try:
        return len(parts) == len(other_parts) and all(
            _same(a, b, open_pairs) for a, b in zip(parts, other_parts, strict=True)
        )
    finally:
        open_pairs.remove(pair)


def _equal(one: object, other: object) -> bool:
    result = one == other
    return isinstance(result, bool | np.bool_) and bool(result)


def _parts(value: Any) -> list[Any] | None:
    """The values that a value is made of; None for a value that is compared with `==`."""
    if isinstance(value, FunctionType):
        return [value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, value.__dict__]
    if isinstance(value, CellType):
        try:
            return [value.cell_contents]
        except ValueError:  # the cell of a variable that was never assigned
            return []
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, f.name) for f in fields(value)]
    if isinstance(value, Mapping):
        keys = sorted(value, key=repr)
        return [*keys, *(value[key] for key in keys)]
    return list(value) if isinstance(value, tuple | list) else None
