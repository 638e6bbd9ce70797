"""Presets that travel with a model."""

import json
from pathlib import Path

import pytest

from onnxcam.errors import PresetError
from onnxcam.inputs.presets import PRESETS
from onnxcam.inputs.processor_config import find_preset, from_hugging_face
from onnxcam.types import Origin, Source

MEAN = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("config", "size", "resize", "crop", "interpolation"),
    [
        ({"size": {"height": 224, "width": 224}, "resample": 2}, (224, 224), "squash", 1.0, "bilinear"),  # ViT
        ({"size": 224, "resample": 2}, (224, 224), "squash", 1.0, "bilinear"),  # ViT, older
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, (224, 224), "shortest", 0.875, "bicubic"),
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0, "resample": 3}, (384, 384), "squash", 1.0, "bicubic"),
        (  # DeiT, BiT
            {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224),
            "squash",
            0.875,
            "bilinear",
        ),
        (  # MobileNet, CLIP
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "resample": 3},
            (224, 224),
            "shortest",
            0.875,
            "bicubic",
        ),
    ],
)
def test_hugging_face_geometries(
    config: dict[str, object], size: tuple[int, int], resize: str, crop: float, interpolation: str
) -> None:
    preset = from_hugging_face({**MEAN, **config})
    assert (preset.size, preset.resize, preset.crop, preset.interpolation) == (size, resize, crop, interpolation)
    assert preset.mean == PRESETS["imagenet"].mean
    assert preset.scale == 1 / 255


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "do_center_crop": None}
            | {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 2}
            | HALF,
            ((224, 224), "squash", 1.0, "bilinear", "rgb", (0.5,) * 3, (0.5,) * 3),
        ),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875, "resample": 3}
            | MEAN,
            ((224, 224), "shortest", 0.875, "bicubic", "rgb", *IMAGENET),  # ResNet-50's too
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": None} | MEAN,
            ((384, 384), "squash", 1.0, "bilinear", "rgb", *IMAGENET),
        ),
        (
            {"feature_extractor_type": "MobileViTFeatureExtractor", "size": 288, "crop_size": 256}
            | {"do_center_crop": True, "do_flip_channel_order": True, "do_resize": True, "resample": 2},
            ((256, 256), "shortest", 256 / 288, "bilinear", "bgr", (0.0,), (1.0,)),
        ),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "do_center_crop": True}
            | {"resample": 3, "do_convert_rgb": True}
            | MEAN,
            ((224, 224), "shortest", 1.0, "bicubic", "rgb", *IMAGENET),
        ),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224} | MEAN,
            ((224, 224), "squash", 0.875, "bicubic", "rgb", *IMAGENET),
        ),
        (  # divides by the deviation twice: the file holds its square root
            {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 224, "width": 224}}
            | {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.5, 0.25, 0.125], "include_top": True},
            ((224, 224), "squash", 1.0, "nearest", "rgb", IMAGENET[0], (0.25, 0.0625, 0.015625)),
        ),
    ],
    ids=["ViT", "ResNet", "ConvNeXt-384", "MobileViT", "CLIP", "DeiT", "EfficientNet"],
)
def test_hugging_face_processors(config: dict[str, object], expected: tuple[object, ...]) -> None:
    p = from_hugging_face(config)
    assert (p.size, p.resize, p.crop, p.interpolation, p.color, p.mean, p.std) == expected
    assert p.scale == 1 / 255


def test_the_resize_before_a_centre_crop_is_the_one_of_the_file() -> None:
    """In floating point, floor(224 / (224 / 354)) is 353."""
    for full in range(224, 520):
        sizes = {"size": {"shortest_edge": full}, "crop_size": 224, "do_center_crop": True}
        assert int(224 / from_hugging_face({**sizes, **MEAN}).crop) == full


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"do_resize": False}, "do_resize is false"),
        ({"do_pad": True}, "do_pad is not supported"),
        ({"do_rescale": "yes"}, "do_rescale 'yes'"),
        ({"resample": 4}, "resample 4"),
        ({"size": {"shortest_edge": 224}}, "size without do_center_crop"),
        ({"size": {"shortest_edge": 224, "longest_edge": 512}}, "longest_edge"),
        ({"size": True}, "size True"),
        ({"size": None}, "size None"),
        ({"size": 10**6}, "size 1000000"),
        ({"do_center_crop": True, "size": 224, "crop_size": 256}, "256"),  # would pad with black
        ({"do_center_crop": True, "size": {"height": 256, "width": 300}, "crop_size": 224}, "crop_size"),
        ({"do_center_crop": True, "size": 256}, "crop_size"),
        ({"image_processor_type": "LevitImageProcessor"}, "LevitImageProcessor is not known"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": None}, "image_mean"),
        ({"image_mean": ["0.5"]}, "image_mean"),
        ({"rescale_factor": 10**400}, "finite"),
    ],
)
def test_what_a_preset_cannot_say_is_refused(change: dict[str, object], wrong: str) -> None:
    with pytest.raises(PresetError, match=wrong):
        from_hugging_face({"size": 224, **MEAN, **change})


def test_a_null_is_as_good_as_nothing() -> None:
    nulls = dict.fromkeys(("do_resize", "do_rescale", "do_normalize", "resample", "crop_pct", "crop_size"), None)
    assert from_hugging_face({"size": 224, **MEAN, **nulls}) == from_hugging_face({"size": 224, **MEAN})


def test_hugging_face_switches() -> None:
    bare = from_hugging_face({"size": 64, "do_normalize": False, "rescale_factor": 0.5, "do_flip_channel_order": True})
    assert (bare.scale, bare.mean, bare.std, bare.color) == (0.5, (0.0,), (1.0,), "bgr")
    assert from_hugging_face({"size": 64, "do_rescale": False, **MEAN}).scale == 1


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_a_config_beside_the_model_or_above_its_onnx_folder_is_found(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**MEAN, "size": 64}))
    match = find_preset({}, tmp_path / folder / "model.onnx")
    assert match is not None
    preset, origin = match
    assert preset.size == (64, 64)
    assert origin.source is Source.CONFIG_FILE
    assert "preprocessor_config.json" in origin.text


def test_a_config_is_found_beside_the_link_of_a_download_cache(tmp_path: Path) -> None:
    """Hugging Face's cache keeps contents in blobs/ and links to them by name in snapshots/."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"model")
    (blobs / "def").write_text(json.dumps({**MEAN, "size": 64}))
    (snapshot / "model.onnx").symlink_to(blobs / "abc")
    (snapshot.parent / "preprocessor_config.json").symlink_to(blobs / "def")
    match = find_preset({}, snapshot / "model.onnx")
    assert match is not None
    assert match[0].size == (64, 64)


def test_metadata_goes_before_files(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**MEAN, "size": 64}))
    metadata = {"onnxcam.preset": json.dumps(PRESETS["clip"].to_json())}
    assert find_preset(metadata, tmp_path / "m.onnx") == (
        PRESETS["clip"],
        Origin(Source.METADATA, "ONNX metadata onnxcam.preset"),
    )
    assert find_preset({}, None) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100000,
        "�",
        '{"size": "big"}',
        '{"size": 64, "resample": 77}',
        '{"image_std": [0]}',
        '{"size": 64, "image_mean": [0], "image_std": [0]}',
        '{"size": 64, "rescale_factor": ' + "1" * 5000 + "}",
    ],
    ids=["open", "list", "deep", "bytes", "word", "resample", "no size", "zero", "digits"],
)
def test_a_damaged_config_names_itself_and_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PresetError, match=r"preprocessor_config\.json.*--preset"):
        find_preset({}, tmp_path / "m.onnx")


def test_damaged_preset_metadata_is_not_passed_over() -> None:
    for text in ("{nonsense", "[" * 100_000, "[]", "1" * 5000):
        with pytest.raises(PresetError, match=r"onnxcam\.preset is damaged.*--preset"):
            find_preset({"onnxcam.preset": text}, None)
