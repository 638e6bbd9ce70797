"""read_data over every format of the table, and sample."""

import hashlib
from pathlib import Path

import pytest
from data_sets import BOXES, EXAMPLES, SYNSETS, write, write_picture
from PIL import ImageFile

from onnxcam.errors import DataError, OptionError
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.readers import read_data, sample
from onnxcam.evaluation.readers.reader import FLAGS
from onnxcam.evaluation.readers.registry import READERS
from onnxcam.inputs.images import read_picture

WITH_BOXES = [name for name in EXAMPLES if name != "folder"]


def test_every_format_has_an_example_and_words() -> None:
    assert EXAMPLES.keys() == READERS.keys()
    assert all(name == reader.name and len(reader.about) > 20 for name, reader in READERS.items())
    assert list(READERS)[-1] == "folder"  # it takes whatever no other does


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_format_is_recognised_from_its_content(name: str, tmp_path: Path) -> None:
    source = EXAMPLES[name](tmp_path)
    data = read_data(source)
    assert data.format == name
    assert data == read_data(source, format=name)


@pytest.mark.parametrize("name", WITH_BOXES)
def test_all_formats_give_the_same_boxes(name: str, tmp_path: Path) -> None:
    items = read_data(EXAMPLES[name](tmp_path)).items
    labels = SYNSETS if name == "imagenet" else {label: label for label in SYNSETS}
    boxes = [[(one.label, one.box) for one in item.boxes] for item in items if item.boxes]
    expected = [[(labels[label], pytest.approx(box)) for label, box in objects] for objects in BOXES.values()]
    assert boxes == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_decoded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        raise AssertionError("a picture was decoded")

    source = EXAMPLES[name](tmp_path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert len(read_data(source).items) >= 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_keys_do_not_depend_on_where_the_data_set_lies(name: str, tmp_path: Path) -> None:
    first, second = (read_data(EXAMPLES[name](tmp_path / place)) for place in ("here", "there/deeper"))
    assert [item.key for item in first.items] == [item.key for item in second.items]
    assert len({item.key for item in first.items}) == len(first.items)
    assert all(item.path.exists() and "\\" not in item.key and not item.key.startswith("/") for item in first.items)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_broken_picture_stays_in_the_data_set(name: str, tmp_path: Path) -> None:
    source = EXAMPLES[name](tmp_path)
    before = [item.key for item in read_data(source).items]
    write(read_data(source).items[0].path, b"no picture")
    assert [item.key for item in read_data(source).items] == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_option_that_a_format_does_not_read_is_refused(name: str, tmp_path: Path) -> None:
    source = EXAMPLES[name](tmp_path)
    options = {"labels": tmp_path, "images": tmp_path, "classes": tmp_path, "split": "val", "crowds": True}
    assert READERS[name].options <= options.keys()
    for option in options.keys() - READERS[name].options:
        with pytest.raises(OptionError, match=rf"{name} does not read {FLAGS[option]} \({option}= "):
            read_data(source, **{option: options[option]})


def test_two_formats_in_one_folder_are_not_chosen_between(tmp_path: Path) -> None:
    EXAMPLES["coco"](tmp_path)
    EXAMPLES["voc"](tmp_path)
    with pytest.raises(DataError, match="can be read as coco and as voc; say which: --format coco"):
        read_data(tmp_path)
    assert read_data(tmp_path, format="voc").format == "voc"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file or folder"),
        ("empty", r"no picture in this data set .*; pictures are files called \.jpg"),
        ("notes.doc", "no data set that can be read"),
    ],
)
def test_what_is_no_data_set_says_so(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "notes.doc", "notes")
    with pytest.raises(DataError, match=message):
        read_data(tmp_path / name)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png")
    with pytest.raises(OptionError, match=r"no format of data is called 'cocos'; did you mean coco"):
        read_data(tmp_path, format="cocos")
    with pytest.raises(OptionError, match="a data set is a path"):
        read_data(["a.png"])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="images is a path"):
        read_data(tmp_path, images=3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="split is a name"):
        read_data(tmp_path, split="")
    with pytest.raises(DataError, match="a file, but the format voc is a folder"):
        read_data(tmp_path / "a.png", format="voc")


def test_one_picture_is_a_data_set(tmp_path: Path) -> None:
    data = read_data(write_picture(tmp_path / "a.png"))
    assert [(item.key, item.label) for item in data.items] == [("a.png", None)]
    assert read_picture(data.items[0].path).shape == (100, 80, 3)


def of_keys(labels: dict[str, str]) -> DataSet:
    return DataSet("x", "folder", tuple(DataItem(Path(key), key, label) for key, label in labels.items()))


def test_a_sample_is_that_of_the_smallest_hashes_in_the_order_of_the_data() -> None:
    data = of_keys({f"{i}.png": "cat" for i in range(50)})
    keys = sorted((item.key for item in data.items), key=lambda key: hashlib.sha256(f"3:{key}".encode()).digest())[:7]
    chosen = [item.key for item in sample(data, 7, 3).items]
    assert chosen == sorted(keys, key=lambda key: int(key[:-4]))
    assert chosen == [f"{i}.png" for i in (3, 26, 31, 33, 34, 45, 49)]  # on every machine
    assert [item.key for item in sample(data, 7, 4).items] != chosen
    assert sample(data, 50, 3) == sample(data, 99, 3) == data


def test_a_sample_of_a_data_set_that_grew_keeps_its_pictures_unless_new_ones_come_in() -> None:
    data = of_keys({f"{i}.png": "cat" for i in range(100)})
    before = {item.key for item in sample(of_keys({f"{i}.png": "cat" for i in range(90)}), 20, 0).items}
    after = {item.key for item in sample(data, 20, 0).items}
    assert all(int(key[:-4]) >= 90 for key in after - before)


def test_a_sample_by_label_has_as_many_of_each() -> None:
    data = of_keys({f"{i}.png": "cat" if i < 90 else "dog" if i < 98 else "cow" for i in range(100)})
    labels = [item.label for item in sample(data, 12, 0, by_label=True).items]
    assert [labels.count(label) for label in ("cat", "dog", "cow")] == [5, 5, 2]


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (2.5, 0), (True, 0), (3, "a")])
def test_a_sample_of_no_number_is_refused(n: int, seed: int) -> None:
    with pytest.raises(OptionError, match="a sample has a whole number of pictures"):
        sample(of_keys({"a": "cat"}), n, seed)
