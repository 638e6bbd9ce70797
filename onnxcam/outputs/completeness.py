"""Which files of a picture are there already, of the same picture, model, method and options, and which of others.

Every format but .npy says what it was made of: Provenance.inputs_sha256. An .npy holds numbers alone, but its
companions hold the SHA-256 of the map. A file counts as whole where its last part is there and its content can be read.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.files import ANY, open_regular, parse_json, read_bytes, read_text
from onnxcam.inputs.arrays import read_array
from onnxcam.inputs.bands import is_tiff
from onnxcam.inputs.sources import UNREADABLE
from onnxcam.inputs.tiff import tiff_is_whole
from onnxcam.outputs.drawing import DRAWINGS
from onnxcam.outputs.formats import DESCRIPTION, INPUTS_KEY, INPUTS_TEXT, MAP_TEXT, MODEL_TEXT, PRESET_TEXT, RECORD
from onnxcam.outputs.record import map_sha256, preset_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 2**30
"""Of a record, with the raw map of a volume in it."""
SIGNED_BYTES = 200
"""At the end of a file where _of_signed() looks."""
MOST_PAGES = 2**16
"""Of a TIFF: a page is a slice of a volume."""


@dataclass(frozen=True)
class MadeOf:
    """What a file says of itself; None where it does not say. preset_sha256: as record.preset_sha256() gives it."""

    inputs_sha256: str | None
    map_sha256: str | None
    model_sha256: str | None = None
    preset_sha256: str | None = None


def made_of(files: Iterable[Mapping[str, Path]]) -> list[MadeOf]:
    """What those of the files that are there say of themselves. files: of each target, by format."""
    there = [(name, path) for one in files for name, path in one.items() if os.path.lexists(path)]
    return [MadeOf(None, None) if (one := _READERS[name](path)) is None else one for name, path in there]


def check_tells(formats: Iterable[str], option: str) -> None:
    """Raises OptionError where no file of these formats says what it was made of. option: that needs it."""
    if not set(formats) - {"npy"}:
        raise OptionError(
            f"{option}: an .npy does not say what it was made of, so a changed option would go unnoticed; "
            "write a record beside it: --format npy,json"
        )


def is_written_map(path: Path) -> bool:
    """Whether a picture is an overlay, a drawing or a figure that onnxcam wrote, by the texts in its header.

    No pixel is read.
    """
    from PIL import Image

    try:
        with open_regular(path, ANY) as file:
            if _is_cut_tiff(file):
                return False
            with Image.open(file, formats=["PNG", "JPEG", "WEBP", "TIFF"]) as image:
                texts = {*image.info, *_description(image)}
                return not texts.isdisjoint({MAP_TEXT, INPUTS_TEXT})
    except (OnnxCamError, SyntaxError, Image.DecompressionBombError, *UNREADABLE):
        return False


def is_complete(files: Iterable[Mapping[str, Path]], inputs_sha256: str) -> bool:
    """Whether all files of a picture are there, whole, and made of these inputs. files: of each target, by format."""
    return all(_is_complete(one, inputs_sha256) for one in files)


def _is_complete(files: Mapping[str, Path], inputs_sha256: str) -> bool:
    made = {name: _READERS[name](path) for name, path in files.items()}
    digests = {one.map_sha256 if one is not None else None for one in made.values()}
    says = {one.inputs_sha256 for name, one in made.items() if one is not None and name != "npy"}
    return None not in made.values() and says == {inputs_sha256} and len(digests) == 1


def of_another_call(files: Iterable[Mapping[str, Path]], inputs_sha256: Collection[str]) -> Path | None:
    """The first file that is there and was not made of these inputs, or does not say so; None if there is none.

    files: of each target, by format. An .npy counts where a file beside it that was made of these inputs holds the
    SHA-256 of its map. inputs_sha256: any of them; empty where the inputs are not known, so that no file is of them.
    """
    return next(filter(None, (_of_another_call(one, inputs_sha256) for one in files)), None)


def _of_another_call(files: Mapping[str, Path], inputs_sha256: Collection[str]) -> Path | None:
    there = {name: path for name, path in files.items() if os.path.lexists(path)}
    made = {name: _READERS[name](path) for name, path in there.items()}
    maps = set()
    for name in sorted(there, key="npy".__eq__):  # the .npy last
        one = made[name]
        if one is None or (one.map_sha256 not in maps if name == "npy" else one.inputs_sha256 not in inputs_sha256):
            return there[name]
        maps.add(one.map_sha256)
    return None


def _of_png(path: Path) -> MadeOf | None:
    from PIL import PngImagePlugin

    try:
        with open_regular(path, ANY) as file, PngImagePlugin.PngImageFile(file) as image:
            texts = dict(image.info)  # the text chunks before the pixels
            image.verify()
    except (OnnxCamError, SyntaxError, *UNREADABLE):  # Pillow calls a damaged PNG a SyntaxError
        return None
    return _of_texts(texts)


def _of_texts(texts: Mapping[Any, Any]) -> MadeOf:
    return MadeOf(*map(texts.get, (INPUTS_TEXT, MAP_TEXT, MODEL_TEXT, PRESET_TEXT)))


def _of_described(path: Path) -> MadeOf | None:
    """A JPEG, a WebP or a TIFF, whose description holds the texts."""
    from PIL import Image

    try:
        with open_regular(path, ANY) as file:
            if _is_cut_tiff(file):
                return None
            with Image.open(file, formats=["JPEG", "WEBP", "TIFF"]) as image:
                texts = _description(image)
                image.load()
    except (OnnxCamError, SyntaxError, *UNREADABLE):
        return None
    return _of_texts(texts)


def _is_cut_tiff(file: BinaryIO) -> bool:
    """Whether a file is a TIFF of which a part is not there. Pillow warns of it, or does not look at later pages."""
    return is_tiff(file) and not tiff_is_whole(file, MOST_PAGES)


def _description(image: "Image") -> Mapping[str, Any]:
    """The texts in the description of an open JPEG, WebP or TIFF; none where it holds others."""
    from PIL.TiffImagePlugin import TiffImageFile

    tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImageFile) else image.getexif()
    text = tags.get(DESCRIPTION)
    texts = parse_json(text) if isinstance(text, str) and text.startswith("{") else None
    return texts if isinstance(texts, dict) else {}


def _of_figure(path: Path) -> MadeOf | None:
    """A PDF or an SVG, among whose keywords the texts are."""
    try:
        content = read_bytes(path, ANY, most=MOST_BYTES)
    except OnnxCamError:
        return None
    if not content.rstrip().endswith((b"%%EOF", b"</svg>")):
        return None
    said = re.findall(rb"(onnxcam:\w+_sha256)=([0-9a-f]{64})", content)
    return _of_texts({key.decode(): value.decode() for key, value in reversed(said)})  # the first of each counts


def _of_npz(path: Path) -> MadeOf | None:
    try:
        with open_regular(path, ANY) as file, np.load(file, allow_pickle=False) as arrays:
            record, values = json.loads(str(arrays[RECORD])), arrays["map"]
    except (OnnxCamError, KeyError, *UNREADABLE):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("map"), dict) or values.dtype.kind != "f":
        return None
    made = record["map"].get("sha256")
    return _of_record(record) if made == map_sha256(values) else None


def _of_json(path: Path) -> MadeOf | None:
    try:
        record = parse_json(read_text(path, ANY, most=MOST_BYTES))
    except (OnnxCamError, ValueError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("map"), dict):
        return None
    return _of_record(record)


def _of_record(record: Mapping[str, Any]) -> MadeOf:
    """What the record of a map says."""
    model, preset = record.get("model"), record.get("preset")
    origin = preset.get("origin") if isinstance(preset, dict) else None
    return MadeOf(
        record.get(INPUTS_KEY),
        record["map"].get("sha256"),
        model.get("sha256") if isinstance(model, dict) else None,
        preset_sha256(preset, str(origin.get("source"))) if preset and isinstance(origin, dict) else None,
    )


def _of_report(path: Path) -> MadeOf | None:
    """The record of a command that makes no map for itself."""
    try:
        record = parse_json(read_text(path, ANY, most=MOST_BYTES))
    except (OnnxCamError, ValueError):
        return None
    return MadeOf(record.get(INPUTS_KEY), None) if isinstance(record, dict) else None


def _of_signed(path: Path) -> MadeOf | None:
    """A file of any size, at whose end the digest stands behind its name: a model, or a text with comments."""
    try:
        with open_regular(path, ANY) as file:
            file.seek(-min(SIGNED_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            said = re.search(rb"%b\W{1,3}([0-9a-f]{64})\n?\Z" % INPUTS_TEXT.encode(), file.read())
    except (OnnxCamError, OSError):
        return None
    return MadeOf(said[1].decode() if said else None, None)


def _of_npy(path: Path) -> MadeOf | None:
    try:
        return MadeOf(None, map_sha256(read_array(path)))
    except OnnxCamError:
        return None


_READERS: Mapping[str, Callable[[Path], MadeOf | None]] = {
    "png": _of_png,
    "jpg": _of_described,
    "webp": _of_described,
    "pdf": _of_figure,
    "svg": _of_figure,
    **dict.fromkeys(DRAWINGS, _of_png),
    "tiff": _of_described,
    "npy": _of_npy,
    "npz": _of_npz,
    "json": _of_json,
    "report": _of_report,
    "onnx": _of_signed,
    "pbtxt": _of_signed,
}
"""How a file of each format of FORMATS is read, and of those of other commands. None: it is not there, or damaged."""
