"""Damaged pictures in every format. What onnxcam reads must be what Pillow, pydicom or tifffile read of the same file.

They are called here without onnxcam and as strictly as they are; where they refuse a file, so must onnxcam. Of a JPEG
libjpeg only warns of damage: OpenCV prints that warning. Where data are missing the file must not be read either; other
damage of coded data, which decodes to as many pixels, nothing but that warning tells, so it is counted only.
"""

import os
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

from fuzzing.containers import join_jpeg, operate, split_jpeg
from fuzzing.kept import Bounds
from fuzzing.picture_seeds import pictures
from fuzzing.raw import RAW
from fuzzing.subject import Case, Files, Rng, Subject, subject
from fuzzing.verdict import ANSWER, Verdict, Wrong

FILE = "picture"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
LARGEST_COMPARED = 2**24
"""Pixels. Of larger pictures only the size is compared."""
MISSING = re.compile(r"premature end", re.I)
"""What libjpeg says of missing data."""


def seeds() -> dict[str, Files]:
    return {name: {FILE: data} for name, data in pictures().items()}


def make(rng: Rng, models: dict[str, Files]) -> Case:
    origin = rng.choice(sorted(models))
    data = models[origin][FILE]
    changes: list[str] = []
    if rng.random() < 0.02:
        return Case(origin, {FILE: data}, must_answer=not origin.startswith("bands"))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        other = models[rng.choice(sorted(models))][FILE]
        operated = operate(rng, data, other) if rng.random() < 0.55 else None
        if operated is not None:
            data, change = operated
        elif origin.startswith("pnm") and rng.random() < 0.3:
            data, change = with_number(rng, data)
        else:
            which = rng.choice(sorted(set(RAW) - {"nest_deeply", "nest_types"}))
            data, change = RAW[which](rng, data)
        changes.append(change)
        if not data:
            break
    return Case(origin, {FILE: data}, tuple(changes))


def with_number(rng: Rng, data: bytes) -> tuple[bytes, str]:
    """Another number in the text of a PNM's header."""
    places = list(re.finditer(rb"-?\d+", data[:30])) or [re.compile(b"").match(data)]
    place = rng.choice(places)
    assert place is not None
    number = str(rng.choice((0, 1, -1, 2, 5, 21, 25, 255, 65535, 65536, 10**6, 2**31, 2**63, 10**30))).encode()
    return data[: place.start()] + number + data[place.end() :], f"has the number {number!r} at {place.start()}"


def check(files: Files, folder: Path) -> Verdict:
    from onnxcam import read_picture
    from onnxcam.inputs.images import size_of
    from onnxcam.limits import Limits

    data = files[FILE]
    limits = Limits() if len(data) % 4 == 0 else Limits(pixels=2**24)
    if data[128:132] == b"DICM":
        return check_dicom(data, read_picture(data, limits=limits))
    if data[:2] in (b"II", b"MM") and len(data) % 2:  # some of them by their bands too
        return check_bands(data, read_picture(data, bands=(1, 2, 3), limits=limits))
    pixels = read_picture(data, limits=limits)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise Wrong(f"a picture of {pixels.dtype} {pixels.shape}")
    if size_of(data, limits) != pixels.shape[:2]:
        raise Wrong("size_of gives another size", size_of(data, limits), pixels.shape)
    compare_frames(data, limits)
    return Verdict("answer", "", compare(data, pixels))


def compare(data: bytes, pixels: Any) -> str:
    """What libjpeg says of the file. Raises Wrong if the pixels are not those of Pillow, or if data are missing."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
            if pixels.size > 3 * LARGEST_COMPARED:
                return ""
            reference = by_pillow(image)
    except Exception as error:  # noqa: BLE001 - whatever it is, Pillow does not read the file
        raise Wrong("reads a picture that Pillow refuses", type(error).__name__, error) from None
    if reference is not None and not np.array_equal(reference, pixels):
        shapes = f"{reference.shape} {pixels.shape}"
        raise Wrong(f"other pixels than Pillow's ({image.format} {image.mode})", shapes)
    said = warnings_of_libjpeg(data) if data[:2] == b"\xff\xd8" else ""
    if MISSING.search(said) and any(differs_with_more_data(data, seed) for seed in range(3)):
        raise Wrong(f"reads a damaged JPEG: {said}")
    return f"libjpeg warns: {said}" if said else ""


def compare_frames(data: bytes, limits: Any) -> None:
    """Raises Wrong if the first frames of an animation are not those of Pillow, or are read where Pillow fails."""
    from onnxcam.errors import OnnxCamError
    from onnxcam.inputs.clips import frames_of

    if data[:4] not in (b"GIF8", b"RIFF", b"\x89PNG"):
        return
    try:
        frames = frames_of(data, lambda each: each, 8, limits)
        assert frames is not None
        pictures = [frames.read(place) for place in range(min(frames.count, 4))]
    except OnnxCamError:  # the first frame alone may be whole
        return
    for place, pixels in enumerate(pictures):
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                image.seek(place)
                reference = by_pillow(image.copy())
        except Exception as error:  # noqa: BLE001 - whatever it is, Pillow does not read the frame
            raise Wrong("reads a frame that Pillow refuses", type(error).__name__, error) from None
        if reference is not None and not np.array_equal(reference, pixels):
            raise Wrong(f"another frame than Pillow's ({image.format} {image.mode})", place)


def by_pillow(image: Image.Image) -> Any:
    """(height, width, 3) bytes of a loaded image, upright, over white. None of 16 bits with transparency."""
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - an orientation that cannot be read is none
        upright = image
    if image.mode.startswith("I"):
        values = np.asarray(upright)
        if "transparency" in image.info or values.min() < 0 or values.max() > 65535:
            return None
        grey = np.rint(values / 257).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if image.mode == "F":
        return np.stack([np.rint(np.asarray(upright) * 255).astype(np.uint8)] * 3, axis=-1)
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("RGB"))
    layer = upright.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"))


def differs_with_more_data(data: bytes, seed: int) -> bool:
    """Whether noise at the end of every run of coded data changes the picture: if not, what is missing is not seen."""
    noise, filled, behind_data = np.random.default_rng(seed).integers(1, 255, 200, np.uint8).tobytes(), b"", False
    for kind, body in split_jpeg(data):
        is_marker = bool(kind) or (body[:1] == b"\xff" and body[1:2] != b"\0")
        filled += noise if is_marker and behind_data else b""
        filled += join_jpeg([(kind, body)])[2:]
        behind_data = not is_marker
    pictures = []
    for one in (data, b"\xff\xd8" + bytes(filled)):
        with Image.open(BytesIO(one), formats=("JPEG",)) as image:
            pictures.append(np.asarray(image))
    return not np.array_equal(*pictures)


def warnings_of_libjpeg(data: bytes) -> str:
    """What OpenCV's libjpeg prints, with # for numbers. It goes to the file that is this process's standard error."""
    sys.stderr.flush()
    begin = os.fstat(2).st_size
    cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    sys.stderr.flush()
    said = os.pread(2, 2000, begin).decode(errors="replace").strip()
    return re.sub(r"0x\w+|\d+", "#", said.partition("\n")[0])


def check_dicom(data: bytes, pixels: Any) -> Verdict:
    """Compares grey pictures with PS3.3's formula of a window, to one level."""
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut

    read = pydicom.dcmread(BytesIO(data))
    stored = read.pixel_array
    if pixels.shape[:2] != stored.shape[:2]:
        raise Wrong("a DICOM picture of another size", pixels.shape, stored.shape)
    if stored.ndim != 2 or read.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        return ANSWER
    values = np.asarray(apply_modality_lut(stored, read), np.float64)
    if "WindowCenter" in read and "WindowWidth" in read:
        centre, width = (float(np.atleast_1d(read[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth"))
        if "VOILUTFunction" in read or not width > 1:
            return ANSWER
        expected = ((values - (centre - 0.5)) / (width - 1) + 0.5) * 255
    elif "VOILUTSequence" in read or values.min() == values.max():
        return ANSWER
    else:
        expected = (values - values.min()) / (values.max() - values.min()) * 255
    expected = expected.clip(0, 255)
    expected = 255 - expected if read.PhotometricInterpretation == "MONOCHROME1" else expected
    if np.abs(expected - pixels[..., 0]).max() > 1.01:
        raise Wrong("other grey values than the window gives", np.abs(expected - pixels[..., 0]).max())
    return ANSWER


def check_bands(data: bytes, pixels: Any) -> Verdict:
    """Compares bands of bytes with tifffile's array."""
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        array = file.series[0].asarray()
        axes = file.series[0].axes
    if array.dtype != np.uint8 or array.ndim != 3 or axes[-2:] == "YX":
        return ANSWER
    if axes[:2] == "YX" and array.shape[2] >= 3 and not np.array_equal(array[..., :3], pixels):
        raise Wrong("other bands than tifffile's", array.shape, pixels.shape)
    return ANSWER


subject(Subject("pictures", seeds, make, check, Bounds(seconds=40, peak=2 * 2**30)))
