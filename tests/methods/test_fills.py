"""Fills: their names, their numbers, and what is refused."""

import pickle
from typing import Any

import numpy as np
import pytest
from tiny import IMAGE, explained, model

from onnxcam.errors import OptionError
from onnxcam.inputs.presets import preset_named
from onnxcam.methods.fills import BLACK, FILLS, MEAN, ZERO, Fill, blur, fill_named
from onnxcam.methods.score_cam import score_cam

FILL_VALUES = [ZERO, BLACK, MEAN, blur(), blur(3), blur(0.125), blur(1 / 3), blur(12345678.5)]


@pytest.mark.parametrize("fill", FILL_VALUES, ids=lambda f: f.name)
def test_a_fill_is_made_again_from_its_name_and_from_a_pickle(fill: Fill) -> None:
    assert fill_named(fill.name) == fill == pickle.loads(pickle.dumps(fill))
    assert pickle.loads(pickle.dumps(fill)).needs_preset == (fill is BLACK)
    if fill.make is not None and fill.name != "blur(sigma=12345678.5)":
        again = fill_named(fill.name).make
        assert again is not None
        np.testing.assert_array_equal(
            again(IMAGE, preset_named("imagenet")), fill.make(IMAGE, preset_named("imagenet"))
        )


def test_short_names_of_fills_and_names_that_are_none() -> None:
    assert {name: fill_named(name) for name in FILLS} == {"zero": ZERO, "black": BLACK, "mean": MEAN, "blur": blur(10)}
    assert fill_named("blur(3)") == fill_named("blur(sigma=3.0)") == blur(3)
    for name, message in (("blurr", "did you mean blur"), ("blur(sigma=x)", "'x'"), ("blur(sigma=0)", "above 0")):
        with pytest.raises(OptionError, match=message):
            fill_named(name)


def test_a_number_of_any_type_is_a_sigma_and_nothing_else_is() -> None:
    for sigma in (np.float32(0.1), np.float64(1 / 3), np.int64(3)):
        assert fill_named(blur(sigma).name) == blur(sigma)
    for value in ("x", "3", None, True, [1], 0, -1, float("nan")):
        with pytest.raises(OptionError, match="sigma above 0"):
            blur(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (3, "'odd' is made by a function of image and preset, not by 3"),
        (lambda image, preset: None, "'odd' returned NoneType, not an array"),
        (lambda image, preset: image[:1], r"'odd' returned the shape \(1, "),
    ],
)
def test_a_fill_that_makes_no_image_is_an_option_error(make: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        explained(model(), score_cam(fill=Fill("odd", make)))
