"""Maps of other tools: a folder with one file a picture, read and laid on the model's input.

For the picture with the key 'cats/a.jpg' the folder holds cats/a.npy, cats/a.npz or cats/a.png; or cats/a.jpg.npy and
so on, which comes first, for pictures that differ in their ending only. The key /data/a.jpg, of a manifest with
absolute paths, has its map in data/a.npy. An .npz archive holds the map alone or under the name 'map'. A PNG is grey,
of 8 or 16 bits, and its white is 1.

A map of the model's input's sides is measured as it is. One of the picture's height and width lies on the upright
picture: the part that the model sees is cut out and resized to the input; what lies beyond the picture, as the bars of
a letterbox, is 0. One with fewer cells than the input along each side is a coarse map of the input, and is enlarged
linearly. Numbers stay what they are.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from onnxcam.errors import PictureError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.options import MapSource
from onnxcam.files import ARRAY, PICTURE, open_regular, read_bytes
from onnxcam.inputs.decoding import identified, load
from onnxcam.inputs.npy import read_npy
from onnxcam.limits import SAFE, Limits
from onnxcam.metrics.arguments import finite_map
from onnxcam.resampling import upsample
from onnxcam.types import Floats, Map, Placement

NAME = "map"
"""Of the array in an archive of several."""
GREY = {"1": 1, "L": 255, "I": 65535, "I;16": 65535, "I;16L": 65535, "I;16B": 65535}
"""White of the modes of a grey PNG, by Pillow's name."""


def map_file(folder: Path, key: str) -> Path:
    """The file of a picture's map. key: the DataItem's. Raises PictureError where there is none, or more than one."""
    if not folder.is_dir():
        raise PictureError(f"{folder}: no such folder of maps")
    inside = Path(key).relative_to(Path(key).anchor)
    if ".." in inside.parts or not inside.name:
        raise PictureError(f"the picture's key {key!r} leads out of a folder of maps; name pictures without '..'")
    whole = folder / inside
    for stem in (whole, whole.with_suffix("")):
        files = [file for suffix in READERS if (file := stem.with_name(stem.name + suffix)).is_file()]
        if len(files) > 1:
            raise PictureError(f"{folder}: {' and '.join(f.name for f in files)} are both the map of {key}; keep one")
        if files:
            return files[0]
    names = ", ".join(whole.with_suffix("").name + suffix for suffix in READERS)
    raise PictureError(f"{folder}: no map of {key} ({names})")


def check_maps(sources: Iterable[MapSource], items: Sequence[DataItem]) -> None:
    """Raises PictureError for a folder of maps that is not there, or that has a map of no picture, before any work."""
    for folder in (source.folder for source in sources if source.folder is not None):
        error = None
        for item in items:
            try:
                map_file(folder, item.key)
            except PictureError as this:
                error = error or this
            else:
                error = None
                break
        if error is not None:
            raise PictureError(f"{error}; a map is called as its picture's key, and no picture here has one")


def read_map(path: Path, size: tuple[int, ...], placement: Placement | None, limits: Limits = SAFE) -> Map:
    """The map of a file on the model's input, float32 of `size`. placement: of the input on the picture.

    Raises PictureError for a file that cannot be read or does not fit, OptionError for NaN and infinity.
    """
    array = READERS[path.suffix.lower()](path, limits)
    values = np.asarray(finite_map(array.squeeze() if array.ndim > len(size) else array), np.float32)
    return on_input(values, size, placement, str(path))


def on_input(values: Floats, size: tuple[int, ...], placement: Placement | None, name: str) -> Map:
    """The map on the model's input, by its shape; see the head of this file. Raises PictureError where none fits."""
    if values.shape == size:
        return values
    if placement is not None and values.shape == placement.picture:
        return _cut_out(values, (size[0], size[1]), placement.box)
    if values.ndim == len(size) and all(a <= b for a, b in zip(values.shape, size, strict=True)):
        return upsample(values, size)
    sides = "x".join(map(str, size))
    picture = f", the picture's {'x'.join(map(str, placement.picture))}" if placement is not None else ""
    raise PictureError(
        f"{name}: a map of the shape {values.shape} is neither of the model's input {sides}{picture}, nor coarser than "
        f"the input; give height and width of one of these"
    )


def _cut_out(values: Floats, size: tuple[int, int], box: tuple[float, float, float, float]) -> Map:
    """The part (left, top, right, bottom) of a map on the picture, resized linearly, and smoothed where it shrinks."""
    height, width = values.shape
    left, top, right, bottom = box
    before = (max(0, math.ceil(-top)), max(0, math.ceil(-left)))
    after = (max(0, math.ceil(bottom - height)), max(0, math.ceil(right - width)))
    padded = np.pad(values, ((before[0], after[0]), (before[1], after[1])))
    part = (left + before[1], top + before[0], right + before[1], bottom + before[0])
    image = Image.fromarray(padded).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=part)
    return np.array(image, np.float32)


def _npy(path: Path, limits: Limits) -> npt.NDArray[Any]:
    with open_regular(path, ARRAY) as file:
        return read_npy(file, str(path), limits)


def _npz(path: Path, limits: Limits) -> npt.NDArray[Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(read_bytes(path, ARRAY))) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            name = f"{NAME}.npy" if f"{NAME}.npy" in names else names[0] if len(names) == 1 else None
            if name is None:
                listed = ", ".join(each.removesuffix(".npy") for each in names) or "none"
                raise PictureError(f"{path}: which array is the map is not clear ({listed}); save it as {NAME!r}")
            if limits.memory is not None and archive.getinfo(name).file_size > limits.memory:
                raise PictureError(f"{path}: {NAME} is too large; {limits.way_out('memory')}")
            return read_npy(io.BytesIO(archive.read(name)), str(path), limits)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise PictureError(f"{path}: no .npz archive that can be read ({error}); save the map again") from None


def _png(path: Path, limits: Limits) -> npt.NDArray[Any]:
    with open_regular(path, PICTURE) as file:
        return _grey(file, str(path), limits)


def _grey(file: BinaryIO, name: str, limits: Limits) -> Floats:
    image = identified(file, name, limits)
    if image.format != "PNG" or image.mode not in GREY:
        raise PictureError(
            f"{name}: a map is a grey PNG of 8 or 16 bits, and this is {image.format} of the mode {image.mode}; a map "
            f"in colours or over its picture cannot be measured"
        )
    load(image, file, name)
    return np.asarray(np.asarray(image, np.float32) / GREY[image.mode], np.float32)


READERS = {".npy": _npy, ".npz": _npz, ".png": _png}
"""Ending of a map's file -> its reader."""
