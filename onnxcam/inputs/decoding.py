"""Decodes the file of a picture with Pillow: identified by its content, checked for its end, upright, RGB, 8 bits.

Nothing here changes the process: several threads decode at once, and the table of warnings stays as it is.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs.claims import check_scans, claims_too_much
from onnxcam.inputs.deadlines import Timed, timed
from onnxcam.inputs.depth import Window, from_deep, from_floats, narrow
from onnxcam.inputs.intact import (
    CHECKED,
    EARLY,
    damage_of,
    ends_early,
    gif_structure,
    made_strict,
)
from onnxcam.inputs.opencv import opencv
from onnxcam.inputs.pixel_limit import check_decoding, check_pixels
from onnxcam.inputs.pixels import TURNS, colours_of, deep_colours_of, grey_picture, numbers_of, turned
from onnxcam.inputs.sources import TIFF, reason
from onnxcam.inputs.tiff import tiff_pages
from onnxcam.inputs.unwarned import PILLOWS, UnwarnedTiff, still_gif
from onnxcam.limits import SAFE, WORK, Limits
from onnxcam.logs import module_logger
from onnxcam.types import Note, NoteCode, Picture

MOST_PAGES = 1000
"""Pages of a TIFF and frames of a GIF that are counted."""

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
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
"""What Pillow's readers raise on damaged files; only OSError and SyntaxError are documented. Warnings are among them
for callers who turn warnings into errors. MemoryError is not: `fitting` says that."""

# Of these, what a reader raises on a file of another format.
_OTHER_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)

_log = module_logger(__name__)


@dataclass(frozen=True, eq=False)
class Reading:
    """A picture as it was read. window: what became black and white, if that was chosen. notes: what to doubt."""

    picture: Picture
    notes: tuple[Note, ...] = ()
    window: Window | None = None


def identified(file: BinaryIO | Timed, name: str, limits: Limits = SAFE, *, all_frames: bool = False) -> Image.Image:
    """The picture with its size known and its pixels still in the file. all_frames: whether later ones are read too.

    A JPEG beyond the limit of pixels will be decoded at 1/2, 1/4 or 1/8 of its sides. Raises PictureError for others
    beyond it, for a file that is too short for the pixels that it claims, and once its reading takes too long.
    """
    file = timed(file, name, limits)
    image = _header(file, name, all_frames)
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
    check_decoding(image.format, image.mode, image.size, name, limits)
    if is_short:
        raise PictureError(_damage(name, EARLY))
    check_scans(file, image, name, limits)
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
    load(image, file, name)
    number = orientation(image)
    colours = _deep_colours(content_of(file)) if deep and file is not None else None
    if colours is not None and window is not None:
        picture, also = deep_colours_of(colours, window, stored or number, name)
    else:
        notes += narrow(colours[..., :3], name) if colours is not None else ()
        del colours
        picture, also = _rgb(image, name, window, number)
    return Reading(picture, (*notes, *also), window)


def _header(file: BinaryIO, name: str, all_frames: bool) -> Image.Image:
    """The picture as the first reader takes it that accepts the file.

    Not Image.open, which warns of large photographs; silencing that would change the warnings of the whole process.
    """
    prefix = file.read(16)
    for form in _FORMATS:
        if form not in Image.OPEN:
            Image.init()  # every reader that Pillow has: imports of about 60 ms, which a JPEG and a PNG do without
        if form not in Image.OPEN:  # a build of Pillow without it
            continue
        factory, accept = Image.OPEN[form]
        try:
            accepted = accept is None or accept(prefix)
            if isinstance(accepted, str) or not accepted:  # text says why not
                continue
            file.seek(0)
            if why := damage_of(form, file):
                raise PictureError(_damage(name, why))
            if form == "TIFF":
                return UnwarnedTiff(file, "")
            return factory(file if form != "GIF" or all_frames else still_gif(file), "")
        except _OTHER_FORMAT:
            continue
        except DAMAGED as error:
            raise PictureError(_damage(name, reason(error))) from error
    kinds = "JPEG, PNG, WebP, GIF, TIFF, BMP, PNM, JPEG 2000 and AVIF can be"
    hint = "; of a TIFF with many bands choose three with --bands, as in --bands 4,3,2" if prefix[:4] in TIFF else ""
    raise PictureError(f"{name}: not a picture that can be read; {kinds}{hint}")


def orientation(image: Image.Image) -> int:
    """EXIF's number, 1 (upright) to 8; 1 if there is none that can be read. Of a PNG it may stand behind the pixels,
    which are decoded where nothing stands before them.
    """
    try:
        number = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED as error:
        _log.warning("EXIF cannot be read (%s); the picture is taken to be upright", reason(error))
        return 1
    return int(number) if number in TURNS else 1


def orientation_of_file(image: Image.Image, file: BinaryIO, name: str) -> int:
    """EXIF's number, as `decoded` applies it; 5 and more exchange width and height.

    Only a PNG with metadata behind its pixels is decoded for that, since they count more than those before. Raises
    PictureError if it is damaged.
    """
    if isinstance(image, PngImageFile):
        if _metadata_behind_pixels(file):
            load(image, file, name)
        else:
            image.info.setdefault("exif", None)  # else Pillow decodes the pixels to look behind them
    return orientation(image)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) of the pixels as the file has them, not turned."""
    if isinstance(image, TiffImageFile):  # some versions of Pillow turn the size beforehand, some not
        return image.tag_v2[ExifTags.Base.ImageLength], image.tag_v2[ExifTags.Base.ImageWidth]
    return image.height, image.width


def header(file: BinaryIO, name: str) -> Image.Image:
    """The picture as its header describes it; nothing else is read or checked. Raises PictureError for no picture."""
    return _header(file, name, all_frames=False)


def _metadata_behind_pixels(file: BinaryIO) -> bool:
    """Whether a PNG has chunks behind its pixels that may hold an orientation."""
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
    load(image, file, name)
    values = np.atleast_3d(numbers_of(image, {"P": "RGB", "PA": "RGBA", "1": "L"}.get(image.mode)))
    return np.moveaxis(turned(values, orientation(image)), -1, 0)


def load(image: Image.Image, file: BinaryIO | None, name: str) -> None:
    """Decodes the pixels. file: what it is read from, if its end is to be checked. Raises PictureError."""
    made_strict(image)
    try:
        image.load()
        early = file is not None and image.format in CHECKED and ends_early(image.format, content_of(file), image)
    except DAMAGED as error:
        raise PictureError(_damage(name, reason(error))) from error
    if early:
        raise PictureError(_damage(name, EARLY))


def _damage(name: str, why: str) -> str:
    return f"{name}: damaged or cut short ({why}); get the file again"


def content_of(file: BinaryIO) -> bytes:
    """All bytes of a file, which stays where it was."""
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    return content


def _count(image: Image.Image, file: BinaryIO | None) -> object:
    """How many frames or pages there are, in words where that is not known or more than MOST_PAGES.

    Those of a TIFF and a GIF are counted by their structure: Pillow's count takes very long.
    """
    if image.format not in ("TIFF", "GIF"):
        return getattr(image, "n_frames", "several")
    count = 0
    if file is not None:
        tiff = image.format == "TIFF"
        count = tiff_pages(file, MOST_PAGES) if tiff else gif_structure(content_of(file), MOST_PAGES)[0]
    return str(count) if 1 < count <= MOST_PAGES else f"more than {MOST_PAGES}" if count > 1 else "several"


def _frames(image: Image.Image, file: BinaryIO | None, name: str) -> tuple[Note, ...]:
    """A note if the file holds further frames or pages; not of the previews beside a camera's JPEG."""
    frame = image.tell()
    try:
        if image.format not in ("GIF", "WEBP", "PNG", "TIFF") or not getattr(image, "is_animated", False):
            return ()
        text = f"{name}: the first of {_count(image, file)} frames or pages is explained"
    except DAMAGED as error:  # of a later frame, at which Pillow is left
        try:
            image.seek(frame)
        except DAMAGED:
            raise PictureError(_damage(name, reason(error))) from error
        return ()
    return (Note(NoteCode.FIRST_FRAME, text),)


def _deep_colours(content: bytes) -> npt.NDArray[np.uint16] | None:
    """(height, width, 3 or 4) BGR or BGRA of 16 bits, not turned, where Pillow has 8; None if OpenCV fails."""
    cv2 = opencv()
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels is not None and pixels.dtype == np.uint16 and pixels.ndim == 3 else None


def _rgb(image: Image.Image, name: str, window: Window | None, number: int) -> tuple[Picture, tuple[Note, ...]]:
    """The pixels, turned upright, through the window, over white where they are transparent. number: EXIF's."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return colours_of(image, window, number, name, DAMAGED)
    values = numbers_of(image)
    notes: tuple[Note, ...] = ()
    if image.mode == "F":
        grey = from_floats(values, window, name)
    else:
        grey, notes = from_deep(values, window, name)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[values == transparent] = 255
    del values
    return grey_picture(grey, number), notes
