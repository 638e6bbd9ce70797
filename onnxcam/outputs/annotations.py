"""Results in the words of tools for annotation and detection: COCO, Label Studio, supervision. None of them is needed.

Each region that is at least the threshold becomes one annotation; without a threshold, those from half of the highest
saliency on. Boxes and outlines are in pixels of the picture, or of the model's input for an image that came
preprocessed. Labels are classes: of a detector's box the class that it is scored for, not the box.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.limits import brief
from onnxcam.outputs.captions import caption
from onnxcam.outputs.picture_names import below_their_folder, picture_names
from onnxcam.outputs.regions import SalientRegion, regions
from onnxcam.outputs.saliency import Saliency, ScoredTarget


def to_detections(saliency: Saliency, threshold: float | None = None, *, top: float | None = None) -> dict[str, Any]:
    """The arrays that supervision's sv.Detections(**...) takes, one row a region.

    xyxy (n,4) float32, mask (n,height,width) bool, confidence (n,) float32: the region's highest saliency, not a
    probability of the model; class_id (n,) int64: the class, or the target's index where no class is scored; data:
    class_name, and share, of the map's sum.
    Raises what Saliency.regions() raises.
    """
    (saliency,) = _checked([saliency])
    parts = regions(saliency, threshold, top=top)
    height, width = _size(saliency)
    index, name = _class(saliency.target)
    return {
        "xyxy": np.array([part.box for part in parts], np.float32).reshape(-1, 4),
        "mask": np.array([part.mask for part in parts], np.bool_).reshape(-1, height, width),
        "confidence": np.array([part.peak for part in parts], np.float32),
        "class_id": np.full(len(parts), index, np.int64),
        "data": {
            "class_name": np.array([name] * len(parts), np.str_),
            "share": np.array([part.share for part in parts], np.float32),
        },
    }


def to_coco(
    saliencies: Iterable[Saliency], threshold: float | None = None, *, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """A COCO data set: images, annotations and categories, in JSON's types.

    A category is a class and its label, or the target's index and name where no class is scored. segmentation: the
    polygon around a region, or a run-length code of a region with holes, as COCO has no polygons with holes. area: its
    pixels. score: its highest saliency, which is no probability of the model.

    names: the file name of the picture of each result; results of one name are of one picture. By default the path;
    pictures without one are told apart by their pixels and called picture-1, picture-2, ... Raises OptionError where
    pictures cannot be told apart.
    """
    images: dict[tuple[str, Sequence[int]], dict[str, Any]] = {}
    categories: dict[tuple[int, str], dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    results = _checked(saliencies)
    for saliency, name in zip(results, picture_names(results, names), strict=True):
        height, width = size = _size(saliency)
        place = {"id": len(images) + 1, "file_name": name, "width": width, "height": height}
        image = images.setdefault((name, size), place)
        key = _class(saliency.target)
        categories.setdefault(key, {"id": _free_id(key[0], categories), "name": key[1]})
        for part in regions(saliency, threshold):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": categories[key]["id"],
                    "bbox": _xywh(part),
                    "area": part.pixels,
                    "segmentation": _segmentation(part),
                    "iscrowd": 0,
                    "score": part.peak,
                }
            )
    return {"images": [*images.values()], "annotations": annotations, "categories": [*categories.values()]}


def to_label_studio(
    saliencies: Iterable[Saliency],
    threshold: float | None = None,
    *,
    prefix: str = "",
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Tasks of Label Studio with predictions, which its import takes: a rectangle around each region, in percent.

    A task is a picture, with a prediction for each model and method; its score is the highest probability of its
    targets. The labelling configuration has <RectangleLabels name="label" toName="image">. score of a region: its
    highest saliency.

    prefix: what stands before a picture's path in the task, such as /data/local-files/?d=photos/; it stands for the
    deepest folder that holds all the pictures. names: as of to_coco(), put behind the prefix as they are. Raises
    OptionError where pictures cannot be told apart.
    """
    if not isinstance(prefix, str):
        raise OptionError(f"prefix is text, such as /data/local-files/?d=photos/, not {brief(prefix)}")
    results = _checked(saliencies)
    places = picture_names(results, names)
    if names is None and prefix:
        places = below_their_folder(places)
    pictures: defaultdict[str, list[Saliency]] = defaultdict(list)
    for saliency, place in zip(results, places, strict=True):
        pictures[prefix + place].append(saliency)
    return [_task(address, maps, threshold) for address, maps in pictures.items()]


def _task(address: str, maps: Sequence[Saliency], threshold: float | None) -> dict[str, Any]:
    """A picture with the predictions of its maps."""
    versions: defaultdict[str, list[Saliency]] = defaultdict(list)
    for saliency in maps:
        versions[f"{saliency.provenance.model} {saliency.provenance.method}"].append(saliency)
    number = count(1)
    predictions = []
    for version, members in versions.items():
        scores = [one.target.probability for one in members if one.target.is_probability]
        result = [_rectangle(one, part, next(number)) for one in members for part in regions(one, threshold)]
        score = {"score": max(scores)} if scores else {}
        predictions.append({"model_version": version, **score, "result": result})
    captions = [caption(saliency) for saliency in maps]
    return {
        "data": {"image": address},
        "predictions": predictions,
        "meta": {"caption": "\n".join(f"{one.title} · {one.detail}" for one in captions)},
    }


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
        "id": f"region-{number}",
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
            "rectanglelabels": [_class(saliency.target)[1]],
        },
    }


def _segmentation(part: SalientRegion) -> list[list[float]] | dict[str, Any]:
    """The polygon of a region without holes; else its run-length code."""
    polygons = part.outline
    if len(polygons) == 1:
        return [[number for point in polygons[0] for number in point]]
    return {"size": [*part.size], "counts": _runs(part)}


def _runs(part: SalientRegion) -> list[int]:
    """Lengths of the runs of 0 and 1 in turn, beginning with 0, down each column from the left."""
    flat = part.mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges.tolist(), flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def _xywh(part: SalientRegion) -> list[float]:
    left, top, right, bottom = part.box
    return [left, top, right - left, bottom - top]


def _class(target: ScoredTarget) -> tuple[int, str]:
    """The class and its name; the target's index and name where no class is scored, or one side of an output is."""
    index = target.class_index
    if index is None or target.side is not None:
        return target.index, target.name
    return index, target.class_label if target.class_label is not None else f"class {index}"


def _free_id(index: int, categories: dict[tuple[int, str], dict[str, Any]]) -> int:
    """The class; the next free number where another class has it, as the classes of two models do."""
    taken = {category["id"] for category in categories.values()}
    return index if index not in taken else max(taken) + 1


def _size(saliency: Saliency) -> Sequence[int]:
    """(height,width) of what boxes lie on."""
    return saliency.placement.picture if saliency.placement is not None else saliency.map.shape
