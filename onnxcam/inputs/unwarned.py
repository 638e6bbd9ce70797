"""Pillow's readers of TIFF and GIF without the warning of large pictures, whose pixels are limited here already.

Warnings cannot be silenced in one thread alone, so the readers are kept from what warns.
"""

import struct
from io import BytesIO
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

PILLOWS = 2**30 // 4 // 3
"""Image.MAX_IMAGE_PIXELS, unless somebody changed it."""
_SIDE = 2**16 - 1
_DISPOSAL = 0b00011100
"""Bits of a graphic control extension that say what becomes of the frame."""


class UnwarnedTiff(TiffImageFile):
    """A TIFF whose memory is allocated here."""

    def load_prepare(self) -> None:
        """As Pillow's, without its second check of the size."""
        if getattr(self, "_im", None) is None:
            self.im = Image.new(self.mode, getattr(self, "_tile_size", self.size), None).im
        super().load_prepare()


def still_gif(file: BinaryIO) -> BinaryIO:
    """A GIF of which the first frame is read: the file, or if it is large a copy whose frame changes no later one.

    The canvas of the copy holds the whole frame, as Pillow has it. Raises ValueError for a frame beyond what any canvas
    can be.
    """
    width, height, places = _canvas_and_flags(file)
    file.seek(0)
    if width * height <= min(PILLOWS, Image.MAX_IMAGE_PIXELS or PILLOWS):
        return file
    if max(width, height) > _SIDE:
        raise ValueError("a frame lies outside of the picture")
    content = bytearray(file.read())
    content[6:10] = struct.pack("<HH", width, height)
    for place in places:
        content[place] &= 0xFF ^ _DISPOSAL
    return BytesIO(bytes(content))


def _canvas_and_flags(file: BinaryIO) -> tuple[int, int, list[int]]:
    """(width, height, where the flags of the first frame stand) of a GIF; no size where it has no frame."""
    file.seek(0)
    head = file.read(13).ljust(13, b"\0")
    file.seek(3 << (head[10] % 8 + 1) if head[10] & 0x80 else 0, 1)
    places: list[int] = []
    while (mark := file.read(1)) == b"!":
        label = file.read(1)
        first = file.tell() + 1
        while (count := file.read(1)) and count[0]:
            if label == b"\xf9" and file.tell() == first:
                places.append(first)
            file.seek(count[0], 1)
    place = file.read(8)
    if mark != b"," or len(place) < 8:
        return 0, 0, []
    left, top, width, height = struct.unpack("<4H", place)
    wide, high = struct.unpack_from("<HH", head, 6)
    return max(wide, left + width), max(high, top + height), places
