"""YOLO's label files and data.yaml."""

from pathlib import Path

import pytest
from data_sets import write, write_picture, yolo

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import DataSet
from onnxcam.evaluation.readers import read_data


def made(root: Path, lines: str | bytes) -> Path:
    write_picture(root / "images/a.png")  # 80 x 100
    write(root / "labels/a.txt", lines)
    return root


def boxes_of(data: DataSet) -> list[tuple[object, tuple[float, ...]]]:
    return [(one.label, one.box) for item in data.items for one in item.boxes]


def test_shares_become_pixels_and_a_class_without_a_name_is_its_number(tmp_path: Path) -> None:
    data = read_data(made(tmp_path, "2 .5 .5 .25 .5\r\n\r\n0.0 0.25 0.1 0.5 0.2\r\n"))
    assert boxes_of(data) == [(2, (30, 25, 50, 75)), (0, (0, 0, 40, 20))]
    assert data.items[0].key == "images/a.png"


def test_a_polygon_an_oriented_box_and_a_confidence(tmp_path: Path) -> None:
    lines = [
        "0 .25 .5 .5 .25 .75 .5 .5 .75",
        "0 .25 .5 .5 .25 .75 .5 .5 .75 .5 .5",
        "0 .25 .5 .5 .25 .75 .5 .9",
        "0 .5 .5 .5 .5 .875",
    ]
    data = read_data(made(tmp_path, "\n".join(lines)))
    assert boxes_of(data) == [
        (0, (20, 25, 60, 75)),
        (0, (20, 25, 60, 75)),
        (0, (20, 25, 60, 50)),
        (0, (20, 25, 60, 75)),
    ]


def test_key_points_are_passed_over(tmp_path: Path) -> None:
    made(tmp_path, "0 .5 .5 .5 .5 " + ".1 .1 2 " * 3)
    write(tmp_path / "data.yaml", "train: images\nkpt_shape: [3, 3]\nnames: {0: person}\n")
    assert boxes_of(read_data(tmp_path)) == [("person", (20, 25, 60, 75))]


def test_pictures_without_labels_and_labels_without_pictures(tmp_path: Path) -> None:
    made(tmp_path, "0 .5 .5 .5 .5")
    write_picture(tmp_path / "images/none.png")
    write_picture(tmp_path / "images/empty.png")
    write(tmp_path / "labels/empty.txt", "")
    write(tmp_path / "labels/lost.txt", "0 .5 .5 .5 .5")
    data = read_data(tmp_path)
    assert {item.key: len(item.boxes) for item in data.items} == {
        "images/a.png": 1,
        "images/empty.png": 0,
        "images/none.png": 0,
    }
    assert list(data.skipped) == ["labels/lost.txt"]


def test_label_files_beside_the_pictures_with_their_classes(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    write(tmp_path / "a.txt", "1 .5 .5 .5 .5\n")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    data = read_data(tmp_path)
    assert (data.format, data.classes) == ("yolo", {0: "cat", 1: "dog"})
    assert boxes_of(data) == [("dog", (20, 25, 60, 75))]


def test_splits_of_data_yaml(tmp_path: Path) -> None:
    yolo(tmp_path)
    write_picture(tmp_path / "images/train/a.png")
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\ntest:\nnames:\n  0: cat\n  1: dog\n")
    data = read_data(tmp_path)
    assert [(item.key, item.group) for item in data.items][:2] == [
        ("images/train/a.png", "train"),
        ("images/val/a.png", "val"),
    ]
    assert read_data(tmp_path / "data.yaml", split="val").items == data.items[1:]
    with pytest.raises(DataError, match=r"data\.yaml: no split 'test'; it has train, val"):
        read_data(tmp_path, split="test")


def test_splits_without_data_yaml(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_picture(tmp_path / split / "images/a.png")
        write(tmp_path / split / "labels/a.txt", "0 .5 .5 .5 .5")
    assert [(item.key, item.group) for item in read_data(tmp_path, split="val").items] == [("val/images/a.png", "val")]
    assert len(read_data(tmp_path).items) == 2


def test_lists_of_pictures_and_the_paths_of_roboflow(tmp_path: Path) -> None:
    yolo(tmp_path)
    write(tmp_path / "list.txt", "./images/val/b.png\r\nimages\\val\\a.png\r\n")
    write(tmp_path / "data.yaml", "val: list.txt\nnames: [cat, dog]\n")
    assert [item.key for item in read_data(tmp_path).items] == ["images/val/a.png", "images/val/b.png"]
    write(tmp_path / "data.yaml", "val: ../images/val\nnames: [cat, dog]\n")
    assert len(read_data(tmp_path).items) == 3


def test_a_picture_in_two_splits_counts_once(tmp_path: Path) -> None:
    yolo(tmp_path)
    write(tmp_path / "data.yaml", "train: images/val\nval: images/val\nnames: [cat, dog]\n")
    assert [item.group for item in read_data(tmp_path).items] == ["train"] * 3


def test_pictures_elsewhere(tmp_path: Path) -> None:
    write_picture(tmp_path / "pictures/a.png")
    write(tmp_path / "data/labels/a.txt", "0 .5 .5 .5 .5")
    write(tmp_path / "data/data.yaml", "path: /nowhere\ntrain: images\nnames: [cat]\n")
    with pytest.raises(
        DataError, match=r"data\.yaml: train: '/nowhere/images' leads out .*--pictures FOLDER \(images= "
    ):
        read_data(tmp_path / "data")
    data = read_data(tmp_path / "data", images=tmp_path / "pictures")
    assert boxes_of(data) == [("cat", (20, 25, 60, 75))]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("0 .5 .5 .5 .5\n0 .5 .5 .5\n", r"a\.txt, line 2: '0 \.5 \.5 \.5' is no class with numbers behind it"),
        ("cat .5 .5 .5 .5", "line 1: 'cat .5 .5 .5 .5' is no class"),
        ("0.5 .5 .5 .5 .5", "line 1: '0.5 .5 .5 .5 .5' is no class"),
        ("-1 .5 .5 .5 .5", "line 1: .* is no class"),
        ("0 .5 .5 nan .5", "line 1: .* is no class"),
        ("0 40 50 20 30", "line 1: .*leaves 0 to 1; numbers are shares"),
        ("0 .5 .5 .5 -.5", "line 1: .*leaves 0 to 1"),
        (b"0 .5 .5 .5 .5\n\xff\xfe", r"a\.txt: not UTF-8 text"),
    ],
)
def test_an_error_names_file_and_line(lines: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(made(tmp_path, lines), format="yolo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat\ntrain: images", r"data\.yaml, line 2: not YAML"),
        ("- cat", "is no data.yaml"),
        ("names: {a: cat}\ntrain: images", "names is a mapping of 1, neither"),
        ("names: [cat]\ntrain: {a: 1}", "train is a mapping of 1, not a folder"),
        ("names: [cat]\ntrain: ../../pictures", "train: '../../pictures' leads out"),
        ("names: [cat]\ntrain: pictures", "train: no pictures in .*pictures; correct the path"),
        ("names: [cat]\ntrain: images\nkpt_shape: 3", "kpt_shape is 3, not two numbers"),
        pytest.param("names: [" + "[" * 50_000, "not YAML", id="nested deeply"),
        ("names: !!python/object/apply:os.system [ls]\ntrain: images", r"data\.yaml, line 1: not YAML"),
        ("names: [dog, cow]\ntrain: images", r"a\.txt, line 1: no name for the class 2; the names are of 0 to 1"),
    ],
)
def test_an_error_names_data_yaml(text: str, message: str, tmp_path: Path) -> None:
    made(tmp_path, "2 .5 .5 .5 .5")
    with pytest.raises(DataError, match=message):
        read_data(write(tmp_path / "data.yaml", text))


def test_yamls_references_do_not_grow(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)
    ]
    made(tmp_path, "0 .5 .5 .5 .5")
    write(tmp_path / "data.yaml", "\n".join([*lines, "names: *a11", "train: images"]))
    with pytest.raises(DataError, match="names is"):
        read_data(tmp_path)
