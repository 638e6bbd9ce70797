"""Whether a file's data ends early, where Pillow does not say so.

Pillow raises for data that ends before the pixels do, with two exceptions. A JPEG with an end marker behind cut or lost
data, in a scan or between two restart markers, is filled with grey, as libjpeg only warns. And a process may have set
ImageFile.LOAD_TRUNCATED_IMAGES, as training scripts do, so that nothing is raised; so the structure of the commonest
formats is read here, and files of others are made `Strict`.
"""

import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from random import Random
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from onnxcam.inputs.pixels import same_pixels
from onnxcam.inputs.tiff import tiff_damage, tiff_pages

STRICT = ("GIF", "TIFF", "BMP", "DIB", "PPM")
"""Formats whose data Pillow reads to the end, so that `Strict` tells where they are missing."""
CHECKED = ("JPEG", "MPO", "PNG", "WEBP", "JPEG2000")
"""Formats, as Pillow names them, whose whole file `ends_early` reads."""
EARLY = "a part of the pixels is missing"

LONGEST_HEADER = 2**16
"""Bytes of a PNM's header, with its comments."""
MOST_CHUNKS = 2**19
"""Chunks of a PNG: of 4 KiB, less than any writer makes, they hold 2 GiB."""
_COMMENT = re.compile(rb"#[^\r\n]*")

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In a scan 0xFF is followed by 0, and 0xD0 to 0xD7 restart it."""
_START_OF_SCAN, _END_OF_IMAGE, _RESTART_INTERVAL, _PROGRESSIVE = 0xDA, 0xD9, 0xDD, 0xC2
_RESTART, _REPEATED = re.compile(rb"\xff[\xd0-\xd7]"), re.compile(rb"\xff+[\xd0-\xd7]")
"""A restart marker, and one before which 0xFF may be repeated."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced PNG its first column and row, and their steps."""
_TILE_PART, _END_OF_CODES = 0xFF90, 0xFFD9
_SHORT = 32
"""Bytes of the filler that go before a restart marker."""
_FILLER = b"\xed\xb6" + bytes(Random(0).choices(range(1, 255), k=1022))
"""Bytes that any decoder takes for data of a scan, and which mean something. They begin with ones, as libjpeg fills
with zeros: a code that lacks but its last bit becomes another one. Not NumPy's: its generators take 10 ms to import."""
_LARGE = 2**20
"""Pixels, from which on a second decoding takes long enough to be spared where it can be."""
_GREY, _FAR = 128, 40
"""What libjpeg fills with, and how far from it a pixel cannot be the filling, whatever the colours beside it."""


class Strict:
    """A file that raises at its end, as Pillow itself does unless LOAD_TRUNCATED_IMAGES is set."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        if not data and size != 0:
            raise OSError(EARLY)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def made_strict(image: Image.Image) -> None:
    """Has missing data of the image's file raise OSError when it is decoded, whatever this process tells Pillow."""
    file = getattr(image, "fp", None)
    if image.format in STRICT and ImageFile.LOAD_TRUNCATED_IMAGES and file is not None and not isinstance(file, Strict):
        image.fp = Strict(file)  # type: ignore[attr-defined]


def ends_early(form: str | None, data: bytes, image: Image.Image) -> bool:
    """Whether the file's data ends before its pixels do. form: Pillow's name of the format. image: as decoded."""
    if form in ("JPEG", "MPO"):
        return _jpeg_ends_early(data, image)
    if form == "PNG":
        return not _png_is_whole(data) or _png_lacks_rows(data, image)
    if form == "JPEG2000":  # without Pillow's leniency OpenJPEG's own errors are raised
        is_cut = ImageFile.LOAD_TRUNCATED_IMAGES and not data.rstrip(b"\0").endswith(b"\xff\xd9")
        return is_cut or jpeg2000_lacks_tiles(data)
    if form == "WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _jpeg_ends_early(data: bytes, image: Image.Image) -> bool:
    """Whether libjpeg filled a part of the picture, because a scan of it ended early.

    Decoded once more with further data at the end of every scan: a scan that was complete ignores them. A small
    progressive one with several data, as its scans add so little that some data change nothing. Not if the last
    pixel of a large picture of one scan shows that all of it is there, up to a part of its last block perhaps.
    """
    markers = list(jpeg_markers(data))
    kinds = [kind for kind, _ in markers]
    simple = _PROGRESSIVE not in kinds and _RESTART_INTERVAL not in kinds and kinds.count(_START_OF_SCAN) == 1
    if not kinds or kinds[-1] != _END_OF_IMAGE:
        return True
    scans = [
        (position + 2 + int.from_bytes(data[position + 2 : position + 4], "big"), end)
        for (kind, position), (_, end) in pairwise(markers)
        if kind == _START_OF_SCAN
    ]
    has_restarts = _RESTART_INTERVAL in kinds
    if not all(begin < end and _restarts_in_order(data, begin, end, has_restarts) for begin, end in scans):
        return True
    if simple and image.mode in ("L", "RGB") and image.width * image.height > _LARGE:
        last = image.crop((image.width - 1, image.height - 1, image.width, image.height)).convert("L")
        if abs(int(np.asarray(last)[0, 0]) - _GREY) > _FAR:
            return False
    is_small_progressive = _PROGRESSIVE in kinds and image.width * image.height <= _LARGE
    fillers = (_FILLER, _FILLER[2:], _FILLER[3:]) if is_small_progressive else (_FILLER,)
    return any(_changes(image, data[: markers[-1][1] + 2], scans, filler) for filler in fillers)


def _changes(image: Image.Image, data: bytes, scans: list[tuple[int, int]], filler: bytes) -> bool:
    """Whether further data at the end of every scan change the image. data: up to the end mark."""
    filled, start = bytearray(), 0
    for begin, end in scans:
        coded = data[begin:end].rstrip(b"\xff")  # before a marker 0xFF may be repeated
        if _RESTART.search(coded):
            coded = _REPEATED.sub(lambda marker: filler[:_SHORT] + marker[0], coded)
        filled += data[start:begin] + coded + filler
        start = end
    filled += data[start:]
    again = JpegImageFile(BytesIO(filled), "")
    scale = round(again.width / image.width)
    again.draft(None, (again.width // scale, again.height // scale))
    return not same_pixels(image, again)


def _restarts_in_order(data: bytes, begin: int, end: int, has_restarts: bool) -> bool:
    """Whether the restart markers of a scan count from 0 to 7 and again, as none is lost then; no marker without them.

    libjpeg reads nothing of a scan behind a marker that it does not expect.
    """
    markers = enumerate(_RESTART.finditer(data, begin, end))
    return all(has_restarts and marker[0][-1] - 0xD0 == i % 8 for i, marker in markers)


def jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Each marker and its position, up to the end of the first image; the data of a scan are passed over."""
    position, behind_scan = 2, False
    while (match := (_AFTER_SCAN if behind_scan else _MARKER).search(data, position)) is not None:
        kind, position = data[match.start() + 1], match.start()
        yield kind, position
        if kind == _END_OF_IMAGE:
            return
        behind_scan = kind == _START_OF_SCAN
        alone = 0xD0 <= kind <= 0xD8 or kind == 0x01  # these have no content
        position += 2 if alone else 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def clip_is_whole(form: str | None, data: bytes, most: int) -> bool:
    """Whether a file holds all of its frames, as far as its structure says. most: frames of a GIF or TIFF."""
    if form == "GIF":
        return gif_is_whole(data, most)
    if form == "PNG":
        return _png_is_whole(data, frames=True)
    if form == "TIFF":
        return tiff_pages(BytesIO(data), most) <= most and not tiff_damage(BytesIO(data), most)
    return form != "WEBP" or len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _png_is_whole(data: bytes, *, frames: bool = False) -> bool:
    """Whether every chunk that the pixels need has its length and its checksum, as far as the last of them.

    frames: those of the animation too.
    """
    position, pixels = 8, False
    while len(data) >= position + 8:
        length, kind = struct.unpack_from(">I4s", data, position)
        if pixels and kind != b"IDAT" and (not frames or kind == b"IEND"):
            return True
        end = position + 8 + length
        needed = kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fcTL", b"fdAT")
        if needed and data[end : end + 4] != zlib.crc32(data[position + 4 : end]).to_bytes(4, "big"):
            return False
        position, pixels = end + 4, kind == b"IDAT" or (pixels and frames)
    return pixels and not frames


def _png_lacks_rows(data: bytes, image: Image.Image) -> bool:
    """Whether the packed data of a whole PNG end before the last row, which Pillow leaves zero.

    They are unpacked once more for that, unless the last row is not all zero, or if it is interlaced.
    """
    depth, colour, _, _, interlaced = data[24:29]
    if not interlaced and np.asarray(image.crop((0, image.height - 1, image.width, image.height))).any():
        return False
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    width, height = struct.unpack_from(">II", data, 16)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    needed = 0
    for x, y, wide, high in passes:
        columns, rows = -(-(width - x) // wide), -(-(height - y) // high)
        needed += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return not _unpacks_to(data, needed)


def _unpacks_to(data: bytes, needed: int) -> bool:
    """Whether the IDAT chunks of a PNG unpack to so many bytes, of which 1 MiB is in memory at a time."""
    unpacker, count, position = zlib.decompressobj(), 0, 8
    while count < needed and len(data) >= position + 8:
        length, kind = struct.unpack_from(">I4s", data, position)
        packed = data[position + 8 : position + 8 + length] if kind == b"IDAT" else b""
        while packed and count < needed and not unpacker.eof:
            count += len(unpacker.decompress(packed, 2**20))
            packed = unpacker.unconsumed_tail
        position += 12 + length
    while count < needed and not unpacker.eof and (rest := unpacker.decompress(b"", 2**20)):
        count += len(rest)
    return count >= needed


def jpeg2000_lacks_tiles(data: bytes) -> bool:
    """Whether a tile of a JPEG 2000 has no data, or fewer parts than it says; OpenJPEG leaves it black."""
    start = _codestream(data)
    if len(data) < start + 42:
        return True
    x1, y1, _, _, wide, high, left, top = struct.unpack_from(">8I", data, start + 8)
    if not wide or not high or x1 <= left or y1 <= top:
        return True
    tiles = -(-(x1 - left) // wide) * -(-(y1 - top) // high)
    position, parts, most = start + 2, Counter[int](), dict[int, int]()
    while len(data) >= position + 4:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker != _TILE_PART:
            if marker == _END_OF_CODES or parts:
                break
            position += 2 + length
            continue
        if len(data) < position + 12:
            break
        tile, size, _, count = struct.unpack_from(">HIBB", data, position + 4)
        parts[tile] += 1
        most[tile] = max(most.get(tile, 0), count)
        if not size:  # the last one, up to the end
            break
        position += max(size, 12)
    return len(parts) < min(tiles, 2**16) or any(parts[tile] < count for tile, count in most.items())


def _codestream(data: bytes) -> int:
    """Where the codestream of a JPEG 2000 begins: at once, or in the first box of its kind; the end if none."""
    position = 0
    while data[:4] != b"\xff\x4f\xff\x51" and len(data) >= position + 16:
        length, kind, large = struct.unpack_from(">I4sQ", data, position)
        if kind == b"jp2c":
            return position + (16 if length == 1 else 8)
        position += max(large if length == 1 else length or len(data), 8)
    return position


def gif_is_whole(data: bytes, most: int) -> bool:
    """Whether a GIF has its end mark behind its last frame, of `most` at most. Pillow counts those that are there."""
    frames, end = gif_structure(data, most)
    return frames <= most and data[end : end + 1] == b";"


def gif_structure(data: bytes, most: int) -> tuple[int, int]:
    """(frames, position behind them) of a GIF; it stops behind one frame more than `most`."""
    position, frames = 13 + _colour_table(data, 10), 0
    while position + 1 < len(data) and data[position] in (0x21, 0x2C) and frames <= most:
        if data[position] == 0x21:  # an extension: its label, then blocks
            position += 2
        else:  # an image: its place and size, its colours, the width of its codes, then blocks
            position += 11 + _colour_table(data, position + 9)
            frames += 1
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return frames, position


def damage_of(form: str, file: BinaryIO) -> str:
    """Why a file cannot be read, by its structure; "" where nothing says so. The file is not moved."""
    if form == "TIFF":
        return tiff_damage(file)
    if form == "PPM" and not pnm_header_ends(file):
        return "its header does not end"
    if form == "PNG" and png_has_too_many_chunks(file):
        return f"it has more than {MOST_CHUNKS:,} chunks"
    return ""


def png_has_too_many_chunks(file: BinaryIO) -> bool:
    """Whether a PNG has more chunks than MOST_CHUNKS; the file is not moved. Pillow handles them one by one."""
    position = file.tell()
    length = file.seek(0, os.SEEK_END)
    count, at = 0, 8
    while count <= MOST_CHUNKS and length - at > 12 * (MOST_CHUNKS - count):  # else there cannot be more
        file.seek(at)
        at += 12 + int.from_bytes(file.read(4), "big")
        count += 1
    file.seek(position)
    return count > MOST_CHUNKS


def pnm_header_ends(file: BinaryIO) -> bool:
    """Whether the header of a PNM ends within LONGEST_HEADER bytes; the file is not moved.

    Pillow reads the header, with its comments, byte by byte.
    """
    position = file.tell()
    file.seek(0)
    data = file.read(LONGEST_HEADER)
    file.seek(position)
    words = len(_COMMENT.sub(b"", data).split())
    return len(data) < LONGEST_HEADER or words > (3 if data[:2] in (b"P1", b"P4") else 4)


def _colour_table(data: bytes, flags: int) -> int:
    """Bytes of the colour table that the flags at this position announce."""
    packed = data[flags] if flags < len(data) else 0
    return 3 << (packed % 8 + 1) if packed & 0x80 else 0
