"""Pictures of every kind become upright RGB; damaged and oversized ones are refused by name."""

import io
import os
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from timing import growth

from onnxcam.errors import PictureError
from onnxcam.inputs.images import find_pictures, read_picture, size_of
from onnxcam.limits import SAFE

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


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(COLOURS, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    expected = ORIENTATIONS[orientation](COLOURS)
    np.testing.assert_array_equal(read_picture(data), expected)
    assert size_of(data) == expected.shape[:2]


def test_orientation_behind_the_pixels_of_a_png_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(COLOURS, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + struct.unpack(">I", data[start : start + 4])[0]]
    end = len(data) - 12  # IEND
    late = data[:start] + data[start + len(chunk) : end] + chunk + data[end:]
    np.testing.assert_array_equal(read_picture(late), ORIENTATIONS[6](COLOURS))
    assert size_of(late) == (4, 6)


def test_size_and_pixels_agree_wherever_the_orientations_of_a_png_stand() -> None:
    data = encoded(COLOURS, "PNG")
    exif = {number: Image.Exif() for number in (1, 6)}
    for number, value in exif.items():
        value[0x0112] = number
    contents = [b"eXIf" + value.tobytes()[6:] for value in exif.values()] + [
        b"eXIf",
        b"eXIfno tags",
        b'iTXtXML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>',
        b"tEXtRaw profile type exif\0\nexif\n2\n4578\n",
    ]
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in contents] + [b""]
    for before in chunks:
        for behind in chunks:
            for end in (data[-12:], b""):
                picture = data[:33] + before + data[33:-12] + behind + end
                try:
                    expected = read_picture(picture).shape[:2]
                except PictureError:
                    with pytest.raises(PictureError):
                        size_of(picture)
                    continue
                assert size_of(picture) == expected, (before, behind, end)


def test_a_damaged_orientation_leaves_the_picture_as_it_is() -> None:
    data = encoded(COLOURS, "PNG", exif=b"Exif\0\0no tags at all")
    np.testing.assert_array_equal(read_picture(data), COLOURS)
    assert size_of(data) == (6, 4)


def test_grey_becomes_three_equal_channels() -> None:
    np.testing.assert_array_equal(read_picture(encoded(GREY)), np.repeat(GREY[..., None], 3, axis=2))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    np.testing.assert_array_equal(read_picture(encoded(deep))[..., 0], [[0, 1, 100, 255]])


def test_grey_values_beyond_sixteen_bits_are_refused() -> None:
    np.testing.assert_array_equal(read_picture(encoded(np.array([[0, 25700]], np.int32), "TIFF"))[..., 2], [[0, 100]])
    with pytest.raises(PictureError, match="from 0 to 65536, not 16-bit"):
        read_picture(encoded(np.array([[0, 65536]], np.int32), "TIFF"))


def test_float_grey_is_a_share_of_white() -> None:
    np.testing.assert_array_equal(read_picture(encoded(np.float32([[0, 0.2, 1]]), "TIFF"))[..., 1], [[0, 51, 255]])
    for wrong in (-0.1, 1.5, 255.0, np.nan):
        with pytest.raises(PictureError, match=r"within \[0,1\]|NaN"):
            read_picture(encoded(np.float32([[0, wrong]]), "TIFF"))


def test_one_bit_and_cmyk_become_rgb() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(file, "PNG")
    np.testing.assert_array_equal(read_picture(file.getvalue()), [[[0] * 3, [255] * 3]])
    ink = Image.new("CMYK", (1, 1), (255, 0, 0, 0))  # full cyan, no other ink
    file = io.BytesIO()
    ink.save(file, "TIFF")
    np.testing.assert_array_equal(read_picture(file.getvalue()), [[[0, 255, 255]]])


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        file = io.BytesIO()
        options = {"lossless": True} if form == "WEBP" else {}
        frames[0].save(file, form, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_picture(file.getvalue()), np.full((2, 3, 3), (255, 0, 0)), err_msg=form)


@pytest.mark.parametrize(
    ("mode", "pixel", "form"),
    [("LA", (0, 51), "PNG"), ("LA", (0, 51), "TIFF"), ("PA", (0, 51), "TIFF"), ("RGBA", (0, 0, 0, 51), "WEBP")],
)
def test_each_kind_of_alpha_lies_over_white(mode: str, pixel: tuple[int, ...], form: str) -> None:
    file = io.BytesIO()
    picture = Image.new(mode, (2, 2), pixel)
    if mode == "PA":
        picture.putpalette([0, 0, 0])
    picture.save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(read_picture(file.getvalue()), np.full((2, 2, 3), 204))  # 255 * (1 - 51 / 255)


def test_a_transparent_colour_is_white() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(file, "PNG", transparency=7)
    np.testing.assert_array_equal(read_picture(file.getvalue())[..., 0], [[255, 9]])
    file = io.BytesIO()
    Image.fromarray(np.array([[1000, 25700]], np.uint16)).save(file, "PNG", transparency=1000)
    np.testing.assert_array_equal(read_picture(file.getvalue())[..., 0], [[255, 100]])


def test_transparency_lies_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    pixels = read_picture(encoded(rgba))
    np.testing.assert_array_equal(pixels[0, :2], [[10, 20, 30], [255, 255, 255]])
    assert abs(int(pixels[0, 2, 0]) - 127) <= 1


def test_a_palette_gives_its_colours() -> None:
    file = io.BytesIO()
    flat = np.zeros((4, 4, 3), np.uint8)
    flat[:, 2:] = (200, 30, 90)
    Image.fromarray(flat).quantize(2).save(file, "PNG")
    np.testing.assert_array_equal(read_picture(file.getvalue()), flat)


def test_path_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(COLOURS))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), read_picture((tmp_path / "a.png").read_bytes()))


@pytest.mark.parametrize("read", [read_picture, size_of])
def test_each_unreadable_file_is_named_with_what_is_wrong(read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture at all")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, wrong in {
        "none.png": "no such file",
        "empty.png": "0 bytes",
        "text.png": "not a picture",
        "folder.png": "a folder",
        "pipe.png": "not a regular file",
        "a\0b.png": "null",
        "x" * 300 + ".png": "too long",
    }.items():
        with pytest.raises(PictureError, match=wrong) as caught:
            read(tmp_path / name)
        assert name.replace("\0", r"\x00") in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(encoded(COLOURS))
    monkeypatch.setattr("onnxcam.files.os.open", refuse)  # chmod does not stop the superuser
    with pytest.raises(PictureError, match=r"a\.png: cannot be read \(permission denied\)"):
        read_picture(tmp_path / "a.png")


def test_bytes_are_called_bytes() -> None:
    for data, wrong in ((b"", "<bytes>: empty"), (b"text", "<bytes>: not a picture")):
        with pytest.raises(PictureError, match=wrong):
            read_picture(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP", "GIF"])
def test_truncated_pictures_are_errors_or_complete(form: str) -> None:
    big = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = encoded(big, form)
    complete = read_picture(data)
    for length in range(0, len(data) - 12, max(1, len(data) // 40)):
        try:
            pixels = read_picture(data[:length])
        except PictureError as error:
            assert str(error)
        else:
            np.testing.assert_array_equal(pixels, complete)


@pytest.mark.filterwarnings("ignore:::PIL")  # of metadata
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
    data += encoded(COLOURS)[33:]
    start = time.monotonic()
    tracemalloc.start()
    for read in (read_picture, size_of):
        with pytest.raises(
            PictureError,
            match=rf"2,500,000,000 pixels; the limit is {SAFE.pixels:,} pixels; raise it with --max-pixels",
        ):
            read(data)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert time.monotonic() - start < 5  # a bound on work that must not happen, not a benchmark


def test_large_photographs_do_not_warn(tmp_path: Path) -> None:
    Image.new("L", (12_000, 8_000)).save(tmp_path / "large.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size_of(tmp_path / "large.png") == (8_000, 12_000)


def test_a_small_picture_is_decoded_while_another_thread_is_inside_a_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    data, before, load = encoded(COLOURS), list(warnings.filters), PngImageFile.load
    inside, finished = threading.Event(), threading.Event()
    waited: list[bool] = []

    def slow(image: PngImageFile) -> object:
        if threading.current_thread() is decoder:
            inside.set()
            waited.append(finished.wait(30))
        return load(image)

    monkeypatch.setattr(PngImageFile, "load", slow)
    decoder = threading.Thread(target=read_picture, args=(data,))
    decoder.start()
    assert inside.wait(30)
    np.testing.assert_array_equal(read_picture(data), COLOURS)
    assert size_of(data) == (6, 4)
    assert list(warnings.filters) == before
    finished.set()
    decoder.join()
    assert waited
    assert all(waited), "the small picture came while the other was inside"
    assert list(warnings.filters) == before


def test_a_limit_that_the_caller_gave_pillow_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    for read in (read_picture, size_of):
        with pytest.raises(PictureError, match="4 x 6 is more than 22 pixels"):
            read(encoded(COLOURS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12)
    assert size_of(encoded(COLOURS)) == (6, 4)


def test_warnings_that_are_errors_become_picture_errors() -> None:
    """A TIFF whose width has two entries: Pillow warns of it, and reads the first."""
    data = bytearray(encoded(COLOURS, "TIFF"))
    at = data.index(struct.pack("<HHI", 0x0100, 4, 1)) + 4
    data[at] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError):
            size_of(bytes(data))


def test_a_folder_gives_its_pictures_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(encoded(COLOURS))
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "c.png").write_bytes(encoded(COLOURS))
    assert find_pictures(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert [p.name for p in find_pictures(tmp_path)] == ["a.jpg", "b.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="no pictures"):
        find_pictures(tmp_path / "empty")
    with pytest.raises(PictureError):
        find_pictures(tmp_path / "none")


def test_twice_as_many_pictures_take_about_twice_as_long_to_list(tmp_path: Path) -> None:
    for count in (1_000, 2_000):
        (tmp_path / str(count)).mkdir()
        for i in range(count):
            (tmp_path / str(count) / f"{i:05}.jpg").touch()
        assert len(find_pictures(tmp_path / str(count))) == count
    assert growth(lambda n: find_pictures(tmp_path / str(n)), 2_000) < 3


@pytest.mark.parametrize("source", [None, 3, ["a.png"], b"".join, {}], ids=repr)
def test_what_names_no_file_is_refused_with_what_does(source: Any) -> None:
    for read in (read_picture, size_of, find_pictures):
        with pytest.raises(PictureError, match="a picture file is a path, or its content as bytes"):
            read(source)


def test_a_link_to_itself_is_an_error_of_that_picture_only(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert find_pictures(tmp_path) == [tmp_path / "a.png", tmp_path / "loop.png"]
    with pytest.raises(PictureError, match=r"loop\.png"):
        read_picture(tmp_path / "loop.png")
