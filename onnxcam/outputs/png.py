"""PNG files of drawings, with texts."""

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

LEVEL = 2
"""Of zlib. 3 takes half as long again for files that are 2 % smaller."""
UP = 2
"""The filter of every row: a pixel less the one above it. To try all five in each row takes longer than zlib does."""
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG's number for as many channels: grey, RGB and RGBA."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(pixels: npt.NDArray[np.uint8], texts: Mapping[str, str]) -> bytes:
    """A PNG of (height,width) grey, (height,width,3) RGB or (height,width,4) RGBA, with texts by their keywords.

    The same pixels as of Pillow's writer, in less than half of the time and without its import; files are about 3 %
    larger. A keyword is of Latin-1, and at most 79 characters.
    """
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = pixels.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [
        _chunk(b"IHDR", header),
        *(_text(key, text) for key, text in texts.items()),
        _chunk(b"IDAT", zlib.compress(filtered.data, LEVEL)),
        _chunk(b"IEND", b""),
    ]
    return SIGNATURE + b"".join(chunks)


def _text(key: str, text: str) -> bytes:
    """A chunk of Latin-1 where that has all characters, else of UTF-8, not compressed."""
    try:
        return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", key.encode("latin-1") + 5 * b"\0" + text.encode())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
