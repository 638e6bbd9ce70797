"""ImageNet's boxes in XML and in Kaggle's table."""

from pathlib import Path

import pytest
from data_sets import SYNSETS, imagenet, write, write_picture, xml

from onnxcam.errors import DataError
from onnxcam.evaluation.dataset import LabelledBox
from onnxcam.evaluation.readers import read_data

CAT, DOG = SYNSETS.values()
NAME = "ILSVRC2012_val_00000057"


def kaggle(root: Path, row: str) -> Path:
    write_picture(root / f"ILSVRC/Data/CLS-LOC/val/{NAME}.JPEG")
    write(root / "LOC_val_solution.csv", f"ImageId,PredictionString\n{NAME},{row}\n")
    return root


def test_the_solution_of_kaggle_with_its_list_of_classes(tmp_path: Path) -> None:
    kaggle(tmp_path, f"{CAT} 1 2 30 40 {CAT} 5 6 7 8 ")
    write(tmp_path / "LOC_synset_mapping.txt", f"{DOG} Labrador retriever\n{CAT} Persian cat\n")
    data = read_data(tmp_path)
    assert data.format == "imagenet"
    assert data.classes == {0: "Labrador retriever", 1: "Persian cat"}
    item = data.items[0]
    assert (item.key, item.label) == (f"{NAME}.JPEG", 1)
    assert item.boxes == (LabelledBox((1, 2, 30, 40), 1), LabelledBox((5, 6, 7, 8), 1))


def test_without_a_list_of_classes_a_label_is_the_synset(tmp_path: Path) -> None:
    data = read_data(kaggle(tmp_path, f"{CAT} 1 2 30 40"))
    assert data.items[0].label == data.items[0].boxes[0].label == CAT


def test_xml_says_the_size_so_it_is_preferred(tmp_path: Path) -> None:
    kaggle(tmp_path, f"{CAT} 1 2 30 40")
    write(tmp_path / f"ILSVRC/Annotations/CLS-LOC/val/{NAME}.xml", xml([(DOG, (0, 0, 9, 9))], (160, 200)))
    with pytest.raises(DataError, match="annotated at 160 x 200 pixels, but the file has 80 x 100"):
        read_data(tmp_path)


def test_a_picture_whose_objects_are_of_two_classes_has_no_label(tmp_path: Path) -> None:
    data = read_data(imagenet(tmp_path))
    assert [item.label for item in data.items] == [None, CAT]


def test_training_pictures_are_labelled_by_their_names_and_splits_are_named(tmp_path: Path) -> None:
    imagenet(tmp_path)
    write_picture(tmp_path / f"Data/CLS-LOC/train/{DOG}/{DOG}_18.JPEG")
    with pytest.raises(DataError, match="holds the splits train, val; name one: --split val"):
        read_data(tmp_path)
    data = read_data(tmp_path, split="train")
    assert [(item.key, item.label, item.group) for item in data.items] == [(f"{DOG}_18.JPEG", DOG, "train")]
    assert data.skipped == {}
    assert len(read_data(tmp_path, split="val").items) == 2
    with pytest.raises(DataError, match="no pictures in a folder 'test'; its splits: train, val"):
        read_data(tmp_path, split="test")


def test_pictures_may_lie_elsewhere_and_boxes_without_a_picture_are_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / f"pictures/{NAME}.JPEG")
    for name in (NAME, "ILSVRC2012_val_00000058"):
        write(tmp_path / f"boxes/val/{name}.xml", xml([(CAT, (0, 0, 80, 100))]))
    data = read_data(tmp_path / "boxes", images=tmp_path / "pictures")
    assert [one.box for one in data.items[0].boxes] == [(0, 0, 80, 100)]
    assert list(data.skipped) == ["ILSVRC2012_val_00000058"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            f"{CAT} 1 2 30",
            r"LOC_val_solution\.csv, line 2: .* is not ImageId and, an object, a synset and four corners",
        ),
        ("cat 1 2 30 40", "line 2: 'cat 1 2 30 40' is not ImageId"),
        (f"{CAT} 1 2 x 40", "line 2: the box .* is not four numbers"),
    ],
)
def test_an_error_names_file_and_line(row: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(kaggle(tmp_path, row))


@pytest.mark.parametrize("text", [f"{CAT} cat\n{CAT} dog\n", f"{CAT} cat\nLabrador\n"])
def test_a_list_of_classes_names_synsets_once(text: str, tmp_path: Path) -> None:
    write(kaggle(tmp_path, f"{CAT} 1 2 30 40") / "LOC_synset_mapping.txt", text)
    with pytest.raises(DataError, match=r"LOC_synset_mapping\.txt, line 2: .*name each class once"):
        read_data(tmp_path)
