"""Limits: safe defaults, None for no limit, and a message that names what was found, the limit and the way out."""

from typing import Any

import pytest

from onnxcam.errors import OptionError
from onnxcam.limits import OPTIONS, SAFE, Limits, amount_of


def test_every_default_is_a_limit_and_none_is_none() -> None:
    for name in ("pixels", "seconds", "memory", "nodes", "depth"):
        assert SAFE.exceeded(name, 10**15)
        assert not SAFE.exceeded(name, getattr(SAFE, name))
        assert not Limits(**{name: None}).exceeded(name, 10**15)


@pytest.mark.parametrize("name", ["pixels", "seconds", "memory", "nodes", "depth"])
@pytest.mark.parametrize("value", [0, -1, "9", True, float("nan"), float("inf"), [1]])
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"the limit {name} is a"):
        Limits(**{name: value})


def test_seconds_may_be_a_fraction_and_counts_may_not() -> None:
    assert Limits(seconds=0.5).exceeded("seconds", 0.6)
    with pytest.raises(OptionError, match="whole number"):
        Limits(pixels=0.5)  # type: ignore[arg-type]


def test_the_way_out_names_the_limit_and_what_raises_it() -> None:
    for name in ("pixels", "seconds", "memory", "nodes", "depth"):
        text = SAFE.way_out(name)
        assert f"Limits({name}=...)" in text
        assert OPTIONS.get(name, "raise it with") in text
    assert SAFE.way_out("memory").startswith("the limit is 8 GiB;")
    assert Limits(pixels=1000).way_out("pixels").startswith("the limit is 1,000 pixels; raise it with --max-pixels or ")


def test_amounts_are_read_in_binary_units() -> None:
    assert [amount_of(n) for n in (0, 1023, 1536, 40 * 2**30, 2**52)] == [
        "0 bytes", "1023 bytes", "1.5 KiB", "40 GiB", "4096 TiB",
    ]  # fmt: skip
