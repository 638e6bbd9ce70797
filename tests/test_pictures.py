import io
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.pictures import find_pictures, read_picture, size_of

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 4, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]


def encoded(array: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_colour_comes_back_pixel_for_pixel(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(read_picture(encoded(COLOURS, form, **options)), COLOURS)


ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(COLOURS, "PNG", exif=exif)
    expected = ORIENTATIONS[orientation](COLOURS)
    np.testing.assert_array_equal(read_picture(data), expected)
    assert size_of(data) == expected.shape[:2]


def test_grey_becomes_three_equal_channels() -> None:
    np.testing.assert_array_equal(read_picture(encoded(GREY)), np.repeat(GREY[..., None], 3, axis=2))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    np.testing.assert_array_equal(read_picture(encoded(deep))[..., 0], [[0, 1, 100, 255]])


def test_transparency_lies_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    got = read_picture(encoded(rgba))
    np.testing.assert_array_equal(got[0, :2], [[10, 20, 30], [255, 255, 255]])
    assert abs(int(got[0, 2, 0]) - 127) <= 1


def test_a_palette_gives_its_colours() -> None:
    file = io.BytesIO()
    flat = np.zeros((4, 4, 3), np.uint8)
    flat[:, 2:] = (200, 30, 90)
    Image.fromarray(flat).quantize(2).save(file, "PNG")
    np.testing.assert_array_equal(read_picture(file.getvalue()), flat)


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(COLOURS))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), read_picture((tmp_path / "a.png").read_bytes()))


def test_missing_empty_text_and_folder_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture at all")
    for name in ("none.png", "empty.png", "text.png", "."):
        with pytest.raises(PictureError):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP", "GIF"])
def test_truncated_pictures_are_errors_or_whole(form: str) -> None:
    big = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(big, form)
    whole = read_picture(data)
    for length in range(0, len(data) - 12, max(1, len(data) // 40)):
        try:
            got = read_picture(data[:length])
        except PictureError as error:
            assert str(error)
        else:
            np.testing.assert_array_equal(got, whole)


def test_mutated_pictures_never_escape_as_other_errors() -> None:
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = encoded(COLOURS, form)
        for seed in range(150):
            rng = np.random.default_rng(seed)
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), 1 + seed % 4):
                damaged[at] = int(rng.integers(0, 256))
            try:
                assert read_picture(bytes(damaged)).dtype == np.uint8
            except PictureError as error:
                assert len(str(error).splitlines()) <= 2


def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    start = time.monotonic()
    with pytest.raises(PictureError, match=r"pixels"):
        read_picture(data + encoded(COLOURS)[33:])
    assert time.monotonic() - start < 5  # a bound on work that must not happen, not a benchmark


def test_large_photographs_do_not_warn(tmp_path: Path) -> None:
    Image.new("L", (12_000, 8_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size_of(tmp_path / "large.png") == (8_000, 12_000)


def test_a_folder_gives_its_pictures_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(encoded(COLOURS))
    assert [p.name for p in find_pictures(tmp_path)] == ["a.jpg", "b.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="no pictures"):
        find_pictures(tmp_path / "empty")
    with pytest.raises(PictureError):
        find_pictures(tmp_path / "none")
