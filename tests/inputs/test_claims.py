"""Small files that claim much work are refused before they are decoded; honest ones of the same kind are read."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs import claims
from onnxcam.inputs.images import read_picture
from onnxcam.limits import WORK, Limits

SIDE = 11_585


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def bmp(width: int, height: int, codes: bytes, bits: int = 8) -> bytes:
    """A BMP of run-length codes."""
    palette = b"".join(bytes((i, i, i, 0)) for i in range(2**bits))
    begin = 54 + len(palette)
    head = struct.pack("<IHHI", begin + len(codes), 0, 0, begin)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 1 if bits == 8 else 2, len(codes), 0, 0, 2**bits, 0)
    return b"BM" + head + info + palette + codes


def png(width: int, height: int, depth: int, colour: int, packed: bytes) -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(range(6)))] if colour == 3 else []
    chunks += [(b"IDAT", packed), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def gif(side: int) -> bytes:
    """A frame of this side, of which a few pixels are there."""
    head = b"GIF89a" + struct.pack("<HH", side, side) + b"\xf0\0\0" + b"\0\0\0\xff\xff\xff"
    return head + b"\x2c" + struct.pack("<4HB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0\x3b"


EMPTY = zlib.compress(bytes(1000))
CLAIMS: dict[str, Callable[[], bytes]] = {
    "runs of a BMP": lambda: bmp(SIDE, SIDE, b"\xff\7\0\0" * SIDE + b"\0\1"),
    "runs of a BMP of 4 bits": lambda: bmp(SIDE, SIDE, b"\xff\x77\0\0" * SIDE + b"\0\1", 4),
    "deltas of a BMP": lambda: bmp(SIDE, SIDE, b"\0\2\xff\xff" * (SIDE // 255) + b"\0\1"),
    "a BMP of one row": lambda: bmp(2**27, 1, b"\xff\7" * 10 + b"\0\1"),
    "a frame of a GIF": lambda: gif(SIDE),
    **{f"PNG {depth} {colour}": (lambda depth=depth, colour=colour: png(SIDE, SIDE, depth, colour, EMPTY))
       for depth, colour in ((1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (1, 3), (4, 3), (8, 3), (8, 4), (16, 4), (16, 2), (16, 6))},
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_a_file_too_short_for_its_pixels_is_refused_at_once(name: str) -> None:
    data = CLAIMS[name]()
    start = time.process_time()
    with pytest.raises(PictureError, match="a part of the pixels is missing"):
        read_picture(data)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("side", [1, 7, 64, 1021])
def test_the_plainest_honest_files_are_read(side: int) -> None:
    runs = (b"\xff\7" * (side // 255) + (bytes((side % 255, 7)) if side % 255 else b"") + b"\0\0") * side + b"\0\1"
    assert (read_picture(bmp(side, side, runs)) == 7).all()
    for mode in ("P", "L", "1"):
        assert (read_picture(saved(Image.new(mode, (side, side)), "GIF")) == 0).all()
    for depth, colour in ((1, 0), (2, 0), (4, 0), (16, 0), (1, 3), (8, 4), (16, 4), (16, 2), (16, 6)):
        bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
        packed = zlib.compress(bytes((1 + -(-side * bits // 8)) * side), 9)
        assert read_picture(png(side, side, depth, colour, packed)).shape == (side, side, 3)


def progressive(scans: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan is there so many times."""
    data = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def test_scans_count_as_pixels() -> None:
    own = progressive(1).count(b"\xff\xda")
    limits = Limits(pixels=64 * 64)
    assert read_picture(progressive(WORK - own + 1), limits=limits).shape == (64, 64, 3)
    with pytest.raises(PictureError, match="more than 16 scans of 64 x 64"):
        read_picture(progressive(WORK - own + 2), limits=limits)
    with pytest.raises(PictureError, match="more than 100 scans"):
        read_picture(progressive(200), limits=Limits(pixels=None))


def test_what_looks_like_scans_elsewhere_in_a_file_is_none() -> None:
    many = b"\xff\xda" * (claims.MOST_SCANS + 1)
    data = saved(Image.new("L", (64, 64), 90), "JPEG")
    for content in (data + many, data[:2] + b"\xff\xe5" + struct.pack(">H", len(many) + 2) + many + data[2:]):
        assert read_picture(content).shape == (64, 64, 3)


def test_bytes_of_a_pixel_are_those_of_pillow() -> None:
    names = {"1": 1, "L;2": 2, "P;4": 4, "L": 8, "P": 8, "LA": 16, "RGB": 24, "RGBA": 32, "I;16B": 16, "LA;16B": 32,
             "RGB;16B": 48, "RGBA;16B": 64, "XYZ": None}  # fmt: skip
    assert {name: claims._bits_of_png(name) for name in names} == names


def test_noise_is_read() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(read_picture(saved(Image.fromarray(pixels), "PNG")), pixels)
