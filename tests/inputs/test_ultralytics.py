"""Ultralytics' metadata chooses the preprocessing, the size, the labels and what is explained; the caller overrides."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image
from small_models import filled

from onnxcam.explainer.explainer import Explainer
from onnxcam.inputs.choices import choose_kind, choose_preset
from onnxcam.inputs.presets import PRESETS, Preset, override
from onnxcam.inputs.ultralytics import Export, read_export
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Source

NAMES = "{0: 'bolt', 1: \"wing's nut\", 2: 'washer'}"
MADE_BY_V8 = {
    "task": "detect",
    "names": NAMES,
    "imgsz": "[32, 64]",
    "stride": "8",
    "batch": "1",
    "author": "Ultralytics",
}
MADE_BY_V5 = {"stride": "8", "names": NAMES}

DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
detector ({input}) => (float[N,39,32] output0, float[N,32,4,8] output1)
<float[16,3,3,3] w1, float[39,16,1,1] w2, float[32,16,1,1] w3, int64[3] table = {{0, 39, -1}}>
{{
  {cast}
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[8,8]> (x, w1)
  features = Relu (c)
  heads = Conv (features, w2)
  flat = Reshape (heads, table)
  output0 = Sigmoid (flat)
  output1 = Conv (features, w3)
}}
"""
CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 17]>
classifier (float[N,3,32,64] images) => (float[N,3] output0)
<float[16,3,3,3] w1, float[16,3] w2>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[8,8]> (images, w1)
  features = Relu (c)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = MatMul (flat, w2)
  output0 = Softmax (logits)
}
"""
PHOTOGRAPH = np.random.default_rng(5).integers(0, 256, (60, 90, 3)).astype(np.uint8)


def model(text: str, metadata: dict[str, str]) -> bytes:
    proto = filled(text)
    onnx.helper.set_model_props(proto, metadata)
    return proto.SerializeToString()


def detector(metadata: dict[str, str], *, dtype: str = "float", height: str = "32", width: str = "64") -> bytes:
    name = "x" if dtype == "float" else "pixels"
    cast = "" if dtype == "float" else "x = Cast <to=1> (pixels)"
    return model(DETECTOR.format(input=f"{dtype}[N,3,{height},{width}] {name}", cast=cast), metadata)


def preset_of(data: bytes) -> Preset:
    file = read_model(data)
    preset, origin = choose_preset(file, None, find_image(file.model, None))
    assert origin.source is Source.METADATA
    return preset


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "Detect"])
def test_a_detectors_metadata_chooses_the_letterbox_the_size_the_labels_and_the_table(task: str) -> None:
    data = detector({**MADE_BY_V8, "task": task}, height="H", width="W")
    with Explainer(data, "grad-cam", providers=["cpu"]) as explain:
        assert explain.preset == replace(PRESETS["ultralytics"], size=(32, 64))
        assert explain.preset_origin.source is explain.labels_origin.source is Source.METADATA
        assert explain.size == (32, 64)
        assert explain.labels == ("bolt", "wing's nut", "washer")
        assert explain.anatomy.logits.kind is Kind.BOXES
        assert explain.anatomy.logits.output == "output0"
        image = explain.prepare(PHOTOGRAPH).image
    # 60 x 90 in 32 x 64 becomes 32 x 48, with 8 columns of grey on either side
    expected = np.full((32, 64, 3), 114, np.uint8)
    expected[:, 8:56] = cv2.resize(PHOTOGRAPH, (48, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(image, expected.transpose(2, 0, 1) / 255, atol=1e-7)


def test_a_classifiers_metadata_chooses_the_centre_crop_without_mean_and_deviation() -> None:
    with Explainer(model(CLASSIFIER, {**MADE_BY_V8, "task": "classify"}), "grad-cam", providers=["cpu"]) as explain:
        assert explain.labels == ("bolt", "wing's nut", "washer")
        assert explain.anatomy.logits.kind is Kind.CLASSES
        image = explain.prepare(PHOTOGRAPH).image
    resized = Image.fromarray(PHOTOGRAPH).resize((64, 43), Image.Resampling.BILINEAR)  # 90 / 64 covers 32 x 64
    np.testing.assert_allclose(image, np.asarray(resized)[6:38].transpose(2, 0, 1) / 255, atol=1e-7)


def test_yolov5_writes_no_task_and_its_outputs_say_whether_it_classifies() -> None:
    assert preset_of(detector(MADE_BY_V5)) == PRESETS["ultralytics"]
    preset = preset_of(model(CLASSIFIER, MADE_BY_V5))
    assert (preset.mean, preset.std) == (PRESETS["imagenet"].mean, PRESETS["imagenet"].std)
    assert (preset.resize, preset.crop, preset.interpolation) == ("shortest", 1.0, "cv2-linear")
    assert choose_kind(read_model(detector(MADE_BY_V5)), None) is None


def test_an_rt_detr_squashes_as_ultralytics_does() -> None:
    preset = preset_of(detector({**MADE_BY_V8, "description": "Ultralytics RT-DETR-l model trained on coco.yaml"}))
    assert (preset.resize, preset.scale, preset.mean) == ("squash", 1 / 255, (0.0,))


def test_an_input_of_bytes_is_not_divided() -> None:
    preset = preset_of(detector(MADE_BY_V8, dtype="uint8"))
    assert (preset.scale, preset.resize) == (1.0, "letterbox")


def test_what_the_caller_gives_comes_before_the_metadata() -> None:
    def adjust(preset: Preset) -> Preset:
        return override(preset, resize="squash")

    data = detector(MADE_BY_V8)
    with Explainer(data, "grad-cam", providers=["cpu"], preset="raw", labels=["a", "b", "c"]) as explain:
        assert explain.preset == PRESETS["raw"]
        assert explain.labels == ("a", "b", "c")
    with Explainer(data, "grad-cam", providers=["cpu"], adjust=adjust, output="output1") as explain:
        assert (explain.preset.resize, explain.preset.scale) == ("squash", 1 / 255)
        assert explain.anatomy.logits.kind is Kind.REGION
    with Explainer(data, "grad-cam", providers=["cpu"], kind="region") as explain:
        assert explain.anatomy.logits.output == "output1"


def test_onnxcams_own_preset_comes_before_ultralytics_and_a_file_beside_after(tmp_path: Path) -> None:
    both = {**MADE_BY_V8, "onnxcam.preset": json.dumps(PRESETS["clip"].to_json())}
    assert preset_of(detector(both)) == PRESETS["clip"]
    (tmp_path / "model.onnx").write_bytes(detector(MADE_BY_V8))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    file = read_model(tmp_path / "model.onnx")
    assert choose_preset(file, None, find_image(file.model, None))[0].name == "ultralytics"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, None),
        ({"names": NAMES}, None),
        ({"task": "detect"}, None),
        ({"task": "translation", "names": NAMES, "stride": "32"}, None),
        ({"names": "not a dict", "stride": "32"}, None),
        ({"names": NAMES, "stride": "a"}, None),
        ({"task": "pose", "names": NAMES, "imgsz": "640"}, Export("pose", (640, 640))),
        ({"task": "pose", "names": NAMES, "imgsz": "(480, 640)"}, Export("pose", (480, 640))),
        ({"task": "pose", "names": NAMES, "imgsz": "[640]"}, Export("pose", (640, 640))),
        ({"task": "pose", "names": NAMES, "imgsz": "[0, 640]"}, Export("pose", None)),
        ({"task": "pose", "names": NAMES, "imgsz": "[1, 2, 3]"}, Export("pose", None)),
        ({"task": "pose", "names": NAMES, "imgsz": "[True]"}, Export("pose", None)),
        ({"task": "pose", "names": NAMES, "imgsz": "__import__('os')"}, Export("pose", None)),
        ({"task": "pose", "names": NAMES, "imgsz": "[" * 5000}, Export("pose", None)),
        ({"names": "['a', 'b']", "stride": "32"}, Export(None, None)),
    ],
)
def test_what_metadata_is_ultralytics(metadata: dict[str, str], expected: Export | None) -> None:
    assert read_export(metadata) == expected
