"""Boxes of pictures that EXIF turns."""

from pathlib import Path

import numpy as np
import pytest
from data_sets import write, write_picture, xml

from onnxcam.evaluation.readers import read_data
from onnxcam.evaluation.readers.upright import turned_box, upright_boxes
from onnxcam.inputs.images import Header, header_of, read_picture
from onnxcam.inputs.pixels import turned

BOX = (3, 5, 10, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_as_the_pixels_are(orientation: int) -> None:
    pixels = np.zeros((20, 30), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 1
    upright = turned(pixels, orientation)
    left, top, right, bottom = (int(side) for side in turned_box(BOX, orientation, (30, 20)))
    assert upright[top:bottom, left:right].all()
    assert upright.sum() == (bottom - top) * (right - left) == 14


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_header_has_the_size_of_the_picture_that_is_read(ending: str, orientation: int, tmp_path: Path) -> None:
    path = write_picture(tmp_path / f"a.{ending}", (30, 20), orientation)
    header = header_of(path)
    assert header == Header(20, 30, orientation)
    assert header.upright == read_picture(path).shape[:2]


def test_the_recorded_size_says_whether_a_box_is_of_the_stored_or_the_upright_pixels() -> None:
    header = Header(20, 30, 6)  # a picture of 30 x 20 that is 20 x 30 upright
    assert upright_boxes([BOX], header, (30, 20)) == [turned_box(BOX, 6, (30, 20))] == [(13, 3, 15, 10)]
    for size in ((20, 30), None, (0, 0)):
        assert upright_boxes([BOX], header, size) == [BOX]


def test_a_box_of_a_picture_of_another_size_is_left_out(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", (30, 20))
    write_picture(tmp_path / "b.png", (30, 20))
    write(tmp_path / "a.xml", xml([("cat", (1, 1, 9, 9))], (300, 200)))
    data = read_data(tmp_path)
    assert [item.key for item in data.items] == ["b.png"]
    assert "annotated at 300 x 200 pixels, but the file has 30 x 20" in data.skipped["a.png"]


def test_voc_of_a_turned_picture(tmp_path: Path) -> None:
    for name, size in {"stored": (30, 20), "upright": (20, 30)}.items():
        write_picture(tmp_path / f"{name}.jpg", (30, 20), 6)
        write(tmp_path / f"{name}.xml", xml([("cat", (4, 6, 10, 7))], size))
    boxes = {item.key: item.boxes[0].box for item in read_data(tmp_path).items}
    assert boxes == {"stored.jpg": (13, 3, 15, 10), "upright.jpg": BOX}


def test_yolos_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/a.jpg", (30, 20), 6)
    write(tmp_path / "labels/a.txt", "0 .5 .5 .5 1\n")
    assert read_data(tmp_path).items[0].boxes[0].box == (5, 0, 15, 30)
