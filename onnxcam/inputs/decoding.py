"""Decodes the file of a picture with Pillow: identified by its content, checked for its end, upright, RGB, 8 bits.

Nothing here changes the process: several threads decode at once, and the table of warnings stays as it is.
"""

import logging
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs.depth import Window, from_deep, from_floats, laid_over_white, narrow, windowed
from onnxcam.inputs.intact import (
    CHECKED,
    EARLY,
    claims_too_much,
    ends_early,
    made_strict,
    pnm_header_ends,
    tiff_pages,
)
from onnxcam.inputs.opencv import opencv
from onnxcam.inputs.pixel_limit import check_pixels
from onnxcam.inputs.sources import TIFF, reason
from onnxcam.limits import SAFE, WORK, Limits
from onnxcam.types import Note, NoteCode, Picture

PILLOWS = 2**30 // 4 // 3
"""Image.MAX_IMAGE_PIXELS, unless somebody changed it."""

MOST_PAGES = 1000
"""Pages of a TIFF that are counted."""

# The readers that may run. Of Pillow's others one starts Ghostscript, and few are meant for files of unknown origin.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")

DAMAGED = (
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
"""What Pillow's readers raise on damaged files; only OSError and SyntaxError are documented. Warnings are among them
for callers who turn warnings into errors."""

# Of these, what a reader raises on a file of another format.
_OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)

_TURNS: dict[int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""EXIF's orientation -> how the pixels are turned upright."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Reading:
    """A picture as it was read. window: what became black and white, if that was chosen. notes: what to doubt."""

    picture: Picture
    notes: tuple[Note, ...] = ()
    window: Window | None = None


def identified(file: BinaryIO, name: str, limits: Limits = SAFE) -> Image.Image:
    """The picture with its size known and its pixels still in the file.

    A JPEG beyond the limit of pixels will be decoded at 1/2, 1/4 or 1/8 of its sides. Raises PictureError for others
    beyond it, and for a file that is too short for the pixels that it claims.
    """
    image = _header(file, name)
    theirs = Image.MAX_IMAGE_PIXELS
    if theirs not in (None, PILLOWS) and image.width * image.height > 2 * theirs:  # where Pillow itself raises
        raise PictureError(
            f"{name}: {image.width} x {image.height} is more than {2 * theirs:,} pixels, twice the "
            f"PIL.Image.MAX_IMAGE_PIXELS that this process set"
        )
    is_short = claims_too_much(image, _length(file))
    if limits.exceeded("pixels", image.width * image.height):
        _reduce(image, limits)
    check_pixels(*image.size, name, limits)
    if is_short:
        raise PictureError(_damage(name, EARLY))
    return image


def _reduce(image: Image.Image, limits: Limits) -> None:
    """Has a JPEG be decoded at the largest size within the limit. libjpeg holds all of a progressive one in memory."""
    if not isinstance(image, JpegImageFile) or "progressive" in image.info or limits.pixels is None:
        return
    if image.width * image.height > WORK * limits.pixels:
        return
    for scale in (2, 4, 8):
        if -(-image.width // scale) * -(-image.height // scale) <= limits.pixels:
            image.draft(None, (image.width // scale, image.height // scale))
            return


def _reduced(image: Image.Image, name: str) -> tuple[Note, ...]:
    """A note on a JPEG that is decoded at a fraction of its size."""
    scale = (getattr(image, "decoderconfig", None) or (1,))[0]
    if scale == 1:
        return ()
    size = f"{image.width} x {image.height}"
    text = f"{name}: read at 1/{scale} of its sides, as {size}; --max-pixels raises the limit of what is read whole"
    return (Note(NoteCode.READ_REDUCED, text),)


def _length(file: BinaryIO) -> int:
    """Bytes of a file, which stays where it was."""
    position = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(position)
    return length


def decoded(image: Image.Image, file: BinaryIO | None, name: str, window: Window | None) -> Reading:
    """The pixels of an image, upright and as 8 bits. file: what it is read from; None if it is loaded already.

    Raises PictureError for a file that is damaged or ends early, and for values that 8 bits cannot show.
    """
    notes = (*_frames(image, file, name), *_reduced(image, name))
    stored = orientation(image) if isinstance(image, TiffImageFile) else None  # Pillow turns a TIFF as it loads
    deep = (
        file is not None
        and len(image.getbands()) > 1
        and ";16" in str([tile.args for tile in getattr(image, "tile", ())])
    )
    content = content_of(file) if file is not None and (deep or image.format in CHECKED) else b""
    _load(image, content, name)
    colours = _deep_colours(content) if deep else None
    if colours is not None:
        notes += () if window is not None else narrow(colours[..., :3], name)
    number = orientation(image)  # of a PNG it may stand behind the pixels
    if colours is not None and window is not None:
        picture, also = laid_over_white(windowed(colours[..., :3], window), colours[..., 3:] / 257, name)
        number = stored or number
    else:
        picture, also = _rgb(image, name, window)
    turn = _TURNS.get(number)
    upright = picture if turn is None else turn(picture)
    return Reading(np.ascontiguousarray(upright), (*notes, *also), window)


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
            if form == "PPM" and not pnm_header_ends(file):
                raise PictureError(_damage(name, "its header does not end"))
            return factory(file, "")
        except _OTHER_FORMAT:
            continue
        except DAMAGED as error:
            raise PictureError(_damage(name, reason(error), error)) from error
    kinds = "JPEG, PNG, WebP, GIF, TIFF, BMP, PNM, JPEG 2000 and AVIF can be"
    hint = "; of a TIFF with many bands choose three with --bands, as in --bands 4,3,2" if prefix[:4] in TIFF else ""
    raise PictureError(f"{name}: not a picture that can be read; {kinds}{hint}")


def orientation(image: Image.Image, *, late: bool = True) -> int:
    """EXIF's number, 1 (upright) to 8; 1 if there is none that can be read.

    late=False keeps Pillow from decoding a PNG to see whether EXIF follows behind its pixels.
    """
    try:
        exif = image.getexif() if late else Image.Image.getexif(image)
        number = exif.get(ExifTags.Base.Orientation)
    except DAMAGED as error:
        _log.warning("EXIF cannot be read (%s); the picture is taken to be upright", reason(error))
        return 1
    return int(number) if number in _TURNS else 1


def metadata_behind_pixels(image: Image.Image, file: BinaryIO) -> bool:
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


def samples(image: Image.Image, file: BinaryIO | None, name: str) -> npt.NDArray[Any]:
    """(channels, height, width) of an upright picture, of a palette its colours, transparency among them.

    file: what it is read from; None if it is loaded already.
    """
    _load(image, content_of(file) if file is not None else b"", name)
    turn = _TURNS.get(orientation(image))
    if image.mode in ("P", "PA", "1"):
        image = image.convert({"P": "RGB", "PA": "RGBA", "1": "L"}[image.mode])
    values = np.atleast_3d(np.asarray(image))
    return np.moveaxis(values if turn is None else turn(values), -1, 0)


def _load(image: Image.Image, content: bytes, name: str) -> None:
    """Decodes the pixels. content: that of the file, if it is to be checked. Raises PictureError."""
    made_strict(image)
    try:
        image.load()
        early = content and ends_early(image.format, content, image)
    except DAMAGED as error:
        raise PictureError(_damage(name, reason(error), error)) from error
    if early:
        raise PictureError(_damage(name, EARLY))


def _damage(name: str, why: str, error: BaseException | None = None) -> str:
    if isinstance(error, MemoryError):
        return f"{name}: does not fit into memory; make it smaller first"
    return f"{name}: damaged or cut short ({why}); get the file again"


def content_of(file: BinaryIO) -> bytes:
    """All bytes of a file, which stays where it was."""
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    return content


def _pages(file: BinaryIO | None) -> str:
    """How many pages a TIFF has, in words where they are not known or are more than MOST_PAGES."""
    pages = tiff_pages(file, MOST_PAGES) if file is not None else 0
    return str(pages) if 1 < pages <= MOST_PAGES else f"more than {MOST_PAGES}" if pages > 1 else "several"


def _frames(image: Image.Image, file: BinaryIO | None, name: str) -> tuple[Note, ...]:
    """A note if the file holds further frames or pages; not of the previews beside a camera's JPEG."""
    frame = image.tell()
    try:
        if image.format not in ("GIF", "WEBP", "PNG", "TIFF") or not getattr(image, "is_animated", False):
            return ()
        number: object = getattr(image, "n_frames", "several") if image.format != "TIFF" else _pages(file)
        text = f"{name}: the first of {number} frames or pages is explained"
    except DAMAGED as error:  # of a later frame, at which Pillow is left
        try:
            image.seek(frame)
        except DAMAGED:
            raise PictureError(_damage(name, reason(error), error)) from error
        return ()
    return (Note(NoteCode.FIRST_FRAME, text),)


def _deep_colours(content: bytes) -> npt.NDArray[np.uint16] | None:
    """(height, width, 3 or 4) RGB or RGBA of 16 bits, not turned, where Pillow has 8; None if OpenCV fails."""
    cv2 = opencv()
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        return None
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, order), np.uint16)


def _rgb(image: Image.Image, name: str, window: Window | None) -> tuple[Picture, tuple[Note, ...]]:
    """The pixels as they lie in the file, through the window, over white where they are transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _grey(image, name, window)
    try:
        if not image.has_transparency_data:
            pixels = np.array(image.convert("RGB"))
            return (pixels if window is None else windowed(pixels, window)), ()
        layer = np.array(image.convert("RGBA"))
    except DAMAGED as error:  # a palette picture that lost its palette
        raise PictureError(f"{name}: colour mode {image.mode} cannot become RGB; convert the file") from error
    colours = layer[..., :3] if window is None else windowed(layer[..., :3], window)
    return laid_over_white(colours, layer[..., 3:], name)


def _grey(image: Image.Image, name: str, window: Window | None) -> tuple[Picture, tuple[Note, ...]]:
    values = np.asarray(image)
    notes: tuple[Note, ...] = ()
    if image.mode == "F":
        grey = from_floats(values, window, name)
    else:
        grey, notes = from_deep(values, window, name)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255
    return np.stack([grey] * 3, axis=-1), notes
