"""The boxes of detectors as PyTorch exports them are those that PyTorch computes, and the graph says what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam import Box, Explainer
from onnxcam.inputs.presets import PRESETS, override

pytestmark = pytest.mark.torch
HEADS: dict[str, tuple[str, dict[str, Any], bool]] = {
    # name: (class of torch_detectors, its options, whether a box is a row)
    "yolov8": ("V8", {}, False),
    "yolov8 segment": ("V8", {"kind": "segment", "extras": 32}, False),
    "yolov8 pose": ("V8", {"classes": 1, "kind": "pose", "extras": 51}, False),
    "yolo11": ("V8", {"light": True}, False),
    "yolov5": ("V5", {}, True),
    "yolox": ("YoloX", {}, True),
}


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_a_box_on_a_letterboxed_picture_is_pytorchs(name: str, dynamo: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import torch_detectors as t

    torch.set_num_threads(1)
    head, options, rows = HEADS[name]
    model = t.detector(lambda: getattr(t, head)(**options))
    outputs = ["output0", "output1"] if name.endswith("segment") else ["output0"]
    t.export(model, tmp_path / "m.onnx", outputs, opset=18 if dynamo else 17, dynamo=dynamo)
    picture = np.random.default_rng(0).integers(0, 256, (50, 100, 3)).astype(np.uint8)
    preset = override(PRESETS["unit"], resize="letterbox")
    with Explainer(tmp_path / "m.onnx", "gradient", providers=["cpu"], preset=preset, cache=False) as explainer:
        assert explainer.anatomy.logits.corners is False
        image = explainer.prepare(picture).image
        targets = [explainer(picture).target, *(s.target for s in explainer.explain(picture, [Box(3), Box(70)]))]
        boxes = [explainer.anatomy.logits.entry(target.index)[0] for target in targets]
    with torch.no_grad():
        answer = model(torch.from_numpy(image)[None])
    table = (answer[0] if isinstance(answer, tuple) else answer)[0].double().numpy()
    table = table if rows else table.T
    for target, box in zip(targets, boxes, strict=True):
        x, y, width, height = table[box, :4]
        # 50 x 100 fills the width of the square input, with a quarter of it above and below
        zoom = 100 / t.SIDE
        expected = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]) * zoom - (0, 25, 0, 25)
        np.testing.assert_allclose(target.box, expected, atol=1e-3)
