"""Option values: their checks, and the read-only mapping in which a method records them.

Each check returns the value in its proper type or raises OptionError.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from onnxcam.errors import OptionError, near
from onnxcam.limits import brief, is_number, is_whole

Member = TypeVar("Member", bound=StrEnum)
LARGEST = 1e6
"""The largest value of an option that is a real number; beyond it float32 overflows somewhere."""


class OptionValues(dict[str, Any]):
    """The options of a method by name: a dict, for JSON and pickle, that raises TypeError when it is changed.

    Lists become tuples and mappings become OptionValues, so that nothing inside can change either.
    """

    def __init__(self, values: Any = ()) -> None:
        super().__init__({name: _frozen(value) for name, value in dict(values).items()})

    def __reduce__(self) -> tuple[Callable[..., "OptionValues"], tuple[dict[str, Any]]]:
        return OptionValues, (dict(self),)

    def _refuse(self, *arguments: object, **named: object) -> NoReturn:
        raise TypeError("the options of a method do not change; make another method with onnxcam.method(name, ...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return OptionValues(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def choose(kind: type[Member], value: str, what: str) -> Member:
    """The member of the enumeration with that value. Raises OptionError that lists the names that come near."""
    try:
        return kind(value)
    except ValueError:
        raise OptionError(f"no {what} is called {brief(value)}; {near(brief(value), [str(k) for k in kind])}") from None


def positive_integer(value: int, name: str, *, least: int = 1, most: int = 10**7) -> int:
    """A whole number from `least` to `most`."""
    if is_whole(value) and value > most:
        raise OptionError(f"{name} must be at most {most}, not {brief(value)}")
    if not is_whole(value, least):
        raise OptionError(f"{name} must be a whole number from {least} on, not {brief(value)}")
    return int(value)


def non_negative_integer(value: int, name: str) -> int:
    """A whole number from 0 on."""
    return positive_integer(value, name, least=0)


def positive_number(value: float, name: str) -> float:
    """A number above 0, LARGEST at most."""
    if not is_number(value) or value <= 0:
        raise OptionError(f"{name} must be above 0, not {brief(value)}")
    return _at_most_largest(value, name)


def non_negative_number(value: float, name: str) -> float:
    """A number from 0 on, LARGEST at most."""
    if not is_number(value) or value < 0:
        raise OptionError(f"{name} must be 0 or more, not {brief(value)}")
    return _at_most_largest(value, name)


def _at_most_largest(value: float, name: str) -> float:
    if value > LARGEST:
        raise OptionError(f"{name} must be at most {LARGEST:g}, not {brief(value)}")
    return float(value)
