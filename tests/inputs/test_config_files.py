"""Presets and labels of the files that timm and NVIDIA's TAO write beside a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PresetError
from onnxcam.inputs.labels import find_labels
from onnxcam.inputs.nvinfer_config import from_nvinfer
from onnxcam.inputs.preprocess import apply
from onnxcam.inputs.presets import IMAGENET_MEAN, IMAGENET_STD
from onnxcam.inputs.processor_config import find_preset
from onnxcam.inputs.timm_config import from_timm
from onnxcam.types import Source

RESNET: dict[str, Any] = {
    "input_size": [3, 224, 224],
    "test_input_size": [3, 288, 288],
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "test_crop_pct": 1.0,
    "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "num_classes": 3,
}
"""What timm says of its resnet50.a1_in1k."""
PICTURE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
TAO = """[property]
net-scale-factor=0.017507
offsets=103.939;116.779;123.68
model-color-format=1
infer-dims=3;224;224
maintain-aspect-ratio=0
"""


def timm(**changes: Any) -> dict[str, Any]:
    return {"architecture": "resnet50", "num_classes": 3, "pretrained_cfg": {**RESNET, **changes}}


def test_timms_configuration_is_its_evaluation_transform() -> None:
    preset = from_timm(timm())
    assert (preset.scale, preset.mean, preset.std) == (1 / 255, IMAGENET_MEAN, IMAGENET_STD)
    assert (preset.size, preset.resize, preset.crop, preset.interpolation) == ((224, 224), "shortest", 0.95, "bicubic")


def test_timms_numbers_are_those_of_pillow_by_hand() -> None:
    preset = from_timm(timm(input_size=[3, 32, 32], crop_pct=0.9))
    image, _ = apply(PICTURE, preset, (32, 32), 3)
    resized = Image.fromarray(PICTURE).resize((46, 35), Image.Resampling.BICUBIC)  # floor(32 / 0.9) = 35
    cut = np.asarray(resized.crop((7, 2, 39, 34)), np.float64)  # margins 14 / 2 and 3 / 2, half to even
    expected = (np.moveaxis(cut, 2, 0) / 255 - np.reshape(IMAGENET_MEAN, (3, 1, 1))) / np.reshape(
        IMAGENET_STD, (3, 1, 1)
    )
    np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sides", "size", "crop"),
    [((224, 224), (224, 224), 0.95), ((288, 288), (288, 288), 1.0), ((None, None), (224, 224), 0.95)],
)
def test_the_size_for_testing_is_taken_where_the_model_has_it(
    sides: tuple[int | None, ...], size: tuple[int, int], crop: float
) -> None:
    preset = from_timm(timm(), sides)
    assert (preset.size, preset.crop) == (size, crop)


def test_timms_modes_of_cropping() -> None:
    assert from_timm(timm(crop_mode="squash")).resize == "squash"
    border = from_timm(timm(crop_mode="border", crop_pct=1.0))
    assert (border.resize, border.padding) == ("letterbox", (124.0, 116.0, 104.0))


def test_what_is_left_out_is_timms_default() -> None:
    preset = from_timm({"architecture": "x", "pretrained_cfg": {"input_size": [3, 240, 240]}})
    assert (preset.crop, preset.mean, preset.interpolation, preset.resize) == (
        0.875,
        IMAGENET_MEAN,
        "bicubic",
        "shortest",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_mode": "ring"},
        {"crop_pct": 1.2},
        {"crop_mode": "border"},
        {"interpolation": "random"},
        {"mean": "imagenet"},
        {"std": [0.0, 0.0, 0.0]},
        {"input_size": [224]},
        {"input_size": [3, "a", 224]},
    ],
)
def test_what_a_preset_cannot_express_is_refused_with_the_file_and_the_way_out(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(timm(**changes)))
    with pytest.raises(PresetError, match=r"config\.json.*--preset"):
        find_preset({}, tmp_path / "m.onnx")


@pytest.mark.parametrize("form", ["pretrained_cfg", "flat", "processor"])
def test_timms_file_is_known_by_its_content(tmp_path: Path, form: str) -> None:
    values = {"architecture": "resnet50", **RESNET} if form == "flat" else timm()
    name = "config.json"
    if form == "processor":
        name, values = "preprocessor_config.json", {"image_processor_type": "TimmWrapperImageProcessor", **values}
    (tmp_path / name).write_text(json.dumps(values))
    beside = find_preset({}, tmp_path / "m.onnx", (288, 288))
    assert beside is not None
    preset, origin = beside
    assert (preset.name, preset.size) == ("timm-config", (288, 288))
    assert (origin.source, origin.text) == (Source.CONFIG_FILE, f"{name} beside the model")


@pytest.mark.parametrize("text", ["{", "[]", '{"architectures": ["ViT"], "id2label": {"0": "a"}}', '{"mean": [1]}'])
def test_another_config_says_nothing_of_preprocessing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert find_preset({}, tmp_path / "m.onnx") is None


def test_a_preprocessor_config_goes_before_timms(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(timm()))
    processor = {"image_mean": [0.5], "image_std": [0.5], "size": 64}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    beside = find_preset({}, tmp_path / "m.onnx")
    assert beside is not None
    assert beside[0].mean == (0.5,)


@pytest.mark.parametrize("inside", [True, False])
def test_timms_labels_are_the_descriptions_of_its_names(tmp_path: Path, inside: bool) -> None:
    names = {"label_names": ["n01", "n02", "n03"], "label_descriptions": {"n01": "tench", "n03": "shark"}}
    values = timm(**names) if inside else {**timm(), **names}
    (tmp_path / "config.json").write_text(json.dumps(values))
    labels = find_labels({}, tmp_path / "m.onnx")
    assert labels is not None
    assert labels[0] == ["tench", "n02", "shark"]
    (tmp_path / "config.json").write_text(json.dumps(timm()))
    assert find_labels({}, tmp_path / "m.onnx") is None


def test_tao_takes_off_means_before_it_scales(tmp_path: Path) -> None:
    (tmp_path / "nvinfer_config.txt").write_text(TAO)
    beside = find_preset({}, tmp_path / "m.onnx")
    assert beside is not None
    preset, origin = beside
    assert (preset.color, preset.size, preset.resize, origin.source) == (
        "bgr",
        (224, 224),
        "squash",
        Source.CONFIG_FILE,
    )
    image, _ = apply(PICTURE, preset, (90, 120), 3)
    swapped = np.moveaxis(PICTURE[..., ::-1], 2, 0).astype(np.float64)
    expected = 0.017507 * (swapped - np.reshape([103.939, 116.779, 123.68], (3, 1, 1)))
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_taos_ratio_and_padding() -> None:
    kept = TAO.replace("ratio=0", "ratio=1")
    assert from_nvinfer(kept).resize == "letterbox-corner"
    centred = from_nvinfer(kept + "symmetric-padding=1\n")
    assert (centred.resize, centred.padding) == ("letterbox", (0.0,))
    plain = from_nvinfer("net-scale-factor=0.0039215697906911373\n")
    assert (plain.mean, plain.color, plain.size) == ((0.0,), "rgb", None)
    assert plain.scale / plain.std[0] == pytest.approx(1 / 255, rel=1e-5)


@pytest.mark.parametrize(
    "text",
    ["", "num-detected-classes=4", "net-scale-factor=0", "net-scale-factor=x", "offsets=1;b;3",
     "offsets=1\nmodel-color-format=7", "offsets=1\ninfer-dims=3;4"],
)  # fmt: skip
def test_a_damaged_nvinfer_config_names_itself_and_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "nvinfer_config.txt").write_text(text)
    with pytest.raises(PresetError, match=r"nvinfer_config\.txt.*--preset"):
        find_preset({}, tmp_path / "m.onnx")
