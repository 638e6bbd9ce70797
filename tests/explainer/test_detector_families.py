"""The usual detectors as PyTorch exports them: their table is read right, and a box's Grad-CAM is autograd's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam import Box, Explainer
from onnxcam.types import NoteCode

pytestmark = pytest.mark.torch


@dataclass(frozen=True)
class Family:
    """A head of torch_detectors with its options, and what its table holds. first: the column of the first class."""

    head: str
    options: dict[str, Any]
    outputs: tuple[str, ...]
    first: int
    classes: int
    objectness: int | None = None
    boxes_first: bool = False
    transposed: bool = False


TABLE, SEGMENTS, PAIR = ("output0",), ("output0", "output1"), ("scores", "boxes")
FAMILIES = {
    "yolov8": Family("V8", {}, TABLE, 4, 5),
    "yolov8 of one class": Family("V8", {"classes": 1}, TABLE, 4, 1),
    "yolov8 boxes first": Family("V8", {}, TABLE, 4, 5, boxes_first=True, transposed=True),
    "yolov8 segment": Family("V8", {"kind": "segment", "extras": 32}, SEGMENTS, 4, 5),
    "yolov8 pose": Family("V8", {"classes": 1, "kind": "pose", "extras": 51}, TABLE, 4, 1),
    "yolov8 obb": Family("V8", {"kind": "obb", "extras": 1}, TABLE, 4, 5),
    "yolo11": Family("V8", {"light": True}, TABLE, 4, 5),
    "yolov5": Family("V5", {}, TABLE, 5, 5, objectness=4, boxes_first=True),
    "yolov5 of one class": Family("V5", {"classes": 1}, TABLE, 5, 1, objectness=4, boxes_first=True),
    "yolov5 boxes last": Family("V5", {}, TABLE, 5, 5, objectness=4, transposed=True),
    "yolov5 segment": Family("V5", {"masks": 32}, SEGMENTS, 5, 5, objectness=4, boxes_first=True),
    "yolox": Family("YoloX", {}, TABLE, 5, 5, objectness=4, boxes_first=True),
    "efficientdet": Family("TwoOutputs", {}, PAIR, 0, 5, boxes_first=True),
    "ssd": Family("TwoOutputs", {"softmax": True}, PAIR, 0, 5, boxes_first=True),
    "ssd without background": Family("TwoOutputs", {"softmax": True, "drop": True}, PAIR, 0, 4, boxes_first=True),
}
EVERY = [(name, False, 17) for name in FAMILIES] + [(name, True, 18) for name in FAMILIES]
OLD = [(name, False, 12) for name in ("yolov8 segment", "yolov5", "yolox", "ssd")]


def model_of(family: Family) -> Any:
    import torch_detectors as t

    head = getattr(t, family.head)
    return t.detector(lambda: t.Transposed(head(**family.options)) if family.transposed else head(**family.options))


@pytest.mark.parametrize(("name", "dynamo", "opset"), EVERY + OLD)
def test_grad_cam_of_a_box_of_each_scale_is_autograds(name: str, dynamo: bool, opset: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import torch_detectors as t

    torch.set_num_threads(1)
    family = FAMILIES[name]
    model = model_of(family)
    t.export(model, tmp_path / "m.onnx", list(family.outputs), opset=opset, dynamo=dynamo)
    x = torch.rand(1, 3, t.SIDE, t.SIDE, generator=torch.Generator().manual_seed(3))
    with Explainer(tmp_path / "m.onnx", "grad-cam", providers=["cpu"], preset="raw", cache=False) as explainer:
        logits, scales = explainer.anatomy.logits, explainer.anatomy.scales
        assert (logits.output, logits.boxes_first) == (family.outputs[0], family.boxes_first)
        assert (logits.first_class, logits.classes, logits.objectness) == (
            family.first,
            family.classes,
            family.objectness,
        )
        assert [scale.features.grid for scale in scales] == [(8, 8), (4, 4), (2, 2)]
        targets = [Box(start + 3, family.classes - 1) for scale in scales for start, _ in scale.rows]
        saliencies = explainer.explain(x[0].numpy(), [None, *targets])
    assert [s.provenance.features[1] for s in saliencies[1:]] == [8, 4, 2]
    for saliency in saliencies:
        assert not {note.code for note in saliency.provenance.notes} & {NoteCode.OTHER_SCALES}
        scale = (8, 4, 2).index(saliency.provenance.features[1])
        score, expected = model.grad_cam(x, 0, saliency.target.index, scale)
        assert saliency.target.logit == pytest.approx(score, abs=1e-4)
        assert np.corrcoef(saliency.raw.reshape(-1), expected.reshape(-1))[0, 1] >= 0.999
