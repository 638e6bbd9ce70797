"""What one picture takes: Pillow's pixels and the picture's own, strip by strip, with the pixels of a whole conversion."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from onnxcam.errors import PictureError
from onnxcam.inputs import pixels
from onnxcam.inputs.images import read_picture, size_of
from onnxcam.limits import Limits

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (30, 47, 4), np.uint8))
SIDE = 2000
MODES: dict[str, tuple[str, Callable[[], Image.Image]]] = {
    "RGB": ("PNG", lambda: PHOTO.convert("RGB")),
    "RGBA": ("PNG", lambda: PHOTO),
    "LA": ("PNG", lambda: PHOTO.convert("LA")),
    "L": ("PNG", lambda: PHOTO.convert("L")),
    "1": ("PNG", lambda: PHOTO.convert("1")),
    "P": ("PNG", lambda: PHOTO.convert("RGB").quantize(17)),
    "P with transparency": ("GIF", lambda: PHOTO.quantize(17, method=Image.Quantize.FASTOCTREE)),
    "CMYK": ("TIFF", lambda: PHOTO.convert("CMYK")),
    "YCbCr": ("JPEG", lambda: PHOTO.convert("YCbCr")),
    "WebP": ("WEBP", lambda: PHOTO),
    "16 bits": ("PNG", lambda: Image.fromarray(RNG.integers(0, 65536, (30, 47), np.uint16))),
    "floats": ("TIFF", lambda: Image.fromarray(RNG.random((30, 47), np.float32))),
}


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("window", [None, (0.0, 0.7)])
def test_strips_give_the_pixels_of_the_whole(
    name: str, window: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, make = MODES[name]
    data = encoded(make(), form)
    whole = read_picture(data, window=window)
    if window is None and name not in ("16 bits", "floats"):
        with Image.open(io.BytesIO(data)) as image:
            layer = image.convert("RGBA")
        white = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        np.testing.assert_array_equal(whole, np.asarray(white.convert("RGB")))
    for strip in (20, 47, 100):  # parts of a row, a row, two rows
        monkeypatch.setattr(pixels, "STRIP", strip)
        np.testing.assert_array_equal(read_picture(data, window=window), whole)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_every_orientation_is_that_of_pillow_and_of_the_size(
    form: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "STRIP", 100)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTO.convert("RGB"), form, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_picture(data), expected)
    assert size_of(data) == expected.shape[:2]


def test_a_process_that_warns_of_small_pictures_is_not_warned_of_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PHOTO, "PNG")
    whole = read_picture(data)
    monkeypatch.setattr(pixels, "STRIP", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30 * 47 - 1)
    np.testing.assert_array_equal(read_picture(data), whole)


PEAKS = """
import re, sys
from pathlib import Path
from PIL import AvifImagePlugin, WebPImagePlugin
from onnxcam.inputs.images import read_picture
def kilobytes(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
read_picture(sys.argv[1])
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    read_picture(path)
    print(kilobytes("VmHWM") - before)
"""
BYTES: dict[str, tuple[float, dict[str, Any]]] = {
    "RGBA.png": (8, {"compress_level": 1}), "RGB.png": (8, {"compress_level": 1}), "RGB.bmp": (8, {}),
    "RGB.tif": (8, {}), "RGB.gif": (5, {}), "RGB.jpg": (8, {}),
}  # fmt: skip
"""File -> bytes a pixel that it takes at most: Pillow's 4 and the picture's 3, or those of a palette's numbers."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
def test_a_picture_takes_its_pixels_twice_at_most(tmp_path: Path) -> None:
    rows = np.arange(SIDE, dtype=np.uint16).astype(np.uint8)[:, None, None]
    layer = Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (SIDE, SIDE, 4))))
    paths = []
    for name, (_, options) in BYTES.items():
        mode, path = name.partition(".")[0], tmp_path / name
        layer.convert(mode).save(path, **options)
        paths.append(str(path))
    small = tmp_path / "small.png"
    PHOTO.save(small)
    done = subprocess.run([sys.executable, "-c", PEAKS, str(small), *paths], capture_output=True, text=True, check=True)
    taken = dict(zip(BYTES, map(int, done.stdout.split()), strict=True))
    bounds = {name: (most * SIDE**2 + 2**24) / 1024 for name, (most, _) in BYTES.items()}
    assert {name: size for name, size in taken.items() if size > bounds[name]} == {}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_the_limit_of_memory_bounds_what_is_decoded_before_it_is(form: str) -> None:
    data = encoded(PHOTO.convert("RGB"), form)
    for take in (read_picture, size_of):
        with pytest.raises(PictureError, match=r"to decode; the limit is .* --max-memory"):
            take(data, limits=Limits(memory=30 * 47 * 7))
        take(data, limits=Limits(memory=30 * 47 * 26))
