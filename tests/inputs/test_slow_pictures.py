"""Files of very many parts, and streams that never end, are given up in time and at a sensible size."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import ChunkStream

from onnxcam.errors import PictureError
from onnxcam.inputs.clips import frames_of
from onnxcam.inputs.images import read, read_picture, size_of
from onnxcam.inputs.intact import MOST_CHUNKS
from onnxcam.limits import Limits

SMALL = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
BRIEF = Limits(seconds=0.02)
PARTS = 100_000


def encoded(form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(count: int, *, behind: bool = False) -> bytes:
    """A PNG with so many empty private chunks before or behind its pixels."""
    data = encoded("PNG")
    at = len(data) - 12 if behind else 33
    return data[:at] + chunk(b"teSt") * count + data[at:]


def gif(frames: int, comments: int = 0) -> bytes:
    start = b"GIF89a" + struct.pack("<HH", 2, 2) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"\x21\xfe\1a\0" * comments
    return start + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0" * frames + b";"


def tiff_pages(count: int) -> bytes:
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    size = len(entries) + 6
    ahead = [8 + (page + 1) * size for page in range(count - 1)] + [0]
    tables = b"".join(struct.pack("<H", len(tags)) + entries + struct.pack("<I", at) for at in ahead)
    return b"II*\0" + struct.pack("<I", 8) + tables


def jpeg_of_comments(count: int) -> bytes:
    data = encoded("JPEG")
    return data[:2] + b"\xff\xfe\0\3a" * count + data[2:]


def dicom_of_elements(count: int) -> bytes:
    element = b"\x09\0\x10\x10LO\x02\0ab"
    return bytes(128) + b"DICM" + b"\x02\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0" + element * count


MANY: dict[str, Callable[[], bytes]] = {
    "chunks before the pixels of a PNG": lambda: png(PARTS),
    "chunks behind the pixels of a PNG": lambda: png(PARTS, behind=True),
    "comments of a GIF": lambda: gif(1, PARTS),
    "comments of a JPEG": lambda: jpeg_of_comments(PARTS),
    "elements of a DICOM file": lambda: dicom_of_elements(PARTS),
}


@pytest.mark.parametrize("name", MANY)
def test_the_limit_of_seconds_ends_the_reading_of_many_parts(name: str) -> None:
    start = time.process_time()
    with pytest.raises(PictureError, match=r"not read in time.*--timeout or Limits\(seconds"):
        read_picture(MANY[name](), limits=BRIEF)
    assert time.process_time() - start < 1


def test_the_time_of_size_of_is_limited_too() -> None:
    with pytest.raises(PictureError, match="not read in time"):
        size_of(png(PARTS), limits=BRIEF)


def test_frames_of_a_gif_are_not_counted_to_their_end() -> None:
    data = gif(200_000)
    start = time.process_time()
    notes = read(data).notes
    with pytest.raises(PictureError, match="frames"):
        frames_of(data, read_picture, 8)
    assert time.process_time() - start < 1
    assert "the first of more than 1000 frames" in str(notes[0])
    assert "the first of 3 frames" in str(read(gif(3)).notes[0])


def test_pages_are_not_bands_without_end() -> None:
    pytest.importorskip("tifffile")
    data = tiff_pages(20_000)
    start = time.process_time()
    with pytest.raises(PictureError, match="more than 1000 pages"):
        read_picture(data, bands=(1, 2, 3))
    assert time.process_time() - start < 1
    assert read_picture(tiff_pages(3), bands=(1, 2, 3)).shape == (8, 8, 3)


def test_a_png_of_half_a_million_chunks_is_refused_before_pillow_reads_one(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[tuple[bytes, int, int]] = []
    read_chunk = ChunkStream.read
    monkeypatch.setattr(ChunkStream, "read", lambda stream: handled.append(read_chunk(stream)) or handled[-1])
    with pytest.raises(PictureError, match=f"more than {MOST_CHUNKS:,} chunks"):
        read_picture(png(MOST_CHUNKS + 1), limits=Limits(seconds=None))
    assert handled == []
    assert read_picture(png(2)).shape == SMALL.shape
    assert [kind for kind, _, _ in handled][:4] == [b"IHDR", b"teSt", b"teSt", b"IDAT"]


def test_a_frame_of_a_clip_that_is_taken_late_has_all_of_the_time() -> None:
    file = io.BytesIO()
    pictures = [Image.fromarray(np.roll(SMALL, i, 1)) for i in range(3)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    frames = frames_of(file.getvalue(), read_picture, 3, Limits(seconds=0.5))
    assert frames is not None
    time.sleep(0.6)
    assert frames.read(2).shape == SMALL.shape


class Endless(io.RawIOBase):
    """A stream without an end. start: how it begins. slow: seconds that a read takes."""

    def __init__(self, start: bytes, slow: float = 0) -> None:
        self.start, self.slow, self.given = start, slow, 0

    def read(self, size: int = -1) -> bytes:
        time.sleep(self.slow)
        piece = self.start.ljust(size if not self.slow else 1, b"\0")
        self.start, self.given = b"", self.given + len(piece)
        return piece


def test_an_endless_stream_that_is_no_picture_ends_after_its_beginning() -> None:
    for take in (read_picture, size_of):
        stream = Endless(b"")
        with pytest.raises(PictureError, match="not a picture, and more than 16,777,216 bytes"):
            take(stream)
        assert stream.given <= 2**24 + 1


def test_an_endless_stream_that_begins_as_a_picture_ends_at_what_the_pixels_can_have() -> None:
    stream = Endless(encoded("PNG"))
    with pytest.raises(PictureError, match=r"more than 67,116,\d+ bytes.*--max-pixels"):
        read_picture(stream, limits=Limits(pixels=1000))
    assert stream.given <= 2**26 + 2**13 + 1


def test_a_stream_that_comes_too_slowly_is_given_up() -> None:
    with pytest.raises(PictureError, match="not read in time"):
        read_picture(Endless(b"", slow=0.01), limits=Limits(seconds=0.1))


def test_a_stream_longer_than_a_beginning_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.inputs.sources.START", 100)
    np.testing.assert_array_equal(read_picture(io.BytesIO(encoded("PNG"))), SMALL)
