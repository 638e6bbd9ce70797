"""Maps that an evaluation keeps: one .npz file for each picture, model and explained target, written atomically.

numpy.load() gives the maps by the method's name. The array PLACEMENTS holds, as JSON, where each lies on its picture.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.errors import OutputError
from onnxcam.evaluation.row_keys import without_map
from onnxcam.evaluation.rows import RowKey
from onnxcam.files import ANY, read_bytes
from onnxcam.outputs.atomic import write_together
from onnxcam.outputs.paths import slug
from onnxcam.types import Map, Placement

PLACEMENTS = "placements"
"""The array that is no map. A method of this name would replace it."""
DIGITS = 16
"""Of the digest in a file's name: the keys of pictures may be equal but for signs that no file name has."""


@dataclass(frozen=True, eq=False)
class PictureMaps:
    """The maps of one picture. maps: (H,W) in [0,1] by the method's name; placements: of each, None where unknown."""

    maps: Mapping[str, Map]
    placements: Mapping[str, Placement | None]


def map_file_name(key: RowKey) -> str:
    """The name of the file with the maps of this picture, model and target; of the label too, where that is explained.

    A map of another tool is in a file of its own, as a changed one is another map.
    """
    parts = (key.model, key.opening, key.picture, key.picture_sha256, key.target, without_map(key).options)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGITS]
    return f"{slug(Path(key.picture).stem)[:80]}-{digest}.npz"


def write_maps(path: Path, new: PictureMaps) -> None:
    """Adds maps to the file; those of the same name are replaced, others stay. Raises OutputError."""
    old = read_maps(path) if path.exists() else PictureMaps({}, {})
    maps, placements = {**old.maps, **new.maps}, {**old.placements, **new.placements}
    described = json.dumps({name: _described(place) for name, place in placements.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez takes no array called 'file'
        for name, array in {**maps, PLACEMENTS: np.array(described)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    write_together({path: buffer.getvalue()})


def read_maps(path: Path) -> PictureMaps:
    """The maps of a file that write_maps() wrote. Raises OutputError for one that is damaged."""
    try:
        with np.load(io.BytesIO(read_bytes(path, ANY)), allow_pickle=False) as arrays:
            placements = json.loads(str(arrays[PLACEMENTS]))
            maps = {name: np.asarray(arrays[name], np.float32) for name in arrays.files if name != PLACEMENTS}
        return PictureMaps(maps, {name: _placement(value) for name, value in placements.items()})
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise OutputError(f"{path}: damaged maps ({error}); remove the file, and run the same again") from error


def joined(files: Sequence[PictureMaps]) -> PictureMaps | None:
    """The maps of several files of one picture; None where there are none."""
    if not files:
        return None
    maps = {name: values for each in files for name, values in each.maps.items()}
    return PictureMaps(maps, {name: place for each in files for name, place in each.placements.items()})


def _described(placement: Placement | None) -> Any:
    return None if placement is None else {"picture": placement.picture, "box": placement.box}


def _placement(value: Any) -> Placement | None:
    if value is None:
        return None
    height, width = value["picture"]
    left, top, right, bottom = value["box"]
    return Placement((height, width), (left, top, right, bottom))
