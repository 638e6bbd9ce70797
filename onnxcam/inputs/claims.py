"""What a file claims and cannot hold, or what takes too long to decode, before it is decoded.

The pixels themselves are limited before. Formats whose plainest pictures take no bits for a pixel (WebP, AVIF,
JPEG 2000, CCITT) have no such bound.
"""

import re
from typing import BinaryIO

from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.inputs.intact import jpeg_markers
from onnxcam.limits import WORK, Limits

MOST_SCANS = 100
"""Scans of a JPEG; encoders write about ten of a progressive one."""
_SCAN = b"\xff\xda"
_PNG_BITS = re.compile(r"(1|P|L|LA|RGB|RGBA|I)(?:;([0-9]+)B?)?")
_CODES = {"gif": 2731, "bmp_rle": 127.5}
"""Pillow's decoder -> pixels that a byte becomes at most: LZW has codes of 12 bits and 4096 entries, RLE runs of 255 in
two bytes."""
_DEFLATE = 1032
"""Bytes that a byte becomes at most: zlib's own figure."""


def claims_too_much(image: Image.Image, length: int) -> bool:
    """Whether a file of so many bytes is too short for its pixels, however plain they are.

    A JPEG has 2 bits for each block of 8 x 8 pixels, or 1 in the first scan of a progressive one.
    """
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        blocks = -(-width // 8) * -(-height // 8)
        return 8 * length < (1 if "progressive" in image.info else 2) * blocks
    tiles = getattr(image, "tile", ())
    if not tiles:
        return False
    codec, extents, _, args = tiles[0]
    if image.format == "PNG" and (bits := _bits_of_png(args)) is not None:
        return _DEFLATE * length < -(-width * bits // 8) * height
    if codec in _CODES and extents is not None:
        return bool(_CODES[codec] * length < (extents[2] - extents[0]) * (extents[3] - extents[1]))
    return False


def _bits_of_png(args: object) -> int | None:
    """Bits of a pixel, of Pillow's name for the pixels of a PNG, such as RGB;16B."""
    match = _PNG_BITS.fullmatch(args) if isinstance(args, str) else None
    if match is None:
        return None
    mode, depth = match[1], match[2]
    return (1 if mode in ("1", "P", "L", "I") else len(mode)) * (int(depth) if depth else 1 if mode == "1" else 8)


def check_scans(file: BinaryIO, image: Image.Image, name: str, limits: Limits) -> None:
    """Raises PictureError for a JPEG of more scans than MOST_SCANS, or than the limit of pixels allows, each of which
    goes through all pixels. The file is not moved."""
    if image.format not in ("JPEG", "MPO"):
        return
    position, scans = file.tell(), 0
    file.seek(0)
    data = file.read()
    file.seek(position)
    size = image.width * image.height
    most = min(MOST_SCANS, WORK * limits.pixels // size if limits.pixels is not None else MOST_SCANS)
    if data.count(_SCAN) <= most:  # some of which may be of previews, or behind the picture
        return
    for kind, _ in jpeg_markers(data):
        scans += kind == _SCAN[1]
        if scans > most:
            raise PictureError(
                f"{name}: more than {most} scans of {image.width} x {image.height} take too long to decode; save it "
                f"again as a JPEG that is not progressive"
            )
