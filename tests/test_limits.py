"""Limits: safe defaults, None for no limit, and a message that names what was found, the limit and the way out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnxcam import Region, blur, opti_cam, read_picture, rise, score_cam, smooth_grad
from onnxcam.errors import OnnxCamError, OptionError, TargetError
from onnxcam.limits import OPTIONS, SAFE, Limits, amount_of, brief, is_number


def test_every_default_is_a_limit_and_none_is_none() -> None:
    for name in ("pixels", "seconds", "memory", "nodes", "depth"):
        assert SAFE.exceeded(name, 10**15)
        assert not SAFE.exceeded(name, getattr(SAFE, name))
        assert not Limits(**{name: None}).exceeded(name, 10**15)


@pytest.mark.parametrize("name", ["pixels", "seconds", "memory", "nodes", "depth"])
@pytest.mark.parametrize("value", [0, -1, "9", True, float("nan"), float("inf"), [1], -(10**400)])
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


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_no_float_holds_is_an_error_of_each_option_and_is_cut(digits: int) -> None:
    number: Any = 10**digits
    makes: dict[str, Callable[[], object]] = {
        "seconds": lambda: Limits(seconds=number),
        "tolerance": lambda: score_cam(tolerance=number),
        "noise": lambda: smooth_grad(noise=number),
        "masks": lambda: rise(masks=number),
        "blur": lambda: blur(number),
        "bounds": lambda: opti_cam(bounds=(0, number)),
        "window": lambda: read_picture(np.zeros((8, 8, 3), np.uint8), window=(0, number)),
        "region": lambda: Region(0, (0, 0, number, 1)),
    }
    for name, make in makes.items():
        with pytest.raises(OnnxCamError) as error:
            make()
        assert len(str(error.value)) < 400, name


def test_numbers_are_those_that_a_float_holds() -> None:
    assert all(map(is_number, (0, -1, 2.5, np.float32(1), np.int64(3), 10**300)))
    assert not any(
        map(is_number, (True, np.True_, float("nan"), float("-inf"), 10**400, "1", None, [1], 1j, np.zeros(1)))
    )
    assert brief(10**5000) == "a number of thousands of digits"


def test_the_mask_of_a_region_is_finite() -> None:
    with pytest.raises(TargetError, match="NaN"):
        Region(0, np.full((8, 8), np.nan))
    Region(0, (0, 0, float("inf"), 5))
