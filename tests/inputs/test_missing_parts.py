"""Parts that are missing in the middle of a whole file: rows of a PNG, tiles of a JPEG 2000; lack of memory is no damage."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs.clips import frames_of
from onnxcam.inputs.images import read_picture, size_of
from onnxcam.inputs.intact import jpeg2000_lacks_tiles

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
KINDS = {(8, 2): "RGB", (8, 0): "L", (8, 6): "RGBA", (1, 0): "1", (16, 0): "I;16", (8, 4): "LA", (4, 3): "P"}


def png(depth: int, colour: int, width: int, height: int, interlaced: bool, keep: float, value: int = 0x55) -> bytes:
    """A PNG of equal bytes whose packed data end, as a whole stream, after this part of the lines."""
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    lines: list[bytes] = []
    for x, y, wide, high in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // wide), -(-(height - y) // high)
        if columns > 0 and rows > 0:
            lines += [b"\0" + bytes((value,)) * -(-columns * bits // 8)] * rows
    packed = zlib.compress(b"".join(lines[: int(keep * len(lines))]))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = [(b"PLTE", bytes(range(48)))] if colour == 3 else []
    chunks = [(b"IHDR", head), *palette, (b"IDAT", packed[:9]), (b"IDAT", packed[9:]), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=KINDS.get)
def test_a_png_whose_data_end_before_its_rows_is_an_error(
    kind: tuple[int, int], interlaced: bool, lenient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    for width, height in ((64, 64), (33, 7), (5, 40)):
        for value in (0, 0x55):
            whole = png(*kind, width, height, interlaced, 1, value)
            assert read_picture(whole).shape == (height, width, 3)
        for keep in (0.4, 0.5, 0.98):
            with pytest.raises(PictureError, match="damaged or cut short"):
                read_picture(png(*kind, width, height, interlaced, keep))


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))


def jpeg2000(**options: Any) -> bytes:
    file = io.BytesIO()
    PHOTO.save(file, "JPEG2000", **options)
    return file.getvalue()


@pytest.mark.parametrize("no_jp2", [False, True])
@pytest.mark.parametrize("tile", [(32, 32), (50, 40), (128, 128), (200, 200)])
def test_a_tile_of_a_jpeg_2000_that_is_missing_is_an_error(tile: tuple[int, int], no_jp2: bool) -> None:
    data = jpeg2000(tile_size=tile, no_jp2=no_jp2)
    assert read_picture(data).shape == (128, 128, 3)
    parts = [match.start() for match in re.finditer(b"\xff\x90\0\x0a", data)]
    assert len(parts) == -(-128 // tile[0]) * -(-128 // tile[1])
    ends = [*parts[1:], len(data) - 2]
    for i in (0, len(parts) // 2, len(parts) - 1):
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_picture(data[: parts[i]] + data[ends[i] :])
    if len(parts) > 1:
        again = data[: parts[1]] + data[parts[0] : parts[1]] + data[ends[1] :]  # one twice, another not at all
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_picture(again)


def test_tiles_are_counted_in_the_picture_not_in_a_box_before_it() -> None:
    data = jpeg2000(tile_size=(32, 32))
    at = data.index(b"jp2c") - 4
    false = jpeg2000(tile_size=(128, 128), no_jp2=True)
    box = struct.pack(">I4s", len(false) + 8, b"xml ") + false
    assert not jpeg2000_lacks_tiles(data[:at] + box + data[at:])
    parts = [match.start() for match in re.finditer(b"\xff\x90\0\x0a", data)]
    assert jpeg2000_lacks_tiles(data[:at] + box + data[at : parts[2]] + data[parts[3] :])


def encoded(form: str, image: Image.Image = PHOTO, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def short_of_memory(*_: Any, **__: Any) -> Any:
    raise MemoryError


@pytest.mark.parametrize(
    ("place", "data", "options"),
    [
        ("PIL.Image.Image.convert", encoded("PNG", PHOTO.convert("P")), {}),
        ("PIL.ImageFile.ImageFile.load", encoded("PNG"), {}),
        ("PIL.BmpImagePlugin.BmpImageFile._open", encoded("BMP"), {}),
        ("PIL.Image.Image.getexif", encoded("JPEG"), {}),
        ("tifffile.TiffPageSeries.asarray", encoded("TIFF"), {"bands": (1,)}),
        ("tifffile.TiffFile.__init__", encoded("TIFF"), {"bands": (1,)}),
    ],
)  # fmt: skip
def test_lack_of_memory_is_said_as_such(place: str, data: bytes, options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.startswith("tifffile"):
        pytest.importorskip("tifffile")
    read_picture(data, **options)
    monkeypatch.setattr(place, short_of_memory)
    with pytest.raises(PictureError, match="does not fit into memory"):
        read_picture(data, **options)


def test_lack_of_memory_of_sizes_and_frames_and_dicom_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = encoded("GIF", PHOTO, save_all=True, append_images=[PHOTO.rotate(90)])
    clip = frames_of(frames, read_picture, 2)
    assert clip is not None
    monkeypatch.setattr("PIL.GifImagePlugin.GifImageFile.seek", short_of_memory)
    takes: list[Callable[[], Any]] = [lambda: clip.read(1)]
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile._open", short_of_memory)
    takes += [lambda: size_of(encoded("PNG")), lambda: frames_of(encoded("PNG"), read_picture, 2)]
    pydicom = pytest.importorskip("pydicom")
    monkeypatch.setattr(pydicom, "dcmread", short_of_memory)
    takes.append(lambda: read_picture(bytes(128) + b"DICM" + bytes(100)))
    for take in takes:
        with pytest.raises(PictureError, match="does not fit into memory"):
            take()
