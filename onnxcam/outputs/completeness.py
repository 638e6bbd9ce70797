"""Whether the files of a picture are there already, from the same picture, model, method and options.

A PNG and a JSON record say what they were made of: Provenance.inputs_sha256. An .npy holds numbers alone, but its
companions hold the SHA-256 of the map.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.files import ANY, open_regular, parse_json, read_text
from onnxcam.inputs.arrays import read_array
from onnxcam.inputs.sources import UNREADABLE
from onnxcam.outputs.formats import INPUTS_TEXT, MAP_TEXT
from onnxcam.outputs.record import map_sha256

MOST_BYTES = 2**30
"""Of a record, with the raw map of a volume in it."""


@dataclass(frozen=True)
class MadeOf:
    """What a file says of itself. inputs_sha256: None where it does not say."""

    inputs_sha256: str | None
    map_sha256: str | None


def check_tells(formats: Iterable[str]) -> None:
    """Raises OptionError where no file of these formats says what it was made of."""
    if not set(formats) - {"npy"}:
        raise OptionError(
            "--resume: an .npy does not say what it was made of, so a changed option would go unnoticed; "
            "write a record beside it: --format npy,json"
        )


def is_complete(files: Iterable[Mapping[str, Path]], inputs_sha256: str) -> bool:
    """Whether all files of a picture are there, whole, and made of these inputs. files: of each target, by format."""
    return all(_is_complete(one, inputs_sha256) for one in files)


def _is_complete(files: Mapping[str, Path], inputs_sha256: str) -> bool:
    made = {name: _READERS[name](path) for name, path in files.items()}
    digests = {one.map_sha256 if one is not None else None for one in made.values()}
    says = {one.inputs_sha256 for name, one in made.items() if one is not None and name != "npy"}
    return None not in made.values() and says == {inputs_sha256} and len(digests) == 1


def _of_png(path: Path) -> MadeOf | None:
    from PIL import PngImagePlugin

    try:
        with open_regular(path, ANY) as file, PngImagePlugin.PngImageFile(file) as image:
            texts = dict(image.info)  # the text chunks before the pixels
            image.verify()
    except (OnnxCamError, SyntaxError, *UNREADABLE):  # Pillow calls a damaged PNG a SyntaxError
        return None
    return MadeOf(texts.get(INPUTS_TEXT), texts.get(MAP_TEXT))


def _of_json(path: Path) -> MadeOf | None:
    try:
        record = parse_json(read_text(path, ANY, most=MOST_BYTES))
    except (OnnxCamError, ValueError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("map"), dict):
        return None
    return MadeOf(record.get("inputs_sha256"), record["map"].get("sha256"))


def _of_npy(path: Path) -> MadeOf | None:
    try:
        return MadeOf(None, map_sha256(read_array(path)))
    except OnnxCamError:
        return None


_READERS: Mapping[str, Callable[[Path], MadeOf | None]] = {"png": _of_png, "json": _of_json, "npy": _of_npy}
"""How a file of each format of FORMATS is read. None: it is not there, or damaged."""
