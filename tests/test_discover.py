import json
from pathlib import Path

import pytest

from onnxcam.discover import check_labels, find_class, find_labels, find_preset, from_hugging_face, read_labels
from onnxcam.errors import LabelError, PresetError, TargetError
from onnxcam.preprocess import PRESETS

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


def test_hugging_face_switches() -> None:
    bare = from_hugging_face({"size": 64, "do_normalize": False, "rescale_factor": 0.5, "do_flip_channel_order": True})
    assert (bare.scale, bare.mean, bare.std, bare.color) == (0.5, (0.0,), (1.0,), "bgr")
    assert from_hugging_face({"size": 64, "do_rescale": False, **MEAN}).scale == 1


@pytest.mark.parametrize("folder", ["", "onnx"])
def test_a_config_beside_the_model_or_above_its_onnx_folder_is_found(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**MEAN, "size": 64}))
    found = find_preset({}, tmp_path / folder / "model.onnx")
    assert found is not None
    assert found[0].size == (64, 64)
    assert "preprocessor_config.json" in found[1]


def test_metadata_goes_before_files(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**MEAN, "size": 64}))
    metadata = {"onnxcam.preset": json.dumps(PRESETS["clip"].to_json())}
    assert find_preset(metadata, tmp_path / "m.onnx") == (PRESETS["clip"], "ONNX metadata onnxcam.preset")
    assert find_preset({}, None) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"size": "big"}', '{"size": 64, "resample": 77}', '{"image_std": [0]}'])
def test_a_damaged_config_names_itself_and_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(PresetError, match=r"preprocessor_config\.json.*--preset"):
        find_preset({}, tmp_path / "m.onnx")


def test_damaged_preset_metadata_is_not_passed_over() -> None:
    with pytest.raises(PresetError, match=r"onnxcam\.preset is damaged"):
        find_preset({"onnxcam.preset": "{nonsense"}, None)


def test_labels_from_metadata_ultralytics_and_hugging_face(tmp_path: Path) -> None:
    assert find_labels({"onnxcam.labels": '["a", "b"]'}, None) == (["a", "b"], "ONNX metadata onnxcam.labels")
    assert find_labels({"names": "{0: 'person', 1: 'bicycle'}"}, None) == (["person", "bicycle"], "ONNX metadata names")
    (tmp_path / "config.json").write_text('{"id2label": {"1": "b", "0": "a"}}')
    assert find_labels({}, tmp_path / "m.onnx") == (["a", "b"], "config.json beside the model")


@pytest.mark.parametrize("names", ["__import__('os').system('true')", "{0: 'a', 2: 'b'}", "(", "[" * 5000])
def test_names_that_are_no_plain_labels_are_passed_over(names: str) -> None:
    assert find_labels({"names": names}, None) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a\nb c\n\n"),
        ("l.txt", "\ufeffa\r\nb c\r\n"),
        ("l.json", '["a", "b c"]'),
        ("l.json", '{"1": "b c", "0": "a"}'),
    ],
)
def test_label_files_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert read_labels(tmp_path / name) == ["a", "b c"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.txt", b""),
        ("l.txt", b"\xff\xfe\x00"),
        ("l.json", b"{"),
        ("l.json", b'{"0": "a", "2": "b"}'),
        ("l.json", b"[1, 2]"),
    ],
)
def test_damaged_label_files_are_errors(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LabelError, match=name):
        read_labels(tmp_path / name)


def test_missing_label_file_and_wrong_length() -> None:
    with pytest.raises(LabelError, match="cannot be read"):
        read_labels(Path("/nonexistent/labels.txt"))
    with pytest.raises(LabelError, match="x: 1 labels, but the model has 2 classes"):
        check_labels(["a"], 2, "x")


def test_a_class_is_found_by_its_name_whatever_its_case() -> None:
    labels = ["tabby_cat", "crane", "Crane", "crane"]
    assert find_class(labels, "Tabby cat") == 0
    assert find_class(labels, "Crane") == 2
    with pytest.raises(TargetError, match="names 2 classes: 1, 3"):
        find_class(labels, "crane")
    with pytest.raises(TargetError, match="did you mean tabby_cat"):
        find_class(labels, "taby cat")
