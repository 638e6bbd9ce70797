"""Reads pictures of every kind: upright, RGB, 8 bits; refuses what is too large before it is decoded.

`read_picture` takes a file, a Pillow image or an array. Files are decoded with Pillow, since its pixels are what
torchvision, timm and Hugging Face compute on. Colour profiles are not applied, as none of the three does.
`find_pictures` lists the pictures of a folder, `size_of` and `header_of` read no further than a header.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.ImageFile import ImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs import dicom
from onnxcam.inputs.arrays import host_array, is_array_file, picture_of, read_array
from onnxcam.inputs.bands import Bands, bands_first, check_bands, composed, is_multiband, read_bands
from onnxcam.inputs.decoding import (
    Reading,
    decoded,
    header,
    identified,
    orientation,
    orientation_of_file,
    samples,
    stored_size,
)
from onnxcam.inputs.depth import Window, check_window
from onnxcam.inputs.pixel_limit import check_pixels, check_shape
from onnxcam.inputs.sources import UNREADABLE, FileSource, fitting, is_file_source, name_of, opened, reason
from onnxcam.limits import SAFE, Limits, check_limits
from onnxcam.types import Note, NoteCode, Picture

_ENDINGS = "jpg jpeg jpe jfif mpo png apng webp gif tif tiff bmp dib ppm pgm pbm pnm jp2 avif dcm dicom"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself. height, width: of the pixels as they are stored. orientation: EXIF's."""

    height: int
    width: int
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_picture(
    source: object,
    *,
    window: Sequence[float] | None = None,
    bands: Sequence[int] | None = None,
    limits: Limits = SAFE,
) -> Picture:
    """A picture as (height, width, 3) uint8 RGB, 0 to 255, turned upright as its EXIF orientation says.

    source: a path, the content of a file as bytes, or a file opened for reading bytes: JPEG, PNG, WebP, GIF, TIFF, BMP,
    PNM, JPEG 2000 or AVIF, DICOM with pydicom; a Pillow image; or an array of any library, (height, width, 1 to 4) or
    (1 to 4, height, width), of bytes or of floats in [0,1]. window: (low, high), what becomes black and white. bands:
    three numbers from 1, or one, the bands of a file with many that are red, green and blue.

    Transparent pixels are laid over white. 16-bit grey is divided by 257, float grey in [0,1] is multiplied by 255,
    both are rounded. Of an animation the first frame counts. Raises PictureError for what is missing, damaged or cut
    short, for a URL, and for more pixels than the limits allow before anything is decoded; OptionError for a window or
    bands that make no sense. Pillow may warn (UserWarning) of odd metadata.
    """
    check_limits(limits)
    return read(source, check_window(window), check_bands(bands), limits).picture


def read(source: object, window: Window | None = None, bands: Bands | None = None, limits: Limits = SAFE) -> Reading:
    """What read_picture reads, with its notes."""
    with fitting(name_of(source) if is_file_source(source) else "<picture>"):
        return _read(source, window, bands, limits)


def _read(source: object, window: Window | None, bands: Bands | None, limits: Limits) -> Reading:
    if isinstance(source, Image.Image):
        return read_pillow(source, window, bands, limits)
    if is_file_source(source):
        if not is_array_file(source):
            return read_file(source, window, bands, limits)
        array, name = read_array(source, limits), name_of(source)
    else:
        shared = host_array(source)
        if shared is None:
            raise _no_file(source)
        array, name = shared, "<array>"
        check_shape(array.shape, array.dtype.itemsize, name, limits)
    if bands is not None and array.ndim == 3:
        return composed(bands_first(array), bands, window, name)
    pixels, notes = picture_of(array, window, name)
    return Reading(pixels, notes, window)


def read_file(
    source: FileSource, window: Window | None = None, bands: Bands | None = None, limits: Limits = SAFE
) -> Reading:
    """The picture in a file. Raises PictureError as read_picture does."""
    name = name_of(source)
    with opened(source, name, limits=limits) as file:
        if dicom.is_dicom(file, name):
            pixels, notes, used = dicom.read(file, name, window, limits)
            return Reading(pixels, notes, used)
        if bands is not None:
            return composed(read_bands(file, name, limits), bands, window, name)
        image = identified(file, name, limits)
        if is_multiband(image):
            raise PictureError(
                f"{name}: has more bands than a picture shows; choose three with --bands, as in --bands 4,3,2"
            )
        return decoded(image, file, name, window)


def read_pillow(
    image: Image.Image, window: Window | None = None, bands: Bands | None = None, limits: Limits = SAFE
) -> Reading:
    """The picture of a Pillow image, turned upright as that of a file, with a note if the image was changed since."""
    name = getattr(image, "filename", "") or "<picture>"
    check_pixels(*image.size, str(name), limits)
    content = content_of_opened(image, str(name), limits)
    file = BytesIO(content) if content is not None else None  # Pillow closes its own once it has the pixels
    if bands is None:
        reading = decoded(image, file, str(name), window)
    else:
        reading = composed(samples(image, file, str(name)), bands, window, str(name))
    number = orientation(image)
    if number == 1 or isinstance(image, ImageFile):
        return reading
    text = f"{name}: turned upright by its EXIF orientation {number}; if it was upright, remove that from its EXIF"
    return replace(reading, notes=(*reading.notes, Note(NoteCode.TURNED, text)))


def content_of_opened(image: Image.Image, name: str, limits: Limits) -> bytes | None:
    """The bytes of the file that Pillow has opened for an image; None for one that is decoded, or came from no file.

    Raises PictureError for a file that cannot be read any more.
    """
    file = getattr(image, "fp", None) if isinstance(image, ImageFile) else None
    if file is None:
        return None
    try:
        position = file.tell()
        with opened(file, name, limits=limits) as copy:
            content = copy.read()
        file.seek(position)
    except UNREADABLE as error:
        raise PictureError(f"{name}: the open file cannot be read ({reason(error)})") from error
    return content


def size_of(source: FileSource, limits: Limits = SAFE) -> tuple[int, int]:
    """(height, width) of the upright picture, read from the header; raises as read_picture does.

    Damage among the pixels goes unnoticed: only a PNG that has metadata behind its pixels is decoded.
    """
    name = _file_name(source)
    with fitting(name), opened(source, name, limits=limits) as file:
        image = identified(file, name, limits)
        height, width = stored_size(image)
        return (width, height) if orientation_of_file(image, file, name) >= 5 else (height, width)


def header_of(source: FileSource) -> Header:
    """The sides and the orientation that a picture's header states, whatever its size; raises as read_picture does.

    Quicker than size_of, since nothing is checked against the limits: they apply once the picture is read.
    """
    name = _file_name(source)
    with fitting(name), opened(source, name) as file:
        image = header(file, name)
        return Header(*stored_size(image), orientation_of_file(image, file, name))


def find_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a folder, by suffix, sorted, without subfolders and hidden files; of a file, the file itself.

    Raises PictureError if there is no such path, or no picture in the folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise _no_file(path)
    name = name_of(path)
    path = Path(path)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path]
        with os.scandir(path) as entries:
            pictures = sorted(path / entry.name for entry in entries if _is_picture(entry))
    except (OSError, ValueError) as error:
        raise PictureError(f"{name}: {reason(error)}") from error
    if not pictures:
        raise PictureError(f"{name}: no pictures in this folder (a .jpg, .png, .webp, .gif, .tif, .bmp, ...)")
    return pictures


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix not in SUFFIXES or entry.name.startswith("."):
        return False
    try:
        return not entry.is_dir()
    except OSError:  # a link to itself: an error of this picture, not of the folder
        return True


def _file_name(source: object) -> str:
    if not is_file_source(source):
        raise _no_file(source)
    return name_of(source)


def _no_file(source: object) -> PictureError:
    return PictureError(
        f"a picture file is a path, or its content as bytes, not {type(source).__name__}; "
        f"Pillow's images, and arrays such as numpy.asarray gives, are pictures too"
    )
