"""Results in the words of tools for annotation and detection: COCO, Label Studio, supervision. None of them is needed.

Each region that is at least the threshold becomes one annotation; without a threshold, those from half of the highest
saliency on. Boxes and outlines are in pixels of the picture, or of the model's input for an image that came
preprocessed.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.outputs.captions import caption
from onnxcam.outputs.regions import SalientRegion, regions
from onnxcam.outputs.saliency import Saliency


def to_detections(saliency: Saliency, threshold: float | None = None, *, top: float | None = None) -> dict[str, Any]:
    """The arrays that supervision's sv.Detections(**...) takes, one row a region.

    xyxy (n,4) float32, mask (n,height,width) bool, confidence (n,) float32: the region's highest saliency, not a
    probability of the model; class_id (n,) int64: the target's index; data: class_name, and share, of the map's sum.
    Raises what Saliency.regions() raises.
    """
    (saliency,) = _checked([saliency])
    parts = regions(saliency, threshold, top=top)
    height, width = _size(saliency)
    return {
        "xyxy": np.array([part.box for part in parts], np.float32).reshape(-1, 4),
        "mask": np.array([part.mask for part in parts], np.bool_).reshape(-1, height, width),
        "confidence": np.array([part.peak for part in parts], np.float32),
        "class_id": np.full(len(parts), saliency.target.index, np.int64),
        "data": {
            "class_name": np.array([saliency.target.name] * len(parts), np.str_),
            "share": np.array([part.share for part in parts], np.float32),
        },
    }


def to_coco(saliencies: Iterable[Saliency], threshold: float | None = None) -> dict[str, Any]:
    """A COCO data set: images, annotations and categories, in JSON's types.

    An image is a picture by its name; a category is a target's index and name. Of an annotation segmentation holds the
    polygons around the region, and its holes where it has any as a run-length code with iscrowd 1, as COCO has no
    polygons with holes; area its pixels, score its highest saliency, which is no probability of the model.
    """
    images: dict[str, dict[str, Any]] = {}
    categories: dict[tuple[int, str], dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for saliency in _checked(saliencies):
        height, width = _size(saliency)
        name, target = saliency.provenance.image, saliency.target
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        key = (target.index, target.name)
        categories.setdefault(key, {"id": _free_id(target.index, categories), "name": target.name})
        for part in regions(saliency, threshold):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": categories[key]["id"],
                    "bbox": _xywh(part),
                    "area": part.pixels,
                    **_segmentation(part),
                    "score": part.peak,
                }
            )
    return {"images": [*images.values()], "annotations": annotations, "categories": [*categories.values()]}


def to_label_studio(
    saliencies: Iterable[Saliency], threshold: float | None = None, *, prefix: str = ""
) -> list[dict[str, Any]]:
    """Tasks of Label Studio with predictions, which its import takes: a rectangle around each region, in percent.

    prefix: what stands before a picture's file name in the task, such as /data/local-files/?d=photos/. The labelling
    configuration has <RectangleLabels name="label" toName="image">. score: the highest saliency of the region.
    """
    if not isinstance(prefix, str):
        raise OptionError(f"prefix is text, such as /data/local-files/?d=photos/, not {brief(prefix)}")
    return [
        {
            "data": {"image": _address(saliency.provenance.image, prefix)},
            "predictions": [
                {
                    "model_version": f"{saliency.provenance.model} {saliency.provenance.method}",
                    **({"score": saliency.target.probability} if saliency.target.is_probability else {}),
                    "result": [_rectangle(saliency, part, i) for i, part in enumerate(regions(saliency, threshold))],
                }
            ],
            "meta": {"caption": " · ".join((caption(saliency).title, caption(saliency).detail))},
        }
        for saliency in _checked(saliencies)
    ]


def _checked(saliencies: Iterable[Saliency]) -> Sequence[Saliency]:
    """Raises OptionError for what is not results."""
    results = list(saliencies) if isinstance(saliencies, Iterable) else [saliencies]
    for one in results:
        if not isinstance(one, Saliency):
            raise OptionError(f"a result of an Explainer is needed, a Saliency or several of them, not {brief(one)}")
    return results


def _rectangle(saliency: Saliency, part: SalientRegion, number: int) -> dict[str, Any]:
    height, width = _size(saliency)
    left, top, right, bottom = part.box
    return {
        "id": f"region-{number + 1}",
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": part.peak,
        "value": {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * (right - left) / width,
            "height": 100 * (bottom - top) / height,
            "rotation": 0,
            "rectanglelabels": [saliency.target.name],
        },
    }


def _segmentation(part: SalientRegion) -> dict[str, Any]:
    """The polygons of a region without holes; else its run-length code."""
    polygons = part.outline
    if len(polygons) == 1:
        return {"segmentation": [[number for point in polygons[0] for number in point]], "iscrowd": 0}
    return {"segmentation": {"size": [*part.size], "counts": _runs(part)}, "iscrowd": 1}


def _runs(part: SalientRegion) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, beginning with 0, down each column from the left."""
    flat = part.mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def _xywh(part: SalientRegion) -> list[float]:
    left, top, right, bottom = part.box
    return [left, top, right - left, bottom - top]


def _address(image: str, prefix: str) -> str:
    """Where Label Studio finds the picture: its file name behind the prefix, or its path without one."""
    return f"{prefix}{PurePath(image).name}" if prefix else image


def _free_id(index: int, categories: "dict[tuple[int, str], dict[str, Any]]") -> int:
    """The target's index; the next free number where another target has it, as the boxes of two models do."""
    taken = {category["id"] for category in categories.values()}
    return index if index not in taken else max(taken) + 1


def _size(saliency: Saliency) -> Sequence[int]:
    """(height,width) of what boxes lie on."""
    return saliency.placement.picture if saliency.placement is not None else saliency.map.shape
