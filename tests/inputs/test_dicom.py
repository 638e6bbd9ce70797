"""DICOM files are shown as a viewer shows them: rescaled, through a window, MONOCHROME1 turned round."""

import io
import sys
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from onnxcam import NoteCode, read_picture
from onnxcam.errors import PictureError
from onnxcam.inputs.images import read

STORED = np.random.default_rng(0).integers(0, 4096, (12, 9)).astype(np.uint16)
HOUNSFIELD = STORED * 2.0 - 1024


def dicom(
    pixels: np.ndarray = STORED,
    photometric: str = "MONOCHROME2",
    *,
    packed: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    data.Rows, data.Columns = pixels.shape[-2:] if photometric.startswith("MONO") else pixels.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3 if pixels.shape[-1] == 3 else 1), photometric
    data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for name, value in tags.items():
        setattr(data, name, value)
    if packed:
        data.compress(RLELossless)
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def grey(low: float, high: float, values: np.ndarray = HOUNSFIELD) -> np.ndarray:
    return np.rint(255 * np.clip((values - low) / (high - low), 0, 1))


RESCALE = {"RescaleSlope": 2, "RescaleIntercept": -1024}


@pytest.mark.parametrize("packed", [False, True])
def test_the_files_window_counts_for_rescaled_numbers(packed: bool) -> None:
    content = dicom(packed=packed, WindowCenter=40, WindowWidth=400, **RESCALE)
    reading = read(content)
    # PS3.3 C.11.2.1.2.1: black up to 40 - 0.5 - 399 / 2, white above 40 - 0.5 + 399 / 2.
    np.testing.assert_array_equal(reading.picture[..., 0], grey(-160, 239))
    assert reading.window == (-160, 239)
    assert reading.notes == ()


def test_the_callers_window_goes_before_the_files() -> None:
    content = dicom(WindowCenter=40, WindowWidth=400, **RESCALE)
    np.testing.assert_array_equal(read_picture(content, window=(-1000, 500))[..., 2], grey(-1000, 500))


@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
def test_a_window_without_a_width_is_refused(function: str) -> None:
    with pytest.raises(PictureError, match="has the width 0; choose one with --window"):
        read_picture(dicom(WindowCenter=40, WindowWidth=0, VOILUTFunction=function))


def test_the_greatest_number_of_monochrome1_is_black() -> None:
    tags = {"WindowCenter": 1000, "WindowWidth": 2000}
    bright, dark = read_picture(dicom(**tags)), read_picture(dicom(photometric="MONOCHROME1", **tags))
    np.testing.assert_array_equal(dark, 255 - bright)


def test_other_functions_of_the_window() -> None:
    tags = {"WindowCenter": 1000, "WindowWidth": 2000}
    exact = read_picture(dicom(VOILUTFunction="LINEAR_EXACT", **tags))
    np.testing.assert_array_equal(exact[..., 0], grey(0, 2000, STORED))
    sigmoid = read_picture(dicom(VOILUTFunction="SIGMOID", **tags))
    np.testing.assert_allclose(sigmoid[..., 0], 255 / (1 + np.exp(-4 * (STORED - 1000.0) / 2000)), atol=0.51)


def test_a_window_that_is_assumed_is_noted() -> None:
    without = read(dicom(**RESCALE))
    np.testing.assert_array_equal(without.picture[..., 0], grey(HOUNSFIELD.min(), HOUNSFIELD.max()))
    several = read(dicom(WindowCenter=[40, -600], WindowWidth=[400, 1500], **RESCALE))
    np.testing.assert_array_equal(several.picture[..., 0], grey(-160, 239))
    for reading, words in ((without, "names no window"), (several, "first of 2 windows")):
        (note,) = reading.notes
        assert note.code is NoteCode.WINDOW_ASSUMED
        assert words in note.text


def test_negative_stored_numbers_and_colours() -> None:
    signed = (STORED.astype(np.int32) - 2000).astype(np.int16)
    picture = read_picture(dicom(signed), window=(-2000, 2000))
    np.testing.assert_array_equal(picture[..., 0], grey(-2000, 2000, signed))
    rgb = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(dicom(rgb, "RGB")), rgb)


def test_what_cannot_be_shown_is_refused() -> None:
    content = dicom(**RESCALE)
    frames = dicom(np.stack([STORED] * 3), NumberOfFrames=3)
    for wrong, message in (
        (content[:200], "DICOM"),
        (content[:-50], "DICOM"),
        (frames, "3 frames; save the one"),
        (bytes(128) + b"DICM" + b"junk", "DICOM"),
    ):
        with pytest.raises(PictureError, match=message) as error:
            read_picture(wrong)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.filterwarnings("ignore")
def test_damage_is_an_error_of_the_picture(syntax: str) -> None:
    content, rng = dicom(syntax=syntax, WindowCenter=40, WindowWidth=400, **RESCALE), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(0, len(damaged), 4)] = rng.integers(0, 256, 4)
        cut = rng.integers(132, len(content) + 1) if rng.random() < 0.5 else len(content)
        try:
            read(damaged[:cut].tobytes())
        except PictureError:
            refused += 1
    assert refused > 30


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PictureError, match=r'pip install "onnxcam\[dicom\]"'):
        read_picture(dicom())


def packed(syntax: str, frame: bytes) -> bytes:
    """A grey DICOM file of 64 x 64 with this packed frame."""
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.Rows = data.Columns = 64
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = pydicom.encaps.encapsulate([frame])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def test_a_packed_frame_that_lost_data_is_an_error() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    jpeg, tiles = io.BytesIO(), io.BytesIO()
    image.save(jpeg, "JPEG")
    image.save(tiles, "JPEG2000", tile_size=(32, 32), no_jp2=True)
    one, many = jpeg.getvalue(), tiles.getvalue()
    first = many.index(b"\xff\x90\0\x0a")
    second = many.index(b"\xff\x90\0\x0a", first + 1)
    for syntax, whole, cut in (
        ("1.2.840.10008.1.2.4.50", one, one[: len(one) // 2] + b"\xff\xd9"),
        ("1.2.840.10008.1.2.4.91", many, many[:first] + many[second:]),
    ):
        assert read_picture(packed(syntax, whole)).shape == (64, 64, 3)
        with pytest.raises(PictureError, match="damaged or cut short"):
            read_picture(packed(syntax, cut))
