"""Reads picture files: upright, RGB, 8 bits; refuses what is too large before it is decoded.

`read_picture` decodes a file with Pillow, since its pixels are what torchvision, timm and Hugging Face compute on.
Colour profiles are not applied, as none of the three does. `find_pictures` lists the pictures of a folder. Nothing here
changes the process: several threads decode at once, and the table of warnings stays as it is.
"""

import logging
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from onnxcam.errors import PictureError
from onnxcam.types import Picture

MAX_PIXELS = 178_956_970
"""Largest picture, width times height: where Pillow raises DecompressionBombError."""

_ENDINGS = "jpg jpeg jpe jfif mpo png apng webp gif tif tiff bmp dib ppm pgm pbm pnm jp2 avif"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())

# The readers that may run. Of Pillow's others one starts Ghostscript, and few are meant for files of unknown origin.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")

# What Pillow's readers raise on damaged files; only OSError and SyntaxError are documented. Warnings are among them for
# callers who turn warnings into errors.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
# Of these, what a reader raises on a file of another format.
_OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_log = logging.getLogger(__name__)


def read_picture(source: str | os.PathLike[str] | bytes) -> Picture:
    """A picture as (height, width, 3) uint8 RGB, 0 to 255, turned upright as its EXIF orientation says.

    source: a path, or the content of a file as bytes; JPEG, PNG, WebP, GIF, TIFF, BMP, PNM, JPEG 2000 or AVIF.
    Transparent pixels are laid over white. 16-bit grey is divided by 257, float grey in [0,1] is multiplied by 255,
    both are rounded. Of an animation the first frame counts. Raises PictureError for a file that is missing, damaged or
    cut short, and for more than MAX_PIXELS before anything is decoded. Pillow may warn (UserWarning) of odd metadata.
    """
    name = _name(source)
    with _opened(source, name) as file:
        image = _identified(file, name)
        try:
            image.load()
        except _DAMAGED as error:
            raise PictureError(_damage(name, error)) from error
        turn = _TURNS.get(_orientation(image))
        return _rgb(image if turn is None else image.transpose(turn), name)


def size_of(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """(height, width) of the upright picture, read from the header; raises as read_picture does.

    Damage among the pixels goes unnoticed: only a PNG that has its EXIF behind the pixels is decoded.
    """
    name = _name(source)
    with _opened(source, name) as file:
        image = _identified(file, name)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # some versions of Pillow turn the size beforehand, some not
            width, height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
        on_its_side = _orientation(image, late=_metadata_behind_pixels(image, file)) >= 5
        return (width, height) if on_its_side else (height, width)


def find_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a folder, by suffix, sorted, without subfolders and hidden files; of a file, the file itself.

    Raises PictureError if there is no such path, or no picture in the folder.
    """
    name = _name(path)
    path = Path(path)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path]
        with os.scandir(path) as entries:
            pictures = sorted(path / entry.name for entry in entries if _is_picture(entry))
    except (OSError, ValueError) as error:
        raise PictureError(f"{name}: {_reason(error)}") from error
    if not pictures:
        raise PictureError(f"{name}: no pictures in this folder (a .jpg, .png, .webp, .gif, .tif, .bmp, ...)")
    return pictures


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    return suffix in SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()


def _name(source: str | os.PathLike[str] | bytes) -> str:
    if isinstance(source, bytes):
        return "<bytes>"
    if not isinstance(source, str | os.PathLike):
        raise PictureError(
            f"a picture file is a path, or its content as bytes, not {type(source).__name__}; "
            f"an array is a picture already"
        )
    name = os.fspath(source)
    return name if name.isprintable() and name else repr(name)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:160] or type(error).__name__


def _damage(name: str, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"{name}: does not fit into memory; make it smaller first"
    return f"{name}: damaged or cut short ({_reason(error)}); get the file again"


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes, name: str) -> Iterator[BinaryIO]:
    if source == b"":
        raise PictureError(f"{name}: empty (0 bytes)")
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    try:
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(f"{name}: a folder, not a picture; name a file in it")
        if not stat.S_ISREG(status.st_mode):  # a pipe cannot be rewound, and a device may never end
            raise PictureError(f"{name}: not a regular file; save the picture to a file first")
        if not status.st_size:
            raise PictureError(f"{name}: empty (0 bytes)")
        file = open(source, "rb")  # noqa: SIM115 - closed below; the errors of the reader are not those of opening
    except (OSError, ValueError) as error:
        raise PictureError(f"{name}: {_reason(error)}") from error
    with file:
        yield file


def _identified(file: BinaryIO, name: str) -> Image.Image:
    """The picture with its size known and its pixels still in the file."""
    image = _header(file, name)
    limit = MAX_PIXELS if Image.MAX_IMAGE_PIXELS is None else min(MAX_PIXELS, 2 * Image.MAX_IMAGE_PIXELS)
    if image.width * image.height > limit:
        raise PictureError(f"{name}: {image.width} x {image.height} is {_too_large(limit)}")
    return image


def _header(file: BinaryIO, name: str) -> Image.Image:
    """The picture as the first reader takes it that accepts the file.

    Not Image.open, which warns of large photographs; silencing that would change the warnings of the whole process.
    """
    Image.init()
    prefix = file.read(16)
    for form in _FORMATS:
        if form not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[form]
        try:
            accepted = accept is None or accept(prefix)
            if isinstance(accepted, str) or not accepted:  # text says why not
                continue
            file.seek(0)
            return factory(file, "")
        except _OTHER_FORMAT:
            continue
        except Image.DecompressionBombError as error:
            raise PictureError(f"{name}: {_too_large(MAX_PIXELS)}") from error
        except _DAMAGED as error:
            raise PictureError(_damage(name, error)) from error
    kinds = "JPEG, PNG, WebP, GIF, TIFF, BMP, PNM, JPEG 2000 and AVIF can be"
    raise PictureError(f"{name}: not a picture that can be read; {kinds}")


def _too_large(limit: int) -> str:
    return f"more than {limit:,} pixels; make it smaller first"


def _orientation(image: Image.Image, *, late: bool = True) -> int:
    """EXIF's number, 1 (upright) to 8; 1 if there is none that can be read.

    late=False keeps Pillow from decoding a PNG to see whether EXIF follows behind its pixels.
    """
    try:
        exif = image.getexif() if late else Image.Image.getexif(image)
        number = exif.get(ExifTags.Base.Orientation)
    except _DAMAGED as error:
        _log.warning("EXIF cannot be read (%s); the picture is taken to be upright", _reason(error))
        return 1
    return int(number) if number in _TURNS else 1


def _metadata_behind_pixels(image: Image.Image, file: BinaryIO) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold an orientation; False for other formats."""
    if not isinstance(image, PngImageFile):
        return False
    position = file.tell()
    file.seek(8)
    behind = metadata = False
    while not metadata and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        behind = behind or kind == b"IDAT"
        metadata = behind and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return metadata


def _rgb(image: Image.Image, name: str) -> Picture:
    if image.mode == "F":
        return _from_float(image, name)
    if image.mode.startswith("I"):
        return _from_deep_grey(image, name)
    try:
        if not image.has_transparency_data:
            return np.array(image.convert("RGB"))
        layer = image.convert("RGBA")
    except _DAMAGED as error:  # a palette picture that lost its palette
        raise PictureError(f"{name}: colour mode {image.mode} cannot become RGB; convert the file") from error
    white = Image.new("RGBA", layer.size, "white")
    return np.array(Image.alpha_composite(white, layer).convert("RGB"))


def _from_deep_grey(image: Image.Image, name: str) -> Picture:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        extent = f"grey values from {values.min()} to {values.max()}"
        raise PictureError(f"{name}: {extent}, not 16-bit; convert it to 8 bits")
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.stack([grey] * 3, axis=-1)


def _from_float(image: Image.Image, name: str) -> Picture:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # not-a-number too
        raise PictureError(f"{name}: float grey from {low:g} to {high:g}, not within [0,1]; convert it to 8 bits")
    return np.stack([np.rint(values * 255).astype(np.uint8)] * 3, axis=-1)
