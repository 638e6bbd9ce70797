"""Folders of pictures, and their files of labels."""

import os
import sys
from pathlib import Path

import pytest
from data_sets import folder, write, write_picture, write_pictures

from onnxcam.errors import DataError, OptionError
from onnxcam.evaluation.dataset import DataSet
from onnxcam.evaluation.readers import read_data


def labels_of(data: DataSet) -> dict[str, object]:
    return {item.key: item.label for item in data.items}


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    folder(tmp_path)
    write_pictures(tmp_path / "dog/deeper", "a.png")
    write_pictures(tmp_path / "207", "a.png")
    write_pictures(tmp_path, "a.png")
    assert labels_of(read_data(tmp_path)) == {
        "207/a.png": 207,
        "a.png": None,
        "cat/a.png": "cat",
        "cat/b.png": "cat",
        "dog/c.png": "dog",
        "dog/deeper/a.png": "dog",
    }


def test_splits_are_no_labels(tmp_path: Path) -> None:
    folder(tmp_path / "train")
    folder(tmp_path / "val")
    data = read_data(tmp_path)
    assert [(item.key, item.label, item.group) for item in data.items][2:4] == [
        ("train/dog/c.png", "dog", "train"),
        ("val/cat/a.png", "cat", "val"),
    ]
    assert labels_of(read_data(tmp_path, split="val")) == {"cat/a.png": "cat", "cat/b.png": "cat", "dog/c.png": "dog"}
    with pytest.raises(DataError, match="no pictures in a sub-folder 'test'; its sub-folders: train, val"):
        read_data(tmp_path, split="test")


def test_all_of_imagenets_synsets_are_the_models_classes(tmp_path: Path) -> None:
    content = write_picture(tmp_path / "x.png", (1, 1)).read_bytes()
    names = [f"n{i:08}" for i in range(1000)]
    for name in names:
        write(tmp_path / f"all/{name}/a.png", content)
    data = read_data(tmp_path / "all")
    assert [item.label for item in data.items] == list(range(1000))
    assert data.classes[7] == "n00000007"
    write(tmp_path / "classes.txt", "n00000009 nine\nn00000002 two, a pair\n")
    data = read_data(tmp_path / "all", classes=tmp_path / "classes.txt")
    assert [data.items[i].label for i in (2, 3, 9)] == [1, "n00000003", 0]
    assert data.classes == {0: "nine", 1: "two, a pair"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "name,label\r\na.png,cat\r\nsub/b.png,12\r\n"),
        ("labels.csv", "a.png,cat\nb.png,12\n"),
        ("labels.csv", "id,label\na,cat\nsub/b,12\n"),
        ("labels.tsv", "\ufefffile\tlabel\na.png\tcat\nb.png\t12\n"),
        ("labels.txt", "a.png cat\n\nsub\\b.png 12\n"),
        ("labels.txt", "a.png, cat\nb.png,\t12\n"),
    ],
)
def test_a_file_of_labels_beside(name: str, text: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png sub/b.png other/c.png")
    path = write(tmp_path / "data.txt" if name == "-" else tmp_path / name, text)
    assert labels_of(read_data(tmp_path)) == {"a.png": "cat", "other/c.png": None, "sub/b.png": 12}
    path = path.rename(tmp_path.parent / f"{tmp_path.name}{path.suffix}")
    assert labels_of(read_data(tmp_path, labels=path)) == {"a.png": "cat", "other/c.png": None, "sub/b.png": 12}


def test_synsets_in_a_file_of_labels_become_the_models_classes(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png b.png")
    write(tmp_path / "labels.txt", "a.png n02123394\nb.png n02099601\n")
    classes = write(tmp_path / "classes.txt", "n02099601 dog\nn02123394 cat\n")
    assert labels_of(read_data(tmp_path, classes=classes)) == {"a.png": 1, "b.png": 0}


def test_one_picture_takes_no_options_of_a_folder(tmp_path: Path) -> None:
    picture, labels = write_picture(tmp_path / "a.png"), write(tmp_path / "labels.csv", "a.png,cat\n")
    with pytest.raises(OptionError, match=r"a\.png: one picture takes no --data-labels \(labels= in Python\)"):
        read_data(picture, labels=labels)
    with pytest.raises(OptionError, match="one picture takes no --split"):
        read_data(picture, split="val")


def test_a_list_of_classes_is_no_file_of_labels(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path / "labels.txt", "cat\ngolden retriever\n")
    assert labels_of(read_data(tmp_path))["cat/a.png"] == "cat"


def test_names_with_spaces_have_labels_with_spaces(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    (tmp_path / "a.png").rename(tmp_path / "my cat.png")
    write(tmp_path / "labels.txt", "my cat.png Persian cat\n")
    assert labels_of(read_data(tmp_path)) == {"my cat.png": "Persian cat"}


def test_a_label_without_its_picture_is_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png")
    write(tmp_path / "labels.txt", "a.png cat\nb.png dog\n")
    data = read_data(tmp_path)
    assert list(data.skipped) == ["b.png"]
    assert "labels.txt, line 2: no such picture" in data.skipped["b.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b.png cat\n", r"line 1: 'b\.png' may mean 2 pictures \(one/b\.png, two/b\.png\); name its folder too"),
        ("one/b.png cat\none/b.png dog\n", "line 2: one/b.png has the labels 'cat' and 'dog'"),
        (
            "one/b.png cat\ntwo/b.png\n",
            r"labels\.txt, line 2: 'two/b.png' stands alone; a file of labels has a picture and a label",
        ),
    ],
)
def test_an_error_names_the_line_of_a_label(text: str, message: str, tmp_path: Path) -> None:
    write_pictures(tmp_path, "one/b.png two/b.png")
    with pytest.raises(DataError, match=message):
        read_data(tmp_path, labels=write(tmp_path / "labels.txt", text))


def test_the_order_is_natural(tmp_path: Path) -> None:
    names = "10.png 2.png a10/1.png A9/3.png a9/20.png b1.png b01.png B2.png ä.png".split()
    write_pictures(tmp_path, " ".join(reversed(names)))
    keys = [item.key for item in read_data(tmp_path).items]
    assert keys == "2.png 10.png A9/3.png a9/20.png a10/1.png b01.png b1.png B2.png ä.png".split()


def test_hidden_files_and_files_that_are_no_pictures_are_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path, "a.png .b.png ._a.png .git/c.png __MACOSX/._a.png")
    write(tmp_path / "notes.doc", "x")
    write(tmp_path / "Thumbs.db", "x")
    assert list(labels_of(read_data(tmp_path))) == ["a.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    write_pictures(tmp_path / "there", "a.png")
    (tmp_path / "data/cat").mkdir(parents=True)
    (tmp_path / "data/dog").symlink_to(tmp_path / "there")
    (tmp_path / "data/cat/again").symlink_to(tmp_path / "data")
    (tmp_path / "data/cat/self.png").symlink_to("self.png")
    (tmp_path / "data/cat/b.png").symlink_to(tmp_path / "there/a.png")
    assert labels_of(read_data(tmp_path / "data")) == {"cat/b.png": "cat", "cat/self.png": "cat", "dog/a.png": "dog"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems store no such names")
def test_names_that_are_no_utf8_or_decomposed_have_keys_that_can_be_stored(tmp_path: Path) -> None:
    content = write_picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "e\u0301.png").write_bytes(content)
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb") as file:
        file.write(content)
    keys = [item.key for item in read_data(tmp_path).items]
    assert keys == ["\\udcff.png", "a.png", "\u00e9.png"]
    assert all(item.path.exists() for item in read_data(tmp_path).items)
    (tmp_path / "\u00e9.png").write_bytes(content)
    with pytest.raises(DataError, match="another file has the same name, spelt with other bytes"):
        read_data(tmp_path)
