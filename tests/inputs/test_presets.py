"""Presets: values, JSON, overriding, and words that become numbers."""

from pathlib import Path

import numpy as np
import pytest

from onnxcam.errors import PresetError
from onnxcam.inputs.presets import (
    PRESETS,
    Preset,
    override,
    parse_crop,
    parse_numbers,
    parse_scale,
    parse_size,
    preset_named,
    whole,
)


@pytest.mark.parametrize("value", [1e99, 256.0, -1.0, float("nan"), float("inf")])
def test_a_padding_that_is_no_pixel_is_called_one(value: float) -> None:
    with pytest.raises(PresetError, match="padding is a pixel from 0 to 255"):
        override(PRESETS["imagenet"], padding=(value,))


@pytest.mark.parametrize("name", PRESETS)
def test_json_there_and_back_is_the_same_preset(name: str) -> None:
    import json

    assert Preset.from_json(json.loads(json.dumps(PRESETS[name].to_json()))) == PRESETS[name]


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"name": "x"},
        {"name": "x", "scale": 1, "mean": [0], "std": [0]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "colour": "rgb"},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "color": "cmyk"},
        {"name": "x", "scale": 1, "mean": [0, 1], "std": [1, 1, 1]},
        {"name": "x", "scale": 1, "mean": [], "std": [1]},
        {"name": "x", "scale": float("nan"), "mean": [0], "std": [1]},
        {"name": "x", "scale": "1", "mean": [0], "std": [1]},
        {"name": "x", "scale": 1, "mean": 0, "std": 1},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "crop": 0},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": [0, 4]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": 4},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": [4, True]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": [4.0, 4]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": [4, 4, 4]},
        {"name": "x", "scale": True, "mean": [0], "std": [1]},
        {"name": "x", "scale": None, "mean": [0], "std": [1]},
        {"name": "x", "scale": 10**400, "mean": [0], "std": [1]},
        {"name": "x", "scale": 1e30, "mean": [0], "std": [1e-30]},
        {"name": "x", "scale": 1, "mean": "0", "std": [1]},
        {"name": "x", "scale": 1, "mean": ["0"], "std": [1]},
        {"name": "x", "scale": 1, "mean": [[0]], "std": [1]},
        {"name": "x", "scale": 1, "mean": {}, "std": [1]},
        {"name": 5, "scale": 1, "mean": [0], "std": [1]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "color": ["rgb"]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "color": np.zeros(2)},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "resize": np.zeros(2)},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "interpolation": np.array(["bicubic", "nearest"])},
        {"name": "x", "scale": 1, "mean": np.zeros(3), "std": [1]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "crop": np.zeros(2)},
        {"name": "x", "scale": np.zeros(2), "mean": [0], "std": [1]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "size": np.zeros(2)},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "resize": "letterbox"},  # its crop would be 0.875
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": 114},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": []},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": [256]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": [-1]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": [float("nan")]},
        {"name": "x", "scale": 1, "mean": [0, 0, 0], "std": [1], "padding": [1, 2]},
        {"name": "x", "scale": 1, "mean": [0], "std": [1], "padding": np.zeros(3)},
        {"name": np.zeros(2), "scale": 1, "mean": [0], "std": [1]},
    ],
)
def test_what_is_no_preset_is_refused(values: object) -> None:
    with pytest.raises(PresetError):
        Preset.from_json(values)


def test_overriding_names_itself_once() -> None:
    once = override(PRESETS["imagenet"], mean=(0.5,), std=(0.5,))
    assert once.name == "imagenet+custom"
    assert once.mean == (0.5,)
    assert override(once, crop=1.0).name == "imagenet+custom"
    assert override(PRESETS["imagenet"], scale=1 / 255, size=None) is PRESETS["imagenet"]
    assert override(PRESETS["imagenet"], resize="letterbox").crop == 1.0
    assert override(PRESETS["ultralytics"], resize="letterbox") is PRESETS["ultralytics"]
    with pytest.raises(PresetError, match="a letterbox shows the whole picture"):
        override(PRESETS["imagenet"], resize="letterbox", crop=0.9)
    assert override(PRESETS["imagenet"], size=(96, 64)).size == (96, 64)
    with pytest.raises(PresetError, match="color 'rbg' is unknown; did you mean rgb"):
        override(PRESETS["imagenet"], color="rbg")


def test_words_become_numbers() -> None:
    assert parse_numbers("0.485, 0.456,1/2") == (0.485, 0.456, 0.5)
    assert parse_scale("1/255") == 1 / 255
    assert parse_size("224") == (224,)
    assert parse_size("240x192") == (240, 192)
    assert parse_size("8x48x48") == (8, 48, 48)
    assert parse_crop("none") == 1
    assert parse_crop("0.875") == 0.875


@pytest.mark.parametrize("text", ["", "a", "1/0", "1/", "nan", "inf", "1,,2", "1/2/3", "1_0", "1" * 400])
def test_nonsense_numbers_are_refused(text: str) -> None:
    with pytest.raises(PresetError, match="number"):
        parse_numbers(text)


@pytest.mark.parametrize("text", ["", "x", "0", "-3", "1.5", "20000", "2x3x4x5", "10x", "1" * 5000, "²"])
def test_nonsense_sizes_are_refused(text: str) -> None:
    with pytest.raises(PresetError):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "1.1", "-0.5", "half"])
def test_nonsense_crops_are_refused(text: str) -> None:
    with pytest.raises(PresetError):
        parse_crop(text)


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(PresetError, match="did you mean keras-caffe"):
        preset_named("keras-cafe")


def test_the_whole_picture_is_squashed_or_stays_in_its_letterbox() -> None:
    assert (whole(PRESETS["imagenet"]).crop, whole(PRESETS["imagenet"]).resize) == (1.0, "squash")
    assert whole(PRESETS["imagenet"]).mean == PRESETS["imagenet"].mean
    for name in ("ultralytics", "yolox", "unit"):
        assert whole(PRESETS[name]) is PRESETS[name]


def test_the_table_of_the_documentation_holds_the_numbers_of_every_preset() -> None:
    page = Path(__file__).parents[2] / "docs" / "preprocessing.md"
    rows = [line.split("|")[1:-1] for line in page.read_text().splitlines() if line.startswith("| `")]
    table = {cells[0].strip(" `"): [cell.strip() for cell in cells] for cells in rows if len(cells) == 7}
    del table["--preset"]
    assert set(table) == set(PRESETS)
    for name, (_, _, scale, mean, std, order, fitted) in table.items():
        preset = PRESETS[name]
        assert parse_scale(scale) == preset.scale
        assert [float(number) for number in mean.split()] == pytest.approx(preset.mean, abs=5e-5)
        assert [float(number) for number in std.split()] == pytest.approx(preset.std, abs=5e-5)
        assert order == preset.color
        assert fitted.split(",")[0].split(" ")[0] == {"shortest": "centre"}.get(
            preset.resize, preset.resize.split("-")[0]
        )
        assert (".875" in fitted) == (preset.crop == 0.875)
        assert ("upper left" in fitted, "OpenCV" in fitted, "bicubic" in fitted) == (
            preset.resize == "letterbox-corner", preset.interpolation == "cv2-linear", preset.interpolation == "bicubic",
        )  # fmt: skip
