"""What is too large is refused from its header, in little time and memory; a large photograph is read reduced."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs.clips import chosen, frames_of
from onnxcam.inputs.images import read, read_picture, size_of
from onnxcam.inputs.loader import ImageLoader
from onnxcam.inputs.presets import PRESETS
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import NoteCode

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (24, 32, 3), np.uint8)
BELOW, ABOVE = Limits(pixels=24 * 32), Limits(pixels=24 * 32 - 1)


def gif(side: int) -> bytes:
    """35 bytes: a canvas of this side, with a frame of one pixel."""
    start = b"GIF89a" + struct.pack("<HH", side, side) + b"\xf0\0\0" + b"\0\0\0\xff\xff\xff"
    return start + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b"


def png(width: int, height: int, colour: int = 6) -> bytes:
    """A PNG of this size that is all zero, in as few bytes as deflate can."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * {6: 4, 2: 3, 0: 1}[colour])
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, form, **options)
    return file.getvalue()


def false_jpeg(side: int, **options: Any) -> bytes:
    """A JPEG of 24 x 32 that claims this side."""
    data = bytearray(encoded("JPEG", **options))
    at = next(data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in data)
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "gif": lambda: gif(13_377),
    "largest gif": lambda: gif(65_535),
    "png": lambda: png(20_000, 10_000),
    "jpeg": lambda: false_jpeg(13_312),
    "largest jpeg": lambda: false_jpeg(65_500),
    "progressive jpeg": lambda: false_jpeg(13_312, progressive=True),
    "small jpeg": lambda: false_jpeg(8_000),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_few_bytes_cost_no_memory_and_no_time(name: str, tmp_path: Path) -> None:
    """In a process of its own, whose peak is measured with the import of everything that reads."""
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name]())
    code = (
        "import re, sys, time\n"
        "from onnxcam.errors import PictureError\nfrom onnxcam.inputs.images import read_picture\n"
        "start = time.process_time()\n"
        "try: read_picture(sys.argv[1])\n"
        "except PictureError as error: print(error)\n"
        "print(time.process_time() - start, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    message, figures = done.stdout.strip().splitlines()
    seconds, kilobytes = map(float, figures.split())
    assert "--max-pixels" in message or "damaged or cut short" in message
    assert seconds < 1
    assert kilobytes < 150_000


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_every_format_obeys_the_limit_and_says_what_raises_it(form: str) -> None:
    data = encoded(form)
    for take in (read_picture, lambda source, limits: read(io.BytesIO(source), limits=limits)):
        take(data, limits=BELOW)
        with pytest.raises(
            PictureError, match=r"32 x 24 are 768 pixels; the limit is 767 pixels; raise it with --max-p"
        ):
            take(data, limits=ABOVE)
    read_picture(data, limits=Limits(pixels=None))


def test_arrays_and_pillow_images_obey_the_limit() -> None:
    floats = SMALL.astype(np.float32) / 255
    for source in (SMALL, floats, np.moveaxis(SMALL, -1, 0), SMALL[..., 0], SMALL[None], Image.fromarray(SMALL)):
        read_picture(source, limits=BELOW)
        with pytest.raises(PictureError, match=r"768 pixels.* --max-pixels"):
            read_picture(source, limits=ABOVE)


def test_a_huge_array_is_refused_before_it_is_copied() -> None:
    huge = np.broadcast_to(np.uint8(0), (25_000, 25_000, 3))
    loader = ImageLoader(ImageInput("x", "float32", "NCHW", 3, (16, 12), None), (16, 12), PRESETS["imagenet"])
    for take in (read_picture, loader.prepare):
        with pytest.raises(PictureError, match=r"625,000,000 pixels \(1\.746 GiB\); the limit is"):
            take(huge)


def test_an_array_file_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (25_000, 25_000, 3)}
        )
        file.truncate(25_000 * 25_000 * 12)
    with pytest.raises(PictureError):
        read_picture(path)
    np.save(path, SMALL)
    with pytest.raises(PictureError, match=r"--max-pixels"):
        read_picture(path, limits=ABOVE)


@pytest.mark.parametrize(("options", "scale"), [({}, 2), ({"quality": 30}, 4), ({"subsampling": 0}, 4)])
def test_a_large_jpeg_is_read_at_a_fraction_of_its_size(options: dict[str, Any], scale: int) -> None:
    smooth = np.asarray(Image.fromarray(SMALL).resize((640, 480), Image.Resampling.BICUBIC))
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", **options)
    limits = Limits(pixels=640 * 480 // scale**2)
    reduced = read_picture(file.getvalue(), limits=limits)
    assert reduced.shape == (480 // scale, 640 // scale, 3)
    assert size_of(file.getvalue(), limits=limits) == reduced.shape[:2]
    (note,) = read(file.getvalue(), limits=limits).notes
    assert note.code is NoteCode.READ_REDUCED
    assert read(file.getvalue()).notes == ()
    whole = Image.fromarray(read_picture(file.getvalue())).resize((640 // scale, 480 // scale), Image.Resampling.BOX)
    assert np.abs(reduced.astype(float) - np.asarray(whole)).mean() < 2


def test_a_progressive_jpeg_and_one_far_beyond_the_limit_are_not_reduced() -> None:
    for options, limits in (({"progressive": True}, ABOVE), ({}, Limits(pixels=24 * 32 // 16 - 1))):
        with pytest.raises(PictureError, match="--max-pixels"):
            read_picture(encoded("JPEG", **options), limits=limits)


def test_frames_of_a_clip_count_together_and_only_those_that_are_kept() -> None:
    pictures = [Image.fromarray(np.roll(SMALL, i, 1)) for i in range(6)]
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:])
    three = Limits(pixels=3 * 24 * 32)

    def take(source: Any, count: int) -> object:
        frames = frames_of(source, lambda each: read(each).picture, count, three)
        assert frames is not None
        return chosen(frames, count, "clip", three)

    for source in (file.getvalue(), pictures):
        take(source, 3)
        with pytest.raises(PictureError, match=r"4 frames of 32 x 24 are 3,072 pixels; the limit is 2,304 pixels"):
            take(source, 4)
    with pytest.raises(PictureError, match="3,072 pixels"):
        frames_of(np.stack([SMALL] * 4), lambda each: each, 3, three)


def test_a_short_clip_of_many_frames_is_not_decoded_without_end() -> None:
    pictures = [Image.fromarray(np.roll(SMALL, i, 1)) for i in range(20)]
    file = io.BytesIO()
    pictures[0].save(file, "PNG", save_all=True, append_images=pictures[1:])
    with pytest.raises(PictureError, match="20 frames"):
        frames_of(file.getvalue(), lambda each: each, 1, Limits(pixels=24 * 32))


def test_the_default_holds_what_large_cameras_and_satellites_take() -> None:
    for width, height in ((11_648, 8_736), (12_000, 9_000), (10_980, 10_980)):
        assert not SAFE.exceeded("pixels", width * height)
