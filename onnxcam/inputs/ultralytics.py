"""Reads what an Ultralytics export says of itself in the ONNX metadata: its task, size, and so its preprocessing.

YOLOv8 and later write `task`, `names`, `imgsz` and `stride`; YOLOv5 writes `names` and `stride` alone. labels.py reads
the names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnxcam.inputs.presets import IMAGENET_MEAN, IMAGENET_STD, LARGEST_SIDE, PRESETS, Preset
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.metadata import literal
from onnxcam.types import Origin, Source

TASKS: Mapping[str, Kind] = {
    "detect": Kind.BOXES,
    "segment": Kind.BOXES,
    "pose": Kind.BOXES,
    "obb": Kind.BOXES,
    "classify": Kind.CLASSES,
}
"""What the export of each task is explained on: of a segmentation its table of boxes, not the masks' prototypes."""


@dataclass(frozen=True)
class Export:
    """What the metadata says. task: one of TASKS, None of an export that does not say. size: (H,W), None likewise.

    squashes: the model is an RT-DETR, to whose input Ultralytics squashes pictures.
    """

    task: str | None
    size: tuple[int, int] | None
    squashes: bool = False

    @property
    def kind(self) -> Kind | None:
        """What is scored; None where the task is not known."""
        return TASKS[self.task] if self.task is not None else None

    @property
    def origin(self) -> Origin:
        """Where the choices that follow from the metadata come from."""
        task = f", task {self.task}" if self.task is not None else ""
        return Origin(Source.METADATA, f"ONNX metadata of Ultralytics{task}")

    def preset(self, *, classifies: bool) -> Preset:
        """The preprocessing of Ultralytics' own predictor. classifies: the model has class scores and no boxes.

        Without a task it is YOLOv5's, whose classifiers normalise as torchvision's do.
        """
        letterbox = replace(PRESETS["ultralytics"], size=self.size)
        if self.task == "classify":
            return Preset("ultralytics-classify", 1 / 255, (0.0,), (1.0,), crop=1.0, size=self.size)
        if self.task is None and classifies:
            normalised = Preset("yolov5-classify", 1 / 255, IMAGENET_MEAN, IMAGENET_STD, crop=1.0, size=self.size)
            return replace(normalised, interpolation=letterbox.interpolation)
        return replace(letterbox, name="ultralytics-rtdetr", resize="squash") if self.squashes else letterbox


def read_export(metadata: Mapping[str, str]) -> Export | None:
    """What Ultralytics' metadata says; None for a model of another origin."""
    task = metadata.get("task", "").strip().lower()
    size = _size(literal(metadata.get("imgsz", "")))
    squashes = re.search(r"rt-?detr", metadata.get("description", ""), re.IGNORECASE) is not None
    if task in TASKS and ("names" in metadata or "imgsz" in metadata):
        return Export(task, size, squashes)
    is_yolov5 = "task" not in metadata and isinstance(literal(metadata.get("names", "")), dict | list)
    return Export(None, size) if is_yolov5 and isinstance(literal(metadata.get("stride", "")), int) else None


def _size(value: Any) -> tuple[int, int] | None:
    """(height, width) of '640', '[640]' or '[480, 640]'."""
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides) or len(sides) not in (1, 2):
        return None
    return sides[0], sides[-1]
