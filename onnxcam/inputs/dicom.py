"""Reads DICOM files with pydicom (the extra `dicom`): one frame, as a viewer with the file's own window shows it.

The stored numbers become units such as Hounsfield's by the rescale slope and intercept or the modality's table. The
window is the caller's, else the file's (PS3.3 C.11.2.1.2), else from the least number to the greatest, with a note.
MONOCHROME1, where the greatest number is black, is turned round.
"""

import struct
import zlib
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile

from onnxcam.errors import PictureError
from onnxcam.inputs.deadlines import Timed
from onnxcam.inputs.depth import Bytes, Window, windowed
from onnxcam.inputs.intact import EARLY, ends_early, jpeg2000_lacks_tiles
from onnxcam.inputs.pixel_limit import check_pixels
from onnxcam.inputs.sources import reason
from onnxcam.limits import SAFE, Limits
from onnxcam.types import Note, NoteCode, Picture

_JPEG = "1.2.840.10008.1.2.4.50"
SUFFIXES = (".dcm", ".dicom")
_BROKEN = (
    *(ValueError, TypeError, LookupError, AttributeError, OSError, EOFError, RuntimeError, NotImplementedError),
    *(ArithmeticError, struct.error, zlib.error),
)
"""What pydicom and its decoders raise on damaged files, beside errors of their own."""


def is_dicom(file: BinaryIO, name: str) -> bool:
    """Whether the file has DICOM's mark behind its preamble, or is called .dcm; it is rewound."""
    file.seek(0)
    start = file.read(132)
    file.seek(0)
    return start[128:] == b"DICM" or name.lower().endswith(SUFFIXES)


def read(
    file: BinaryIO, name: str, window: Window | None, limits: Limits = SAFE
) -> tuple[Picture, tuple[Note, ...], Window | None]:
    """(height, width, 3) as a person sees it, notes, and the window (low, high) that was used, None for colours.

    Raises PictureError for a damaged file, for several frames, and where pydicom or a decoder is not installed.
    """
    try:
        import pydicom
        from pydicom.errors import BytesLengthException, InvalidDicomError
    except ImportError:
        raise PictureError(f'{name}: DICOM is read with pydicom: pip install "onnxcam[dicom]"') from None
    try:
        data = pydicom.dcmread(Timed(BytesIO(file.read()), name, limits), force=name.lower().endswith(SUFFIXES))
        if "PixelData" not in data:
            raise PictureError(f"{name}: a DICOM file without a picture, or damaged")
        frames = int(data.get("NumberOfFrames", 1) or 1)
        if frames > 1:
            raise PictureError(f"{name}: holds {frames} frames; save the one to explain, or all as an .npy array")
        check_pixels(int(data.Columns), int(data.Rows), name, limits)
        if _lacks_data(data):
            raise PictureError(f"{name}: damaged or cut short ({EARLY}); get the file again")
        pixels = data.pixel_array
        if int(data.get("SamplesPerPixel", 1)) > 1 or data.PhotometricInterpretation == "PALETTE COLOR":
            return _colours(data, pixels, window, name)
        return _grey(data, pixels, window, name)
    except InvalidDicomError as error:
        raise PictureError(f"{name}: no DICOM file, or damaged ({reason(error)})") from error
    except (*_BROKEN, BytesLengthException) as error:
        raise PictureError(
            f"{name}: the DICOM file cannot be decoded ({reason(error)}); get it uncompressed"
        ) from error


def _lacks_data(data: Any) -> bool:
    """Whether a packed frame lacks data, which its decoder would fill: of JPEG with 8 bits and JPEG 2000."""
    if not data.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    from pydicom.encaps import generate_frames

    frame = next(generate_frames(data.PixelData, number_of_frames=1), b"")
    if frame.startswith(b"\xff\x4f\xff\x51"):
        return jpeg2000_lacks_tiles(frame)
    if str(data.file_meta.TransferSyntaxUID) != _JPEG:
        return False
    try:
        image = JpegImageFile(BytesIO(frame), "")
    except SyntaxError:  # a kind of JPEG that other decoders may know
        return False
    image.load()
    return ends_early("JPEG", frame.rstrip(b"\0"), image)


def _colours(
    data: Any, pixels: npt.NDArray[Any], window: Window | None, name: str
) -> tuple[Picture, tuple[Note, ...], Window | None]:
    from pydicom.pixels.processing import apply_color_lut

    palette = data.PhotometricInterpretation == "PALETTE COLOR"
    pixels = apply_color_lut(pixels, data) if palette else pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise PictureError(f"{name}: pixels of shape {pixels.shape} are no colour picture")
    bits = pixels.dtype.itemsize * 8 if palette else int(data.get("BitsStored", 8))
    used = window if window is not None else (0.0, 2.0**bits - 1)
    return windowed(pixels, used), (), window


def _grey(
    data: Any, pixels: npt.NDArray[Any], window: Window | None, name: str
) -> tuple[Picture, tuple[Note, ...], Window | None]:
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(pixels, data), np.float64)
    if values.ndim != 2 or not values.size:
        raise PictureError(f"{name}: pixels of shape {values.shape} are no picture")
    notes: tuple[Note, ...] = ()
    if window is not None:
        grey = windowed(values, window)
    elif data.get("WindowCenter") is not None and data.get("WindowWidth") is not None:
        grey, notes, window = _by_window(data, values, name)
    elif "VOILUTSequence" in data:
        grey = _by_table(data, values)
    else:
        low, high = float(values.min()), float(values.max())
        window = (low, high if high > low else low + 1)
        grey = windowed(values, window)
        text = f"{name}: the file names no window, so {low:g} is black and {high:g} white; choose with --window"
        notes = (Note(NoteCode.WINDOW_ASSUMED, text),)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return np.stack([grey] * 3, axis=-1), notes, window


def _by_window(data: Any, values: npt.NDArray[np.float64], name: str) -> tuple[Bytes, tuple[Note, ...], Window | None]:
    """Through the file's first window, and a note if it has several."""
    centres, widths = (
        np.atleast_1d(np.asarray(data[tag].value, np.float64)) for tag in ("WindowCenter", "WindowWidth")
    )
    centre, width, function = float(centres[0]), float(widths[0]), str(data.get("VOILUTFunction") or "LINEAR")
    if not width > 0:
        raise PictureError(f"{name}: the file's window has the width {width:g}; choose one with --window LOW,HIGH")
    notes: tuple[Note, ...] = ()
    if len(centres) > 1:
        text = (
            f"{name}: the first of {len(centres)} windows of the file was taken, centre {centre:g}, width {width:g}; "
            f"choose with --window"
        )
        notes = (Note(NoteCode.WINDOW_ASSUMED, text),)
    if function == "SIGMOID":
        shares = 1 / (1 + np.exp(-4 * (values - centre) / width))
        return np.rint(255 * shares).astype(np.uint8), notes, None
    # PS3.3 C.11.2.1.2.1: the width counts the values, of which the one half below the centre is the middle.
    middle, half = (centre, width / 2) if function == "LINEAR_EXACT" else (centre - 0.5, (width - 1) / 2)
    window = (middle - half, middle + max(half, 1e-6))
    return windowed(values, window), notes, window


def _by_table(data: Any, values: npt.NDArray[Any]) -> Bytes:
    """Through the file's table of values of interest, whose entries have the bits that its descriptor says."""
    from pydicom.pixels.processing import apply_voi

    bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
    shown = apply_voi(np.rint(values).astype(np.int64), data)
    return windowed(shown, (0.0, 2.0**bits - 1))
