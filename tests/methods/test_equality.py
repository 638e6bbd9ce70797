"""Functions are the same if their code and the values that they carry are."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from onnxcam.methods.equality import same


def enclosing(value: object) -> Callable[..., Any]:
    return lambda probe: value


def with_default(value: object) -> Callable[..., Any]:
    return lambda probe, power=value: power


def with_keyword_default(value: object) -> Callable[..., Any]:
    return lambda probe, *, power=value: power


def nested(value: object) -> Callable[..., Any]:
    return enclosing([enclosing({"a": (value,)})])


def recursive(value: object) -> Callable[..., Any]:
    def count(n: int) -> object:
        return count(n - 1) if n else value

    return count


def in_partial(value: object) -> Callable[..., Any]:
    return partial(enclosing(0), power=value)


@pytest.mark.parametrize("function", [enclosing, with_default, with_keyword_default, nested, recursive, in_partial])
@pytest.mark.parametrize(("value", "equal", "other"), [(1, 1, 2), (np.arange(3), np.arange(3), np.arange(3.0))])
def test_functions_are_the_same_if_the_values_they_carry_are(
    function: Callable[[object], object], value: object, equal: object, other: object
) -> None:
    assert same(function(value), function(equal))
    assert not same(function(value), function(other))
