"""Every kind of file and object that holds a picture gives the answer of Pillow's own RGB; damage and URLs are refused."""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from PIL import Image, ImageFile, ImageOps

from onnxcam import Explainer, NoteCode, overlay, read_picture
from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.bundled import pictures
from onnxcam.outputs.record import record

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:38, :54]
SMOOTH = np.stack([ROWS * 6, COLUMNS * 4, 255 - ROWS * 3 - COLUMNS * 2], -1).astype(np.uint8)
CAT = np.asarray(Image.open(next(iter(pictures().values()))).convert("RGB").resize((90, 60)))
PICTURES = {"smooth": SMOOTH, "noise": RNG.integers(0, 256, (41, 30, 3)).astype(np.uint8), "cat": CAT}
ROUNDING = 1.01 / 255
"""The preset `unit` makes 1 of 255."""


@pytest.fixture(scope="module")
def explain(classifier: onnx.ModelProto) -> Iterator[Explainer]:
    with Explainer(classifier, "grad-cam", providers=["cpu"], preset="unit") as explainer:
        yield explainer


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def turned(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def deep(image: Image.Image) -> bytes:
    """A PNG of 16 bits."""
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return cv2.imencode(".png", grey)[1].tobytes()


FILES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda image: encoded(image, "JPEG"),
    "progressive JPEG": lambda image: encoded(image, "JPEG", progressive=True),
    "grey JPEG": lambda image: encoded(image.convert("L"), "JPEG"),
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "turned JPEG": lambda image: encoded(image, "JPEG", exif=turned(6)),
    "PNG": lambda image: encoded(image, "PNG"),
    "RGBA PNG": lambda image: encoded(with_alpha(image), "PNG"),
    "palette PNG": lambda image: encoded(image.quantize(16), "PNG", transparency=3),
    "LA PNG": lambda image: encoded(with_alpha(image.convert("L")), "PNG"),
    "1-bit PNG": lambda image: encoded(image.convert("1"), "PNG"),
    "16-bit PNG": deep,
    "WebP": lambda image: encoded(image, "WEBP"),
    "GIF": lambda image: encoded(image, "GIF"),
    "TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw", exif=turned(8)),
    "BMP": lambda image: encoded(image, "BMP"),
}


def pillows_rgb(content: bytes) -> np.ndarray:
    """What Pillow alone makes of a file: upright, over white, RGB."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode.startswith("I"):
        return np.stack([np.rint(np.asarray(image) / 257).astype(np.uint8)] * 3, -1)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("kind", FILES)
def test_each_kind_of_file_gets_the_answer_of_pillows_rgb(explain: Explainer, kind: str, picture: str) -> None:
    content = FILES[kind](Image.fromarray(PICTURES[picture]))
    rgb = pillows_rgb(content)
    np.testing.assert_allclose(explain.prepare(content).image, explain.prepare(rgb).image, atol=ROUNDING)
    saliency, expected = explain(content, 2), explain(rgb, 2)
    np.testing.assert_allclose(saliency.map, expected.map, atol=0.01)
    assert saliency.placement == expected.placement
    drawn = overlay(content, saliency.map, saliency.placement)
    np.testing.assert_allclose(drawn, overlay(rgb, expected.map, expected.placement), atol=6)


class Interface:
    """An array that says where its numbers are and is of no library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.__array_interface__ = array, array.__array_interface__


class Shared:
    """An array that exports DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array.copy()

    def __dlpack__(self) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def opened(rgb: np.ndarray) -> io.BytesIO:
    """A file that was just written, and stands at its end."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file


OBJECTS: dict[str, Callable[[np.ndarray], Any]] = {
    "Pillow image": Image.fromarray,
    "Pillow image of a file": lambda rgb: Image.open(opened(rgb)),
    "Pillow image with alpha": lambda rgb: Image.fromarray(rgb).convert("RGBA"),
    "bytes": lambda rgb: opened(rgb).getvalue(),
    "bytearray": lambda rgb: bytearray(opened(rgb).getvalue()),
    "memoryview": lambda rgb: opened(rgb).getbuffer(),
    "open file": opened,
    "bytes, channels last": lambda rgb: rgb,
    "bytes, channels first": lambda rgb: np.moveaxis(rgb, 2, 0),
    "a batch of one": lambda rgb: rgb[None],
    "bytes with alpha": lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
    "int64": lambda rgb: rgb.astype(np.int64),
    "floats in [0,1]": lambda rgb: rgb / np.float32(255),
    "half floats": lambda rgb: (rgb / 255).astype(np.float16),
    "floats of pixels": lambda rgb: rgb.astype(np.float64),
    "floats, channels first": lambda rgb: np.moveaxis(rgb / np.float32(255), 2, 0),
    "not contiguous": lambda rgb: np.asfortranarray(rgb),
    "memoryview of numbers": lambda rgb: memoryview(rgb),
    "__array_interface__": Interface,
    "DLPack": Shared,
    ".npy in memory": lambda rgb: npy(rgb),
}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("kind", OBJECTS)
def test_each_kind_of_object_gets_the_answer_of_its_rgb(explain: Explainer, kind: str, picture: str) -> None:
    rgb = PICTURES[picture]
    make = OBJECTS[kind]
    tolerance = 0 if "float" not in kind else ROUNDING
    np.testing.assert_allclose(explain.prepare(make(rgb)).image, explain.prepare(rgb).image, atol=tolerance)
    saliency, expected = explain(make(rgb), 2), explain(rgb, 2)
    np.testing.assert_allclose(saliency.map, expected.map, atol=0.01 if tolerance else 0)
    np.testing.assert_allclose(read_picture(make(rgb)), rgb, atol=1)
    overlay(make(rgb), saliency.map, saliency.placement)


def test_a_path_may_be_text_or_a_path(explain: Explainer, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(opened(CAT).getvalue())
    with path.open("rb") as file:
        for source in (path, str(path), file):
            np.testing.assert_array_equal(explain.prepare(source).image, explain.prepare(CAT).image)
            assert explain.prepare(source).name == str(path)
        assert not file.closed


def test_an_image_that_was_changed_after_it_was_opened_is_turned_with_a_note(explain: Explainer) -> None:
    content = FILES["turned JPEG"](Image.fromarray(SMOOTH))
    opened_image = Image.open(io.BytesIO(content))
    for image in (opened_image, opened_image.convert("RGB")):
        np.testing.assert_array_equal(read_picture(image), pillows_rgb(content))
    assert explain(Image.open(io.BytesIO(content))).provenance.notes == explain(content).provenance.notes
    assert NoteCode.TURNED in codes(explain(opened_image.convert("RGB")))


def codes(saliency: Any) -> set[NoteCode]:
    return {note.code for note in saliency.provenance.notes}


def test_what_is_no_picture_says_what_is(explain: Explainer) -> None:
    class Text(io.StringIO):
        name = "a.png"

    for wrong, message in (
        (Text("words"), "a.png: read.. gives str, not bytes; open it with 'rb'"),
        (io.BytesIO(), "empty"),
        (np.full((9, 9, 3), 1.5), r"\[0,1\]"),
        (np.full((9, 9, 3), np.nan), "NaN"),
        (np.zeros((9, 9, 9)), "height, width, 3"),
    ):
        with pytest.raises(PictureError, match=message) as error:
            explain(wrong)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    ["https://example.org/cat.jpg", Path("https://example.org/cat.jpg"), "s3://b/c.npy", "data:image/png;base64,AA"],
)
def test_nothing_is_fetched(explain: Explainer, address: Any) -> None:
    for read in (explain, read_picture):
        with pytest.raises(PictureError, match="nothing is fetched: download it first"):
            read(address)


# Damage.


def without(content: bytes, share: float, tail: int) -> bytes:
    """The first part of a file and its end, as some programs repair one."""
    return content[: int(len(content) * share)] + content[len(content) - tail :]


@pytest.mark.parametrize(
    "kind", ["JPEG", "progressive JPEG", "grey JPEG", "CMYK JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP"]
)
def test_data_that_ends_early_is_an_error(kind: str) -> None:
    for picture in PICTURES.values():
        content = FILES[kind](Image.fromarray(picture).resize((300, 200)))
        for share in (0.3, 0.6, 0.9, 0.97):
            for tail in (0, 2):  # the end marker of a JPEG, and of a GIF
                with pytest.raises(PictureError, match=r"damaged or cut short|not a picture"):
                    read_picture(without(content, share, tail))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}])
def test_a_jpeg_that_lost_a_part_is_an_error_and_a_grey_one_is_not(options: dict[str, Any]) -> None:
    noise = np.clip(np.asarray(Image.fromarray(CAT).resize((320, 240))) + RNG.normal(0, 9, (240, 320, 3)), 0, 255)
    content = encoded(Image.fromarray(noise.astype(np.uint8)), "JPEG", quality=90, **options)
    read_picture(content)
    start = len(content) // 2
    with pytest.raises(PictureError, match="a part of the pixels is missing"):
        read_picture(content[:start] + content[-2:])
    grey = noise.astype(np.uint8)
    grey[100:] = 128  # as libjpeg fills
    for picture in (grey, np.full_like(grey, 128)):
        read_picture(encoded(Image.fromarray(picture), "JPEG", **options))


def test_pillows_leniency_that_a_program_sets_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for kind in ("JPEG", "progressive JPEG", "PNG", "WebP"):
        content = FILES[kind](Image.fromarray(CAT).resize((300, 200)))
        read_picture(content)
        for share in (0.4, 0.8):
            with pytest.raises(PictureError):
                read_picture(without(content, share, 0))


def test_a_png_whose_pixels_are_not_what_was_written_is_an_error() -> None:
    content = bytearray(FILES["PNG"](Image.fromarray(CAT)))
    at = content.index(b"IDAT") + 40
    content[at] ^= 0x10
    with pytest.raises(PictureError, match="damaged"):
        read_picture(bytes(content))
    length, kind = struct.unpack(">I4s", content[8:16])
    assert kind == b"IHDR"
    assert zlib.crc32(content[12 : 16 + length]) == int.from_bytes(content[16 + length : 20 + length], "big")


def test_a_pillow_image_of_a_damaged_file_is_an_error() -> None:
    content = without(FILES["JPEG"](Image.fromarray(CAT).resize((300, 200))), 0.5, 2)
    with pytest.raises(PictureError, match="a part of the pixels is missing"):
        read_picture(Image.open(io.BytesIO(content)))


# Deep pictures.


def test_a_window_says_what_becomes_black_and_white(classifier: onnx.ModelProto) -> None:
    grey = RNG.integers(0, 4096, (40, 30)).astype(np.uint16)
    content = cv2.imencode(".png", grey)[1].tobytes()
    colours = RNG.integers(0, 4096, (40, 30, 3)).astype(np.uint16)
    colour_file = cv2.imencode(".png", colours[..., ::-1])[1].tobytes()
    expected = np.rint(255 * np.clip((grey - 1000.0) / 2000, 0, 1))
    for source in (content, grey, grey.astype(np.float32), grey.astype(np.int32), Image.open(io.BytesIO(content))):
        np.testing.assert_array_equal(read_picture(source, window=(1000, 3000))[..., 1], expected)
    windowed = np.rint(255 * np.clip((colours - 1000.0) / 2000, 0, 1))
    np.testing.assert_array_equal(read_picture(colour_file, window=(1000, 3000)), windowed)
    np.testing.assert_array_equal(read_picture(colours, window=(1000, 3000)), windowed)
    with Explainer(classifier, "grad-cam", providers=["cpu"], preset="unit", window=(1000, 3000)) as explain:
        as_bytes = np.repeat(expected[..., None], 3, 2).astype(np.uint8)
        with Explainer(classifier, "grad-cam", providers=["cpu"], preset="unit") as plain:
            np.testing.assert_array_equal(explain(content, 2).map, plain(as_bytes, 2).map)
        assert explain.prepare(content).window == (1000, 3000)


def test_a_deep_picture_that_uses_an_eighth_of_its_range_is_noted(explain: Explainer) -> None:
    for most, noted in ((8191, True), (8500, False), (65535, False)):
        grey = np.linspace(0, most, 40 * 30).reshape(40, 30).astype(np.uint16)
        colour = cv2.imencode(".png", np.dstack([grey] * 3))[1].tobytes()
        tiff = encoded(Image.fromarray(grey), "TIFF")
        for source in (cv2.imencode(".png", grey)[1].tobytes(), colour, tiff, grey):
            notes = [note for note in explain(source).provenance.notes if note.code is NoteCode.NARROW_RANGE]
            assert bool(notes) == noted
            assert not noted or "--window 0,8191" in notes[0].text
    dark = np.linspace(0, 30, 40 * 30).reshape(40, 30).astype(np.uint8)
    assert NoteCode.NARROW_RANGE not in codes(explain(dark))


@pytest.mark.parametrize("window", [(1,), (2, 1), (1, 1), "12", (0, np.inf), ("a", "b"), (0, 1, 2)])
def test_a_window_is_two_numbers(window: Any) -> None:
    with pytest.raises(OptionError, match="a window is two numbers"):
        read_picture(CAT, window=window)


# What a reader should know of a file.


def test_transparency_and_further_frames_are_noted(explain: Explainer) -> None:
    assert NoteCode.TRANSPARENT in codes(explain(FILES["RGBA PNG"](Image.fromarray(SMOOTH))))
    assert NoteCode.TRANSPARENT not in codes(explain(Image.fromarray(SMOOTH).convert("RGBA")))
    frames = [Image.fromarray(CAT), Image.fromarray(CAT[::-1].copy())]
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        (note,) = [note for note in explain(content).provenance.notes if note.code is NoteCode.FIRST_FRAME]
        assert "2 frames" in note.text
        assert NoteCode.FIRST_FRAME not in codes(explain(encoded(frames[0], form)))


def test_the_window_stands_in_the_record(classifier: onnx.ModelProto) -> None:
    grey = np.linspace(0, 4095, 40 * 30).reshape(40, 30).astype(np.uint16)
    with Explainer(classifier, "grad-cam", providers=["cpu"], preset="unit", window=(0, 4095)) as explain:
        saliency = explain(grey)
    values = record(saliency)
    schema = files("onnxcam.outputs").joinpath("record.schema.json").read_text("utf-8")
    Draft202012Validator(json.loads(schema)).validate(values)
    assert values["window"] == [0, 4095]
    assert saliency.provenance.window is not None
    np.testing.assert_array_equal(
        read_picture(grey, window=saliency.provenance.window), read_picture(grey, window=values["window"])
    )
    with Explainer(classifier, "grad-cam", providers=["cpu"], preset="unit") as explain:
        assert "window" not in record(explain(grey))


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff", "gif"])
def test_a_pillow_image_of_a_path_whose_file_pillow_closes_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"photo.{form}"
    Image.fromarray(CAT).save(path)
    with Image.open(path) as image:
        assert np.array_equal(read_picture(image), read_picture(path))
    image = Image.open(path)
    image.load()
    assert np.array_equal(read_picture(image), read_picture(path))


def test_a_jpeg_is_read_without_the_readers_of_other_formats() -> None:
    """Which take 60 ms to import, in every process that explains a picture."""
    code = (
        "import sys; from onnxcam.inputs.images import read_picture; read_picture(sys.argv[1]);"
        "print('PIL.PdfImagePlugin' in sys.modules, 'PIL.AvifImagePlugin' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(pictures()["chelsea"])]
    assert subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split() == ["False", "False"]
