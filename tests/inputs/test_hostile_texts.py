"""Label and configuration files that nobody would write: a preset, labels or a sentence, and at once."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxcam.errors import LabelError, OnnxCamError, PresetError
from onnxcam.explainer.targets.region import parse_region
from onnxcam.inputs.labels import find_labels, read_labels
from onnxcam.inputs.processor_config import find_preset
from onnxcam.inputs.sources import opened

HUGGING_FACE: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_center_crop": True, "crop_size": {"height": 200, "width": 200},
}  # fmt: skip
TIMM: dict[str, Any] = {
    "architecture": "resnet50", "label_names": ["a", "b"], "label_descriptions": {"a": "x"},
    "pretrained_cfg": {"input_size": [3, 224, 224], "test_input_size": [3, 288, 288], "interpolation": "bicubic", "crop_pct": 0.95, "test_crop_pct": 1.0, "crop_mode": "border",
                       "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 3},
}  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"), "", "x", "\x1b[31m", "9" * 39, [], [[]], [None], ["a"], [float("nan")] * 3,
    [float("inf")] * 3, [1e300] * 3, [True] * 3, [1] * 2, [10**30] * 3, {}, {"height": -1, "width": 1}, {"a": 1}, [{}], [3, 0, 0], [3, 10**9, 10**9], [3, "a", "b"],
]  # fmt: skip
NVINFER = "net-scale-factor=0.0175\noffsets=103.939;116.779;123.68\nmodel-color-format=1\ninfer-dims=3;224;224\n"
TEXTS: dict[str, bytes] = {
    "nothing": b"", "spaces": b" " * 10**6, "invalid UTF-8": b"\xff\xfe\xfd", "UTF-16": '{"a": 1}'.encode("utf-16"), "nested": b"[" * 10**6, "nested objects": b'{"a":' * 10**6, "a huge number": b"9" * 10**6,
    "an infinite number": b'{"size": 1e999}', "a repeated key": b'{"size": 1, "size": 2}', "half of a surrogate": b'{"size": "\\ud800"}', "a null": b"\0" * 1000, "line breaks": b"\n" * 10**6,
    "semicolons": b"offsets=" + b";" * 10**6 + b"x", "spaces behind": b"net-scale-factor=" + b" " * 10**6 + b"x", "equals": b"=" * 10**6, "one long line": b"a" * 8 * 10**6, "more than may be": b"a" * 9 * 10**6,
}  # fmt: skip
NAMES = ("preprocessor_config.json", "config.json", "nvinfer_config.txt")


def found(folder: Path) -> None:
    """What travels with a model in the folder is used, refused in a sentence, or passed over."""
    begin = time.perf_counter()
    for look in (lambda: find_preset({}, folder / "m.onnx", (224, 224)), lambda: find_labels({}, folder / "m.onnx")):
        try:
            look()
        except OnnxCamError as error:
            assert "\n" not in str(error)
    assert time.perf_counter() - begin < 10, "too slow"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_hostile_text_is_refused_at_once(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TEXTS[text])
    found(tmp_path)
    for suffix in ("txt", "json"):
        labels = tmp_path / f"labels.{suffix}"
        labels.write_bytes(TEXTS[text])
        try:
            assert all(isinstance(label, str) for label in read_labels(labels))
        except LabelError as error:
            assert len(str(error)) < 500


def changed(values: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at that path."""
    if not path:
        return value
    copy = values.copy()
    copy[path[0]] = changed(values[path[0]], path[1:], value)
    return copy


def paths(values: Any) -> list[tuple[Any, ...]]:
    items: list[tuple[Any, Any]] = []
    if isinstance(values, dict):
        items = list(values.items())
    elif isinstance(values, list):
        items = list(enumerate(values))
    return [(), *((key, *rest) for key, inner in items for rest in paths(inner))]


@pytest.mark.parametrize(("name", "start"), [(NAMES[0], HUGGING_FACE), (NAMES[1], TIMM), (NAMES[1], {"id2label": {"0": "a", "1": "b"}})])  # fmt: skip
def test_every_field_of_a_configuration_may_hold_anything(name: str, start: Any, tmp_path: Path) -> None:
    for path in paths(start):
        for value in VALUES:
            (tmp_path / name).write_text(json.dumps(changed(start, path, value)))
            found(tmp_path)


def test_every_line_of_nvinfer_may_hold_anything(tmp_path: Path) -> None:
    for line in range(4):
        for value in (
            "",
            "nan",
            "inf",
            "1e999",
            "1e-320",
            "-",
            "9" * 5000,
            "1;nan;3",
            ";" * 50,
            "a;b;c",
            "1_000",
            "٣",
            "-1;-1;-1",
        ):
            lines = NVINFER.splitlines()
            lines[line] = f"{lines[line].partition('=')[0]}={value}"
            (tmp_path / NAMES[2]).write_text("\n".join(lines))
            found(tmp_path)


def test_nvinfer_is_read_with_the_line_ends_of_windows(tmp_path: Path) -> None:
    (tmp_path / NAMES[2]).write_bytes(NVINFER.replace("\n", " ; \r\n").encode())
    preset = find_preset({}, tmp_path / "m.onnx")
    assert preset is not None
    assert (preset[0].color, preset[0].mean, preset[0].size) == ("bgr", (103.939, 116.779, 123.68), (224, 224))


def test_a_configuration_with_other_peoples_nan_keeps_its_labels(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"id2label": {"0": "a"}, "theta": Infinity, "eps": NaN}')
    labels = find_labels({}, tmp_path / "m.onnx")
    assert labels is not None
    assert labels[0] == ["a"]


def test_metadata_is_read_as_strictly_as_files() -> None:
    for text in (*(t.decode("latin-1") for t in TEXTS.values()), '{"name": "a", "name": "b"}'):
        with pytest.raises(PresetError):
            find_preset({"onnxcam.preset": text}, None)
        assert find_labels({"onnxcam.labels": text}, None) is None


@pytest.mark.skipif(os.name != "posix", reason="pipes by name")
def test_pipes_beside_a_model_do_not_hang(tmp_path: Path) -> None:
    for name in NAMES:
        os.mkfifo(tmp_path / name)
    found(tmp_path)


def endless() -> Any:
    return open("/dev/zero", "rb")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="devices by name")
@pytest.mark.parametrize(
    "source", [lambda: "/dev/zero", lambda: Path("/dev/zero"), endless], ids=["str", "path", "open file"]
)
def test_an_endless_picture_is_refused(source: Callable[[], Any]) -> None:
    with pytest.raises(OnnxCamError, match="device"), opened(source(), "x"):
        pass


@pytest.mark.parametrize("name", ["n" * 5000 + ".png", "a\0b.png", "/dev/zero", "/", "none.png", "none"])
def test_a_mask_that_is_no_file_is_a_sentence(name: str) -> None:
    with pytest.raises(OnnxCamError, match=r"no such file|neither|device|a folder"):
        parse_region(name)
