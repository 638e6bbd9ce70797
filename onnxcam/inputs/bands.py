"""Pictures with any number of bands, as satellites and multispectral cameras take them: TIFF files and arrays.

A model of as many channels takes the bands' own numbers. `composite` makes the picture that is looked at. TIFF files
are read with tifffile (the extra `tiff`), since Pillow and OpenCV have no more than four bands.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from onnxcam.errors import OptionError, PictureError
from onnxcam.inputs.deadlines import Timed
from onnxcam.inputs.decoding import DAMAGED, MOST_PAGES, Reading, identified, samples
from onnxcam.inputs.depth import Window, windowed
from onnxcam.inputs.pixel_limit import check_shape
from onnxcam.inputs.sources import TIFF, reason
from onnxcam.inputs.tiff import tiff_damage, tiff_pages
from onnxcam.limits import SAFE, Limits, brief, is_whole
from onnxcam.types import Note, NoteCode, Picture

Numbers = npt.NDArray[Any]
Bands = tuple[int, ...]

_SAMPLES, _PHOTOMETRIC, _GREY = 277, 262, (0, 1)
DARKEST, BRIGHTEST = 1, 99
"""Percentiles that become black and white where there is no window."""


def check_bands(bands: Sequence[int] | None) -> Bands | None:
    """The numbers of the bands; raises OptionError unless they are one or three, each from 1 on."""
    if bands is None:
        return None
    numbers = tuple(bands) if isinstance(bands, Sequence | np.ndarray) and not isinstance(bands, str) else ()
    whole = all(is_whole(n, 1) for n in numbers)
    if len(numbers) not in (1, 3) or not whole:
        raise OptionError(f"bands are three numbers from 1, those of red, green and blue, or one, not {brief(bands)}")
    return tuple(int(n) for n in numbers)


def is_tiff(file: BinaryIO) -> bool:
    """Whether the file begins as a TIFF; it is rewound."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in TIFF


def is_multiband(image: Image.Image) -> bool:
    """Whether a TIFF has more bands than Pillow reads of it. Those beside red, green and blue do not count."""
    if not isinstance(image, TiffImageFile):
        return False
    photometric = image.tag_v2.get(_PHOTOMETRIC, _GREY[0])
    return photometric in _GREY and int(image.tag_v2.get(_SAMPLES, 1)) != len(image.getbands())


def read_bands(file: BinaryIO, name: str, limits: Limits = SAFE) -> Numbers:
    """The bands of a TIFF (bands, height, width), samples of a pixel or pages; of other pictures Pillow's.

    Raises PictureError for a damaged file, for one of more axes, and where tifffile or a codec is not installed.
    """
    if not is_tiff(file):
        return samples(identified(file, name, limits), file, name)
    if tiff_pages(file, MOST_PAGES) > MOST_PAGES:
        raise PictureError(f"{name}: more than {MOST_PAGES} pages; save those to explain in a file of their own")
    if why := tiff_damage(file, MOST_PAGES):
        raise PictureError(f"{name}: damaged or cut short ({why}); get the file again")
    try:
        import tifffile
    except ImportError:
        raise PictureError(f'{name}: bands of a TIFF are read with tifffile: pip install "onnxcam[tiff]"') from None
    try:
        with tifffile.TiffFile(Timed(BytesIO(file.read()), name, limits)) as tiff:
            first = tiff.series[0]
            alike = [one for one in tiff.series if (one.shape, one.dtype) == (first.shape, first.dtype)]
            paged = len(first.shape) == 2 and len(alike) > 1  # a page of its own for each band
            check_shape((len(alike), *first.shape) if paged else first.shape, first.dtype.itemsize, name, limits)
            axes = f"I{first.axes}" if paged else str(first.axes)
            values = np.stack([one.asarray() for one in alike]) if paged else np.asarray(first.asarray())
    except (*DAMAGED, tifffile.TiffFileError) as error:  # a ValueError in newer versions only
        missing = "imagecodecs" in str(error)
        way = 'pip install "onnxcam[tiff]"' if missing else "get the file again"
        raise PictureError(f"{name}: the bands cannot be read ({reason(error)}); {way}") from error
    sides = [axes.find("Y"), axes.find("X")]
    rest = [axis for axis in range(values.ndim) if axis not in sides]
    if -1 in sides or len(rest) > 1 or not values.size or values.dtype.kind not in "fiu":
        raise PictureError(
            f"{name}: a picture with bands has three axes and numbers, not {axes} {values.shape} of {values.dtype}"
        )
    return np.ascontiguousarray(values.transpose(*rest, *sides).reshape(-1, *(values.shape[axis] for axis in sides)))


def composite(bands: Numbers, chosen: Bands | None, window: Window | None, name: str) -> Picture:
    """The chosen bands of (bands, height, width) as red, green and blue, or as grey; by default the first three.

    Bytes stay as they are. Of other numbers the 1st percentile becomes black and the 99th white, over all chosen bands
    alike, unless there is a window. Raises PictureError for a band that is not there.
    """
    count = len(bands)
    chosen = chosen if chosen is not None else ((1, 2, 3) if count >= 3 else (1,))
    if max(chosen) > count:
        raise PictureError(f"{name}: has {count} bands, so there is no band {max(chosen)}; choose others with --bands")
    picked = np.moveaxis(bands[[n - 1 for n in chosen]], 0, -1)
    if picked.dtype != np.uint8 or window is not None:
        picked = windowed(picked, window if window is not None else _spread(picked))
    return np.ascontiguousarray(np.broadcast_to(picked, (*picked.shape[:2], 3)))


def composed(bands: Numbers, chosen: Bands, window: Window | None, name: str) -> Reading:
    """The composite as the picture that a model of three channels sees, with a note where its brightness is assumed.

    Raises PictureError for a band that is not there, and for NaN and infinity.
    """
    if bands.dtype.kind == "f" and not np.isfinite(bands).all():
        raise PictureError(f"{name}: the bands hold NaN or infinity; replace them first")
    picture = composite(bands, chosen, window, name)
    if bands.dtype == np.uint8 or window is not None:
        return Reading(picture, (), window)
    low, high = _spread(bands[[n - 1 for n in chosen]])
    text = (
        f"{name}: of the chosen bands {low:g} becomes black and {high:g} white, the 1st and the 99th percentile, "
        f"as nothing says otherwise; choose with --window LOW,HIGH"
    )
    return Reading(picture, (Note(NoteCode.WINDOW_ASSUMED, text),))


def _spread(values: Numbers) -> Window:
    """The percentiles that become black and white, NaN left out."""
    low, high = (float(v) for v in np.nanpercentile(values, (DARKEST, BRIGHTEST)))
    return low, high if high > low else low + 1


def bands_first(array: Numbers, count: int | None = None) -> Numbers:
    """(bands, height, width) of an array whose first axis, or whose last, holds the bands.

    count: how many there are; if None, the shorter of the two axes holds them.
    """
    last = array.shape[-1] < array.shape[0] if count is None else len(array) != count
    return np.moveaxis(array, -1, 0) if last else array
