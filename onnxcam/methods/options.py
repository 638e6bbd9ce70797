"""Checks of option values: each function returns the value in its proper type or raises OptionError."""

from enum import StrEnum
from typing import TypeVar

import numpy as np

from onnxcam.errors import OptionError, near

Member = TypeVar("Member", bound=StrEnum)
LARGEST = 1e6
"""The largest value of an option that is a real number; beyond it float32 overflows somewhere."""


def choose(kind: type[Member], value: str, what: str) -> Member:
    """The member of the enumeration with that value. Raises OptionError that lists the names that come near."""
    try:
        return kind(value)
    except ValueError:
        raise OptionError(f"no {what} is called {value!r}; {near(str(value), [str(k) for k in kind])}") from None


def positive_integer(value: int, name: str, *, least: int = 1, most: int = 10**7) -> int:
    """A whole number from `least` to `most`."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value > most:
        raise OptionError(f"{name} must be at most {most}, not {value}")
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name} must be a whole number from {least} on, not {value!r}")
    return int(value)


def non_negative_integer(value: int, name: str) -> int:
    """A whole number from 0 on."""
    return positive_integer(value, name, least=0)


def positive_number(value: float, name: str) -> float:
    """A number above 0, LARGEST at most."""
    if not _finite(value) or value <= 0:
        raise OptionError(f"{name} must be above 0, not {value!r}")
    return _at_most_largest(value, name)


def non_negative_number(value: float, name: str) -> float:
    """A number from 0 on, LARGEST at most."""
    if not _finite(value) or value < 0:
        raise OptionError(f"{name} must be 0 or more, not {value!r}")
    return _at_most_largest(value, name)


def _finite(value: float) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _at_most_largest(value: float, name: str) -> float:
    if value > LARGEST:
        raise OptionError(f"{name} must be at most {LARGEST:g}, not {value!r}")
    return float(value)
