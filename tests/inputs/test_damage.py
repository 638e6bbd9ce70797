"""Lost data are an error in every format that is read, never a grey or black field: in a file, a clip, a strict Pillow or
a lenient one."""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs.claims import claims_too_much
from onnxcam.inputs.clips import chosen, frames_of
from onnxcam.inputs.images import read, read_picture

RNG = np.random.default_rng(0)
ROUGH = RNG.integers(0, 256, (20, 3, 3), np.uint8)
PHOTO = np.asarray(Image.fromarray(ROUGH).resize((96, 800), Image.Resampling.BICUBIC))
GREY_END = np.concatenate([PHOTO[:400], np.full_like(PHOTO[400:], 128)])
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {}, "PNG": {}, "GIF": {}, "WEBP": {}, "TIFF": {}, "BMP": {}, "PPM": {}, "JPEG2000": {},
}  # fmt: skip


def encoded(form: str, picture: np.ndarray = PHOTO, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_ten_rows_of_eight_hundred_that_are_cut_off_are_an_error(
    form: str, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    data = encoded(form)
    assert read_picture(data).shape == PHOTO.shape
    with pytest.raises(PictureError, match="damaged or cut short"):
        read_picture(data[: len(data) - len(data) // 80])


def intervals(data: bytes) -> list[re.Match[bytes]]:
    return list(re.finditer(rb"\xff[\xd0-\xd7]", data[data.index(b"\xff\xda") :]))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_that_lost_data_between_two_restart_markers_is_an_error(options: dict[str, Any]) -> None:
    for picture in (PHOTO, GREY_END):
        data = encoded("JPEG", picture, restart_marker_rows=1, **options)
        assert read_picture(data).shape == PHOTO.shape
        scan = data.index(b"\xff\xda")
        for i in (3, 10, 20):
            first, last = (scan + mark.start() for mark in intervals(data)[i : i + 2])
            for begin in (first + 2, (first + last) // 2):
                with pytest.raises(PictureError, match="damaged or cut short"):
                    read_picture(data[:begin] + data[last:])  # a part of the rows, which libjpeg fills with grey
            with pytest.raises(PictureError, match="damaged or cut short"):
                read_picture(data[:first] + data[last:])  # with its marker


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_last_bytes_of_any_interval_of_a_jpeg_are_missed(count: int) -> None:
    for picture in (PHOTO[:64], GREY_END[380:444]):
        data = encoded("JPEG", picture, restart_marker_rows=1)
        scan = data.index(b"\xff\xda")
        for end in [scan + mark.start() for mark in intervals(data)] + [len(data) - 2]:
            with pytest.raises(PictureError, match="damaged or cut short"):
                read_picture(data[: end - count] + data[end:])


def test_repeated_bytes_before_a_marker_hide_no_loss_and_are_none() -> None:
    data = encoded("JPEG", PHOTO[:64], restart_marker_rows=1)
    scan = data.index(b"\xff\xda")
    for end in [scan + mark.start() for mark in intervals(data)] + [len(data) - 2]:
        assert read_picture(data[:end] + b"\xff\xff\xff" + data[end:]).shape == (64, 96, 3)
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_picture(data[: end - 3] + b"\xff\xff\xff" + data[end:])


def test_a_restart_marker_in_a_jpeg_without_restarts_is_an_error() -> None:
    data = encoded("JPEG", PHOTO[:64])
    with pytest.raises(PictureError, match="damaged or cut short"):
        read_picture(data[:-40] + b"\xff\xd0" + data[-40:])


def test_a_scan_without_data_is_an_error() -> None:
    data = encoded("JPEG", PHOTO[:64], progressive=True)
    scans = [mark.start() for mark in re.finditer(rb"\xff\xda", data)]
    for begin in scans:
        begin += 2 + int.from_bytes(data[begin + 2 : begin + 4], "big")
        end = re.compile(rb"\xff[^\0\xd0-\xd7]").search(data, begin)
        assert end is not None
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_picture(data[:begin] + data[end.start() :])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("lenient", [False, True])
def test_a_clip_that_lost_a_part_of_its_last_frame_is_an_error(
    form: str, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    pictures = [Image.fromarray(np.roll(PHOTO, i, 1)) for i in range(4)]
    file = io.BytesIO()
    pictures[0].save(file, form, save_all=True, append_images=pictures[1:])

    def take(data: bytes) -> int:
        frames = frames_of(data, lambda each: read(each).picture, 4)
        assert frames is not None
        return len(chosen(frames, 4, "clip")[0])

    assert take(file.getvalue()) == 4
    with pytest.raises(PictureError, match="damaged or cut short"):
        take(file.getvalue()[: -len(file.getvalue()) // 80])


@pytest.mark.parametrize("lenient", [False, True])
def test_changed_pixels_of_an_animated_png_are_an_error(lenient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    pictures = [Image.fromarray(np.roll(PHOTO, i, 1)) for i in range(3)]
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:])
    data = bytearray(file.getvalue())
    data[data.rindex(b"fdAT") + 100] ^= 1
    with pytest.raises(PictureError, match="damaged or cut short"):
        frames_of(bytes(data), lambda each: each, 3)


SHORT: dict[str, Callable[[Image.Image], bytes]] = {
    "one colour": lambda picture: _saved(picture, "JPEG", quality=1),
    "one colour, optimised": lambda picture: _saved(picture, "JPEG", quality=1, optimize=True),
    "one colour, progressive": lambda picture: _saved(picture, "JPEG", progressive=True, quality=1),
    "one colour in PNG": lambda picture: _saved(picture, "PNG", compress_level=9),
    "two colours in PNG": lambda picture: _saved(picture.convert("P", colors=2), "PNG", bits=1, compress_level=9),
    "black and white": lambda picture: _saved(picture.convert("1"), "PNG", compress_level=9),
}


def _saved(picture: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_plainest_honest_picture_has_the_bytes_that_its_pixels_need(name: str, mode: str) -> None:
    for side in (1, 7, 8, 9, 64, 1000, 3001):
        data = SHORT[name](Image.new(mode, (side, side), "white"))
        with Image.open(io.BytesIO(data)) as image:
            assert not claims_too_much(image, len(data))
