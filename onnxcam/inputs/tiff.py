"""The structure of a TIFF, read before a decoder sees the file: its pages, and whether all strips or tiles are there.

Pillow and tifffile leave black what a directory does not list, and libtiff prints about it to standard error.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MOST_PARTS = 2**19
"""Strips and tiles of a page: with tiles of 16 x 16, the smallest that the format allows, they hold 2^27 pixels."""
MOST_ENTRIES = 2**12
"""Entries of a directory that are read."""
MOST_ENTRIES_OF_ALL = 2**21
"""Entries of all directories together, where all of them are read: 32 for each of 65,536 pages."""

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES = 256, 257, 258, 259, 262, 273, 277
_ROWS, _STRIP_BYTES, _PLANAR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 278, 279, 284, 322, 323, 324, 325
_TAGS = {
    *(_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES),
    *(_ROWS, _STRIP_BYTES, _PLANAR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES),
}
_TYPES = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
"""Types of whole numbers, as NumPy has them."""
_BYTES = {**{kind: np.dtype(name).itemsize for kind, name in _TYPES.items()}, 2: 1, 5: 8, 7: 1, 10: 8, 11: 4, 12: 8}
"""Of one value of each type: text, fractions, bytes and floats too."""
_RAW, _OLD_JPEG, _SUBSAMPLED = 1, 6, 6
_RATIO = {5: 2731, 8: 1032, 32946: 1032, 32773: 64}
"""Compression -> bytes that one byte becomes at most: LZW's codes of 12 bits and 4096 entries, deflate, PackBits."""


@dataclass(frozen=True)
class _Tiff:
    """An open file, its length, its order of bytes, and whether its offsets have 64 bits."""

    file: BinaryIO
    length: int
    order: str
    big: bool

    def read(self, at: int, size: int) -> bytes:
        """So many bytes, or fewer where the file ends."""
        if not 0 <= at < self.length:
            return b""
        self.file.seek(at)
        return self.file.read(min(size, self.length - at))

    def number(self, at: int, form: str) -> int | None:
        """A whole number of this form of struct; None where the file ends."""
        data = self.read(at, struct.calcsize(form))
        return struct.unpack(self.order + form, data)[0] if len(data) == struct.calcsize(form) else None

    def directories(self) -> Iterator[tuple[int, int]]:
        """(where its entries begin, how many there are) of each directory, until one is repeated or not there."""
        pointer, count, entry = ("Q", "Q", 20) if self.big else ("I", "H", 12)
        seen, at = set[int](), 8 if self.big else 4
        while (start := self.number(at, pointer)) and start not in seen:
            seen.add(start)
            if (entries := self.number(start, count)) is None:
                return
            begin = start + struct.calcsize(count)
            yield begin, entries
            at = begin + entry * entries


def _opened(file: BinaryIO) -> _Tiff:
    file.seek(0)
    head = file.read(4)
    length = file.seek(0, 2)
    return _Tiff(file, length, ">" if head[:1] == b"M" else "<", head[2:4] in (b"+\0", b"\0+"))


def tiff_pages(file: BinaryIO, most: int) -> int:
    """Pages of a TIFF as far as their tables follow one another, one more than `most` at most; the file is not moved.

    Pillow's own count takes time by the square of their number.
    """
    position, pages = file.tell(), 0
    for _ in _opened(file).directories():
        pages += 1
        if pages > most:
            break
    file.seek(position)
    return pages


def tiff_damage(file: BinaryIO, pages: int = 1) -> str:
    """Why pixels of the first pages cannot all be there; "" where nothing says so. The file is not moved.

    A directory without sides is left to the decoder, which refuses it.
    """
    position, tiff = file.tell(), _opened(file)
    reason = ""
    for _, (begin, entries) in zip(range(pages), tiff.directories(), strict=False):
        reason = reason or _damage_of_page(tiff, begin, min(entries, MOST_ENTRIES))
    file.seek(position)
    return reason


def tiff_is_whole(file: BinaryIO, most: int) -> bool:
    """Whether all that the directories of a TIFF point to is in the file, and the last one says that it is the last.

    Pillow warns of each value that is not there, so this is asked before it opens a file that may be cut off. False for
    more pages than `most`, and for more entries than so many pages have. The file is not moved.
    """
    position = file.tell()
    is_whole = _is_whole(_opened(file), most) and not tiff_damage(file, most)
    file.seek(position)
    return is_whole


def _is_whole(tiff: _Tiff, most: int) -> bool:
    """Whether the directories and the values that they point to are in the file."""
    entry, pointer = (20, "Q") if tiff.big else (12, "I")
    pages, end, total = 0, 0, 0
    for begin, entries in tiff.directories():
        pages, end, total = pages + 1, begin + entry * entries, total + entries
        # Directories may lie over each other, so that a small file has very many entries.
        if pages > most or entries > MOST_ENTRIES or total > MOST_ENTRIES_OF_ALL:
            return False
        if max(end, _end_of_values(tiff, begin, entries)) > tiff.length:
            return False
    return pages > 0 and tiff.number(end, pointer) == 0


def _end_of_values(tiff: _Tiff, begin: int, entries: int) -> int:
    """Where the last value ends that a directory points to."""
    size, inline, form = (20, 8, "HHQQ") if tiff.big else (12, 4, "HHII")
    data, last = tiff.read(begin, size * entries), 0
    for at in range(0, len(data) - size + 1, size):
        _, kind, count, place = struct.unpack_from(tiff.order + form, data, at)
        length = _BYTES.get(kind, 1) * count
        last = max(last, place + length if length > inline else 0)
    return last


def _damage_of_page(tiff: _Tiff, begin: int, entries: int) -> str:
    """Of the page with so many entries, which begin there."""
    places, repeated = _entries(tiff, begin, entries)
    if repeated:
        return "a field of its directory is there twice"

    def field(tag: int, default: int) -> int:
        values = _values(tiff, places[tag], 1) if tag in places else None
        return int(values[0]) if values is not None and len(values) else default

    width, length, compression = field(_WIDTH, 0), field(_LENGTH, 0), field(_COMPRESSION, _RAW)
    samples, bits = max(field(_SAMPLES, 1), 1), max(field(_BITS, 1), 1)
    planes = samples if field(_PLANAR, 1) == 2 else 1
    if width <= 0 or length <= 0:
        return ""
    if _STRIPS not in places and _TILES not in places:
        return "" if compression == _OLD_JPEG else "it has neither strips nor tiles"
    tiled = _TILES in places or _TILE_WIDTH in places
    high, wide = (field(_TILE_LENGTH, 0), field(_TILE_WIDTH, 0)) if tiled else (field(_ROWS, length), width)
    if high <= 0 or wide <= 0:
        return "its strips or tiles have no size"
    number = -(-length // high) * -(-width // wide) * planes
    if number > MOST_PARTS:
        return f"it has more than {MOST_PARTS:,} strips or tiles"
    for offsets, counts in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        if offsets not in places:
            continue
        counts = counts if counts in places else _STRIP_BYTES + _TILE_BYTES - counts
        row = -(-wide * bits * (1 if planes > 1 else samples) // 8)
        whole = min(high, length) * row if compression == _RAW else None
        starts, sizes = _values(tiff, places[offsets], number), _values(tiff, places.get(counts), number)
        missing = _missing(starts, sizes, number, tiff.length, whole)
        if missing:
            return f"without data: {missing:,} of {number:,} strips or tiles"
        needed = -(-width * bits * (1 if planes > 1 else samples) // 8) * length * planes
        ratio = _RATIO.get(compression)
        is_known = ratio is not None and sizes is not None and field(_PHOTOMETRIC, 0) != _SUBSAMPLED
        if is_known and ratio * math.fsum(sizes) < needed:  # type: ignore[operator, arg-type]
            return "it has fewer bytes than its pixels need"
    return ""


def _entries(tiff: _Tiff, begin: int, entries: int) -> tuple[dict[int, tuple[int, int, int]], bool]:
    """({field: (type, number of values, where they are)}, whether one is there twice) of the fields that count here."""
    size, form = (20, "HHQ") if tiff.big else (12, "HHI")
    inline, pointer = (8, "Q") if tiff.big else (4, "I")
    data, places, repeated = tiff.read(begin, size * entries), dict[int, tuple[int, int, int]](), False
    for at in range(0, len(data) - size + 1, size):
        tag, kind, count = struct.unpack_from(tiff.order + form, data, at)
        if tag not in _TAGS:
            continue
        value = at + size - inline
        fits = kind in _TYPES and count * np.dtype(_TYPES[kind]).itemsize <= inline
        place = begin + value if fits else struct.unpack_from(tiff.order + pointer, data, value)[0]
        repeated = repeated or tag in places
        places[tag] = kind, count, place
    return places, repeated


def _values(tiff: _Tiff, place: tuple[int, int, int] | None, most: int) -> npt.NDArray[Any] | None:
    """The first values of a field; none of other types than whole numbers, fewer where the file ends."""
    if place is None:
        return None
    kind, count, at = place
    if kind not in _TYPES:
        return np.zeros(0, np.int64)
    dtype = np.dtype(tiff.order + _TYPES[kind])
    data = tiff.read(at, dtype.itemsize * min(count, most))
    return np.frombuffer(data, dtype, len(data) // dtype.itemsize)


def _missing(
    starts: npt.NDArray[Any] | None, sizes: npt.NDArray[Any] | None, number: int, length: int, whole: int | None
) -> int:
    """How many of the strips or tiles are not in the file. whole: bytes of an uncompressed one, of which a file may
    claim more; sizes: None where the file does not say them."""
    known = min(number, len(starts) if starts is not None else 0)
    begin = np.asarray(starts)[:known].astype(np.float64)
    size = np.ones(known)
    if sizes is not None:
        known = min(known, len(sizes))
        begin, size = begin[:known], sizes[:known].astype(np.float64)
        size = np.minimum(size, whole) if whole is not None else size
    there = (begin > 0) & (size > 0) & (begin + size <= length)
    return number - int(there.sum())
