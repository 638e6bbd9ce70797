"""Pascal VOC's XML."""

from pathlib import Path

import pytest
from data_sets import voc, write, write_picture, xml

from onnxcam.errors import DataError
from onnxcam.evaluation.readers import read_data


def made(root: Path, annotation: str | bytes, name: str = "a.xml") -> Path:
    write_picture(root / "JPEGImages/a.png")
    write(root / "Annotations" / name, annotation)
    return root


def test_pixels_count_from_one_and_the_last_is_inside(tmp_path: Path) -> None:
    data = read_data(made(tmp_path, xml([("cat", (1, 1, 80, 100)), ("dog", (5, 6, 5, 6))])))
    assert [one.box for one in data.items[0].boxes] == [(0, 0, 80, 100), (4, 5, 5, 6)]


def test_the_boxes_of_an_objects_parts_are_not_its_own(tmp_path: Path) -> None:
    assert len(read_data(voc(tmp_path)).items[0].boxes) == 2


def test_a_split_is_a_list_in_image_sets(tmp_path: Path) -> None:
    voc(tmp_path)
    write(tmp_path / "ImageSets/Main/val.txt", "b\r\nmissing\r\n")
    write(tmp_path / "ImageSets/Main/cat_val.txt", "a  1\nb -1\nc  0\n")
    write(tmp_path / "ImageSets/Layout/val.txt", "a\n")
    data = read_data(tmp_path, split="val")
    assert [(item.key, item.group) for item in data.items] == [("b.png", "val")]
    assert "no picture of this name, which the split val lists" in data.skipped["missing"]
    assert [item.key for item in read_data(tmp_path, split="cat_val").items] == ["a.png", "c.png"]
    assert len(read_data(tmp_path).items) == 3
    with pytest.raises(DataError, match="0 lists are called 'test'; it holds Layout/val, Main/cat_val, Main/val"):
        read_data(tmp_path, split="test")


def test_xml_beside_the_pictures_in_splits(tmp_path: Path) -> None:
    for split, corner in {"train": 5, "valid": 7}.items():
        write_picture(tmp_path / split / "a.jpg")
        write(tmp_path / split / "a.xml", xml([("cat", (1, 1, corner, corner))]))
    data = read_data(tmp_path)
    assert [(item.key, item.boxes[0].box[2], item.group) for item in data.items] == [
        ("train/a.jpg", 5, "train"),
        ("valid/a.jpg", 7, "valid"),
    ]
    assert [item.key for item in read_data(tmp_path, split="valid").items] == ["a.jpg"]


def test_an_annotation_without_its_picture_is_left_out(tmp_path: Path) -> None:
    made(tmp_path, xml([("cat", (1, 1, 9, 9))]), "other.xml")
    data = read_data(tmp_path)
    assert data.items[0].boxes == ()
    assert "no picture of this name" in data.skipped["other.xml"]


def test_a_renamed_annotation_is_found_by_the_picture_that_it_names(tmp_path: Path) -> None:
    made(tmp_path, xml([("cat", (1, 1, 9, 9))], filename="C:\\data\\a.png"), "0001.xml")
    assert len(read_data(tmp_path).items[0].boxes) == 1


def test_two_devkits_are_not_mixed(tmp_path: Path) -> None:
    voc(tmp_path / "VOC2007")
    voc(tmp_path / "VOC2012")
    with pytest.raises(DataError, match="holds VOC2007/JPEGImages, VOC2012/JPEGImages; name the folder above one"):
        read_data(tmp_path)
    assert len(read_data(tmp_path / "VOC2012").items) == 3


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""
FILE_ENTITY = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation><filename>&a;</filename></annotation>'
CAT = "<annotation>\n<object>\n<name>cat</name>{}</object></annotation>"
SIDES = "<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"a\.xml: its XML is refused \(EntitiesForbidden"),
        (FILE_ENTITY, r"a\.xml: its XML is refused \(EntitiesForbidden"),
        ("<annotation>\n<object>\n</annotation>", r"a\.xml, line 3: not XML \(mismatched tag"),
        ("", r"a\.xml: empty \(0 bytes\)"),
        ("<annotations><object/></annotations>", r"a\.xml: its XML is <annotations>, not <annotation>"),
        (CAT.format(""), r"a\.xml, line 2: the object 'cat' has no bndbox"),
        (CAT.format(SIDES.format("nan")), "line 2: the object 'cat' has no bndbox of four numbers"),
        (CAT.format(SIDES.format("12")), "line 2: the bndbox of 'cat' ends before it starts"),
        (CAT.replace("cat", " ").format(SIDES.format("1")), "line 2: the object '' has no name"),
    ],
)
def test_an_error_names_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_data(made(tmp_path, text), format="voc")


def test_other_encodings_are_read(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>\r\n' + xml([("Bär", (1, 1, 9, 9))])
    assert read_data(made(tmp_path, text.encode("latin-1"))).items[0].boxes[0].label == "Bär"
