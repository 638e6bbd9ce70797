"""COCO, whose expected boxes pycocotools and supervision give too (tools/compare_readers.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_sets import coco, write, write_picture

from onnxcam.errors import DataError
from onnxcam.evaluation.readers import read_data


def made(root: Path, **changes: Any) -> Path:
    """An instances.json of one picture, beside it."""
    write_picture(root / "a.png")
    values = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 10, 20.25]}],
    }
    return write(root / "instances.json", json.dumps(values | changes))


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20]} | changes]


def test_a_box_is_left_top_width_and_height(tmp_path: Path) -> None:
    data = read_data(made(tmp_path))
    assert data.items[0].boxes[0].box == (1.5, 2, 11.5, 22.25)
    assert data.items[0].label is None


def test_category_ids_may_have_gaps_and_are_no_classes_of_the_model(tmp_path: Path) -> None:
    data = read_data(coco(tmp_path))
    assert data.classes == {90: "dog", 17: "cat"}
    assert [one.label for one in data.items[0].boxes] == ["cat", "dog"]


def test_a_picture_without_annotation_has_no_boxes(tmp_path: Path) -> None:
    data = read_data(coco(tmp_path))
    assert [(item.key, len(item.boxes)) for item in data.items] == [("a.png", 2), ("b.png", 1), ("c.png", 0)]


@pytest.mark.parametrize("source", [".", "annotations/instances_val2017.json"])
def test_the_folder_and_the_json_itself_are_the_same_data_set(source: str, tmp_path: Path) -> None:
    data = read_data(coco(tmp_path) / source)
    assert [item.key for item in data.items] == ["a.png", "b.png", "c.png"]
    assert {item.group for item in data.items} == {"val2017"}


def test_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    made(tmp_path / "here")
    (tmp_path / "there").mkdir()
    (tmp_path / "here/a.png").rename(tmp_path / "there/a.png")
    with pytest.raises(
        DataError, match=r"instances\.json: none of its pictures, such as a\.png, is in .*--pictures FOLDER \(images= "
    ):
        read_data(tmp_path / "here/instances.json")
    assert read_data(tmp_path / "here/instances.json", images=tmp_path / "there").items[0].key == "a.png"


def test_crowds_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    path = made(tmp_path, annotations=annotation(iscrowd=1) + annotation(id=6, bbox=[0, 0, 5, 5], iscrowd=0))
    assert [one.box for one in read_data(path).items[0].boxes] == [(0, 0, 5, 5)]
    assert [one.box for one in read_data(path, crowds=True).items[0].boxes] == [(1, 2, 11, 22), (0, 0, 5, 5)]


def test_a_box_without_area_is_left_out_with_its_annotation(tmp_path: Path) -> None:
    data = read_data(made(tmp_path, annotations=annotation(bbox=[4, 4, 0, 9])))
    assert data.items[0].boxes == ()
    assert data.skipped == {"a.png: annotation 5": "the box (4, 4, 4, 13) has no area"}


def test_a_box_outside_of_its_picture_is_left_out_and_one_beyond_it_is_cut_off(tmp_path: Path) -> None:
    outside = annotation(bbox=[600, 600, 50, 50]) + annotation(id=6, bbox=[10, 0, 711, 957])
    data = read_data(made(tmp_path, annotations=outside))
    assert [one.box for one in data.items[0].boxes] == [(10, 0, 80, 100)]
    assert "(600, 600, 650, 650) lies outside of the picture" in data.skipped["a.png: annotation 5"]
    assert "(10, 0, 721, 957) reaches beyond the picture" in data.skipped["a.png: annotation 6"]


def test_what_lacks_its_picture_is_left_out(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    data = read_data(made(tmp_path, images=images, annotations=annotation(image_id=9)))
    assert [item.key for item in data.items] == ["a.png"]
    assert "image 2: no such picture" in data.skipped["b.png"]
    assert data.skipped["annotation 5"] == "of image 9, which the file does not list"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": annotation(bbox=[1, 2, -3, 4])}, r"instances\.json, annotation 5: .*negative size"),
        ({"annotations": annotation(id=10, bbox=None)}, "annotation 10 has no bbox; add it"),
        (
            {"annotations": [{"image_id": 1, "category_id": 3, "segmentation": []}]},
            "entry 1 of annotations has no bbox",
        ),
        ({"categories": None}, r"has annotations but no list 'categories', which names their classes; add it: \[\{"),
        ({"categories": []}, "has annotations but no list 'categories'"),
        ({"annotations": annotation(bbox=[1, 2, 3])}, r"annotation 5: its bbox is \[1, 2, 3\], not four numbers"),
        ({"annotations": annotation(bbox=[1, 2, 3, 1e400])}, "annotation 5: its bbox is .*not four numbers"),
        ({"annotations": annotation(bbox=[1, 2, True, 4])}, "annotation 5: its bbox is .*not four numbers"),
        ({"annotations": annotation(category_id=4)}, "annotation 5: no category has the id 4"),
        ({"annotations": annotation(category_id=[3])}, r"annotation 5: no category has the id \[3\]"),
        ({"annotations": annotation(image_id=None)}, "annotation 5: its image_id is None"),
        ({"annotations": [7]}, "entry 1 of annotations: 7 is no object"),
        ({"annotations": None}, "no list 'annotations'"),
        ({"categories": [{"id": 3}]}, r"categories: \{'id': 3\} has no id and name"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]}, "has no id and name of its own"),
        ({"images": [{"id": 1}]}, "image 1: .* has no id and file_name"),
        ({"images": [{"id": 1, "file_name": "a.png"}] * 2}, "image 1: two images have this id"),
        ({"images": [{"id": i, "file_name": "a.png"} for i in (1, 2)]}, "image 2: a.png is named before .*image 1"),
        ({"images": [{"id": 1, "file_name": "../a.png"}]}, "image 1: '../a.png' leads out .*--pictures FOLDER"),
        ({"images": [{"id": 1, "file_name": "/etc/a.png"}]}, "image 1: '/etc/a.png' leads out"),
        ({"images": [{"id": 1, "file_name": "C:\\a.png"}]}, "image 1: .*a.png' leads out"),
    ],
)
def test_an_error_names_the_annotation(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(made(tmp_path, **changes))


def test_a_damaged_json_says_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "instances.json", '{"images": [],\n"annotations": [\n')
    with pytest.raises(DataError, match=r"instances\.json: not JSON \(.* line 3"):
        read_data(path)
    write(path, '{"images": [' + "[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_data(path, format="coco")


def test_of_several_jsons_one_is_named(tmp_path: Path) -> None:
    coco(tmp_path)
    write(tmp_path / "annotations/instances_train2017.json", '{"images": [], "annotations": []}')
    with pytest.raises(
        DataError, match=r"instances_train2017\.json, .*: --split train2017 .*\(split= .*train2017, val2017\)"
    ):
        read_data(tmp_path)
    assert len(read_data(tmp_path, split="val2017").items) == 3
    one = tmp_path / "annotations/instances_val2017.json"
    assert len(read_data(one, split="val2017").items) == 3
    with pytest.raises(DataError, match="one JSON is not split further; leave --split out"):
        read_data(one, split="train2017")
    with pytest.raises(DataError, match="holds no JSON of COCO"):
        read_data(tmp_path / "val2017", format="coco")


def test_roboflows_folders_are_read(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        made(tmp_path / split).rename(tmp_path / split / "_annotations.coco.json")
    assert [item.key for item in read_data(tmp_path, split="valid").items] == ["a.png"]


def test_names_with_backslashes_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = made(tmp_path, images=[{"id": 1, "file_name": "sub\\b.png"}])
    write_picture(tmp_path / "sub/b.png")
    write(path, b"\xef\xbb\xbf" + path.read_bytes())
    assert read_data(path).items[0].key == "sub/b.png"
