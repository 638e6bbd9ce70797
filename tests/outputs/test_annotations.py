"""COCO, Label Studio and supervision get classes, not boxes, and pictures that are told apart by what they are."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from results import saliency

from onnxcam import read_data, to_coco, to_detections, to_label_studio
from onnxcam.errors import OptionError
from onnxcam.outputs.explanations import Explanations
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.types import Placement


def of_box(place: int, box: int, label: str | None = "grass", index: int = 4, **changed: Any) -> Saliency:
    """A map that is high in one square, of a detector's box."""
    values = np.zeros((100, 100), np.float32)
    values[40:70, 30:60] = 1
    name = f"{label or f'class {index}'} in box {box}"
    target = ScoredTarget(
        place, name, 0.7, 0.7, "boxes", "out", box_class=index, box_label=label, box_number=box
    )  # fmt: skip
    placement = Placement((100, 300), (100.0, 0.0, 200.0, 100.0))
    return replace(saliency(**changed), map=values, raw=values, target=target, placement=placement)


def in_memory(fill: int, size: tuple[int, int] = (100, 300), name: str = "<bytes>") -> Saliency:
    """A map of a picture that came as bytes, of one colour."""
    one = of_box(2983, 295, image=name)
    height, width = size
    placement = Placement(size, (0.0, 0.0, float(width), float(height)))
    return replace(one, picture=np.full((*size, 3), fill, np.uint8), placement=placement)


def test_two_boxes_of_a_class_are_one_category() -> None:
    both = [of_box(2983, 295), of_box(3015, 327)]
    data = to_coco(both, 0.5)
    assert data["categories"] == [{"id": 4, "name": "grass"}]
    assert [one["category_id"] for one in data["annotations"]] == [4, 4]
    (task,) = to_label_studio(both, 0.5)
    (prediction,) = task["predictions"]
    assert [part["value"]["rectanglelabels"] for part in prediction["result"]] == [["grass"], ["grass"]]
    detections = to_detections(both[1], 0.5)
    assert (detections["class_id"].tolist(), detections["data"]["class_name"].tolist()) == ([4], ["grass"])


def test_a_class_without_a_label_is_called_by_its_number_and_what_is_no_class_by_its_name() -> None:
    data = to_coco([of_box(2983, 295, None)])
    assert data["categories"] == [{"id": 4, "name": "class 4"}]
    element = replace(saliency(), target=ScoredTarget(6, "age[0, 6]", 31.5, 31.5, "elements", "age"))
    assert to_coco([element])["categories"] == [{"id": 6, "name": "age[0, 6]"}]
    step = replace(saliency(), target=ScoredTarget(3, "c", 0.5, 1.5, "sequence", "out", step=2))
    assert to_coco([step])["categories"] == [{"id": 3, "name": "c"}]
    side = replace(saliency(), target=ScoredTarget(1, None, 0.5, 1.5, side="positive"))
    assert to_coco([side])["categories"] == [{"id": 1, "name": "positive"}]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ScoredTarget(281, "tabby", 0.25, 3.5), (281, "tabby")),
        (ScoredTarget(281, None, 0.25, 3.5), (281, None)),
        (ScoredTarget(2, "road", 0.25, 3.5, "region"), (2, "road")),
        (ScoredTarget(0, None, 7.5, 7.5, "region", quantity=True), (None, None)),
        (ScoredTarget(2, "c", 0.25, 3.5, "sequence", step=4), (2, "c")),
        (ScoredTarget(0, None, 0.25, 3.5, "sequence", step="all"), (None, None)),
        (ScoredTarget(6, "age[6]", 31.5, 31.5, "elements"), (None, None)),
        (ScoredTarget(0, "similarity to a.jpg", 0.5, 0.5, "embedding"), (None, None)),
        (ScoredTarget(2983, "grass in box 295", 0.7, 0.7, "boxes", box_class=4, box_label="grass"), (4, "grass")),
        (ScoredTarget(2983, "column 4 in detection 1", 0.7, 0.7, "boxes", box_number=1), (None, None)),
    ],
)
def test_a_target_says_its_class_whatever_its_kind(target: ScoredTarget, expected: tuple[int | None, str]) -> None:
    assert (target.class_index, target.class_label) == expected
    values = replace(saliency(), target=target).to_dict()["target"]
    assert (values["class_index"], values["class_label"]) == expected
    assert values["box_number"] == target.box_number


def test_a_row_of_a_box_holds_its_class() -> None:
    (row,) = Explanations([of_box(2983, 295)]).to_rows()
    assert (row["index"], row["class_index"], row["target"]) == (2983, 4, "grass in box 295")


def test_pictures_from_memory_are_told_apart_by_their_pixels() -> None:
    first, second = in_memory(10), in_memory(20, (80, 90))
    third = in_memory(30)  # as large as the first
    several = [first, second, replace(first, target=replace(first.target, box_class=5, box_label="sky")), third]
    data = to_coco(several)
    assert data["images"] == [
        {"id": 1, "file_name": "picture-1", "width": 300, "height": 100},
        {"id": 2, "file_name": "picture-2", "width": 90, "height": 80},
        {"id": 3, "file_name": "picture-3", "width": 300, "height": 100},
    ]
    assert [one["image_id"] for one in data["annotations"]] == [1, 2, 1, 3]
    tasks = to_label_studio(several, prefix="p/")
    assert [task["data"]["image"] for task in tasks] == ["p/picture-1", "p/picture-2", "p/picture-3"]
    labels = [part["value"]["rectanglelabels"] for part in tasks[0]["predictions"][0]["result"]]
    assert labels == [["grass"], ["sky"]]


@pytest.mark.parametrize("name", ["<bytes>", "<file>", "<array 3x224x224>", "<picture 640x480>"])
def test_every_name_that_stands_for_none_is_replaced(name: str) -> None:
    assert [one["file_name"] for one in to_coco([in_memory(1, name=name)])["images"]] == ["picture-1"]


def test_pictures_that_cannot_be_told_apart_need_names() -> None:
    lost = [replace(in_memory(fill), picture=None) for fill in (1, 2)]
    assert to_coco(lost[:1])["images"][0]["file_name"] == "picture-1"
    for export in (to_coco, to_label_studio):
        with pytest.raises(OptionError, match=r"which picture <bytes> is, result 0 of 2 does not say.*names="):
            export(lost)
    named = to_coco(lost, names=["a.png", "b.png"])
    assert [one["file_name"] for one in named["images"]] == ["a.png", "b.png"]
    with pytest.raises(OptionError, match="two different pictures are called 'frame'"):
        to_coco([in_memory(1, name="frame"), in_memory(2, name="frame")])


def test_names_are_of_the_pictures_of_the_results() -> None:
    results = [in_memory(1), in_memory(1), in_memory(2)]
    tasks = to_label_studio(results, prefix="s3://b/", names=["x/a.png", "x/a.png", "x/b.png"])
    assert [task["data"]["image"] for task in tasks] == ["s3://b/x/a.png", "s3://b/x/b.png"]
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [2, 1]
    wrong: Sequence[tuple[Any, str]] = [
        (["a"], "1 names for 3 results"),
        ("abc", "names is a list of texts"),
        ([1, 2, 3], "names is a list of texts"),
        (["a", "a", "a"], "names calls two different pictures 'a'"),
    ]
    for names, message in wrong:
        with pytest.raises(OptionError, match=message):
            to_coco(results, names=names)
    files = [replace(of_box(1, 1), picture=Path(name)) for name in ("a.png", "b.png")]
    with pytest.raises(OptionError, match="names calls two different pictures 'a'"):
        to_coco(files, names=["a", "a"])


def test_a_number_is_no_name_that_another_picture_has() -> None:
    named = in_memory(2, name="picture-1")
    assert [one["file_name"] for one in to_coco([in_memory(1), named])["images"]] == ["picture-2", "picture-1"]
    assert [one["file_name"] for one in to_coco([named, in_memory(1)])["images"]] == ["picture-1", "picture-2"]


def test_pictures_that_a_prefix_would_make_one_are_refused() -> None:
    results = [of_box(1, 1, image=path) for path in ("/photos/a.png", "photos/a.png")]
    with pytest.raises(OptionError, match=r"/photos/a.png and photos/a.png would both be 'photos/a.png'"):
        to_label_studio(results, prefix="p/")
    assert len(to_label_studio(results)) == len(to_label_studio(results, prefix="p/", names=["1.png", "2.png"])) == 2


@pytest.mark.parametrize(
    ("paths", "addresses"),
    [
        (["a/1.png", "b/1.png"], ["p/a/1.png", "p/b/1.png"]),
        (["photos/a/1.png", "photos/b/1.png", "photos/2.png"], ["p/a/1.png", "p/b/1.png", "p/2.png"]),
        (["/data/photos/1.png", "/data/photos/2.png"], ["p/1.png", "p/2.png"]),
        (["/data/1.png", "2.png"], ["p/data/1.png", "p/2.png"]),
        (["photos/1.png"], ["p/1.png"]),
    ],
)
def test_a_prefix_stands_for_the_folder_that_holds_all_pictures(paths: list[str], addresses: list[str]) -> None:
    tasks = to_label_studio([of_box(1, 1, image=path) for path in paths], prefix="p/")
    assert [task["data"]["image"] for task in tasks] == addresses
    assert [task["data"]["image"] for task in to_label_studio([of_box(1, 1, image=path) for path in paths])] == paths


def test_maps_of_one_picture_are_one_task_with_a_prediction_for_each_method() -> None:
    cat = replace(of_box(0, 0), target=ScoredTarget(281, "tabby", 0.25, 3.5))
    lynx = replace(cat, target=ScoredTarget(287, "lynx", 0.5, 4.5))
    other = replace(cat, provenance=replace(cat.provenance, method="rise"))
    (task,) = to_label_studio([cat, lynx, other])
    assert [one["model_version"] for one in task["predictions"]] == ["net.onnx score-cam", "net.onnx rise"]
    assert [one["score"] for one in task["predictions"]] == [0.5, 0.25]
    assert [len(one["result"]) for one in task["predictions"]] == [2, 1]
    names = [part["id"] for one in task["predictions"] for part in one["result"]]
    assert names == ["region-1", "region-2", "region-3"]
    assert [line.split(" · ")[0] for line in task["meta"]["caption"].split("\n")] == ["tabby", "lynx", "tabby"]
    assert "score" not in to_label_studio([of_box(2983, 295)])[0]["predictions"][0]


def test_onnxcam_reads_its_own_coco_with_the_regions_that_have_holes(tmp_path: Path) -> None:
    holed = of_box(2983, 295, image="a.png")
    values = np.array(holed.map)
    values[50:60, 40:50] = 0
    Pillow.new("RGB", (300, 100)).save(tmp_path / "a.png")
    data = to_coco([replace(holed, map=values)], 0.5)
    (annotation,) = data["annotations"]
    assert annotation["iscrowd"] == 0
    assert isinstance(annotation["segmentation"], dict)
    (tmp_path / "instances.json").write_text(json.dumps(data))
    (box,) = read_data(tmp_path / "instances.json").items[0].boxes
    assert (box.label, box.box) == ("grass", (130, 40, 160, 70))
