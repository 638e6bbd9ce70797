"""The files of an explanation: `FORMATS` names each format and its writer. drawing.py makes the pictures.

To add a format, write a function (saliency, picture, style, metrics) -> bytes and a line in FORMATS, and how its file
is read in completeness.py.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np

from onnxcam.errors import OutputError
from onnxcam.outputs.drawing import DRAWINGS, OF_THE_MAP, Original, Pixels, draw
from onnxcam.outputs.record import NOT_MEASURED, Measurements, map_sha256, plain, preset_sha256, record
from onnxcam.outputs.regions import in_pixels
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import Style
from onnxcam.surgeon.metadata import INPUTS

INPUTS_TEXT, MAP_TEXT = INPUTS, "onnxcam:map_sha256"
"""The texts of a picture's file that hold Provenance.inputs_sha256, and the SHA-256 of the map."""
MODEL_TEXT, PRESET_TEXT = "onnxcam:model_sha256", "onnxcam:preset_sha256"
"""The texts that hold the SHA-256 of the model's file, and preset_sha256()."""
INPUTS_KEY = "inputs_sha256"
"""Of the same in a JSON record."""
DESCRIPTION = 0x010E
"""EXIF's and TIFF's tag of the text that describes a picture."""
QUALITY = 92
"""Of JPEG and WebP, of 100."""
RECORD = "record"
"""The array of an .npz that holds the JSON record as text."""


class Write(Protocol):
    """Gives a file's content; draw() says what the picture is, record() what the metrics are."""

    def __call__(
        self, saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED, /
    ) -> bytes: ...


@dataclass(frozen=True)
class Writer:
    """How a format is written. suffix: with its dot, in small letters; of a drawing with its name, as .mask.png.

    others: other endings of the same format. is_drawn: whether it needs the picture.
    """

    suffix: str
    write: Write
    others: tuple[str, ...] = ()
    is_drawn: bool = True

    @property
    def ending(self) -> str:
        """What a file's name has to end in so that programs know its content: the suffix without a drawing's name."""
        return PurePath(f"file{self.suffix}").suffix


def format_of(name: str) -> str | None:
    """The format that a file's name ends in, by the longest ending: mask for cat.mask.png; None for no known one."""
    endings = {suffix: key for key, writer in FORMATS.items() for suffix in (writer.suffix, *writer.others)}
    fitting = [suffix for suffix in endings if name.lower().endswith(suffix)]
    return endings[max(fitting, key=len)] if fitting else None


def check_drawable(names: Iterable[str]) -> None:
    """Raises OptionError, before anything is explained, for a format whose package is not installed."""
    if {"pdf", "svg"} & set(names):
        from onnxcam.outputs.figure import check_matplotlib

        check_matplotlib()


def texts(saliency: Saliency) -> dict[str, str]:
    """The essentials of the provenance, as a picture's file holds them; free text is a JSON string."""
    provenance = saliency.provenance
    return {
        "Software": f"onnxcam {provenance.versions.get('onnxcam', '')}".strip(),
        "onnxcam:model": json.dumps(PurePath(provenance.model).name),
        "onnxcam:method": provenance.method,
        "onnxcam:options": json.dumps(plain(provenance.options)),
        "onnxcam:layer": ", ".join(provenance.tensors),
        "onnxcam:target": json.dumps(plain(saliency.target)),
        "onnxcam:preset": json.dumps(plain(provenance.preset)),
        "onnxcam:fill": provenance.fill,
        **_made_of(saliency),
    }


def _made_of(saliency: Saliency) -> dict[str, str]:
    """The texts by which a file is known as one of a call, a model and a preset."""
    provenance = saliency.provenance
    return {
        MODEL_TEXT: provenance.model_sha256,
        PRESET_TEXT: preset_sha256(provenance.preset.to_json(), provenance.preset_origin.source),
        MAP_TEXT: map_sha256(saliency.map),
        **({INPUTS_TEXT: provenance.inputs_sha256} if provenance.inputs_sha256 is not None else {}),
    }


PNG_LEVEL = 3
"""Of zlib. Its default, 6, takes more than twice the time for files that are 2 % smaller."""


def encoded_png(pixels: Pixels, saliency: Saliency) -> bytes:
    """The pixels with texts() as text chunks."""
    from PIL import Image as Pillow
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    for key, text in texts(saliency).items():
        info.add_text(key, text)
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
    return file.getvalue()


def _png(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    return encoded_png(draw(saliency, picture, style), saliency)


def _drawn(name: str) -> Write:
    """The writer of one of DRAWINGS, as a PNG."""

    def write(
        saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED
    ) -> bytes:
        return encoded_png(DRAWINGS[name](saliency, picture, style), saliency)

    return write


def _described(saliency: Saliency) -> str:
    """texts() as JSON in ASCII, without the outline of a mask, for which EXIF has no room."""
    return json.dumps(texts(replace(saliency, target=replace(saliency.target, outline=()))))


def _lossy(form: str, options: Mapping[str, Any]) -> Write:
    """A writer of JPEG or WebP, with the texts as EXIF's description."""

    def write(
        saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED
    ) -> bytes:
        from PIL import Image as Pillow

        drawn = Pillow.fromarray(draw(saliency, picture, style))
        exif, file = Pillow.Exif(), io.BytesIO()
        exif[DESCRIPTION] = _described(saliency)
        try:
            drawn.save(file, form, quality=QUALITY, exif=exif, **options)
        except (OSError, ValueError) as error:  # more pixels on a side than the format has
            raise OutputError(
                f"the drawing of {drawn.width}x{drawn.height} pixels cannot be written as {form} ({error}); "
                f"write a PNG, or a smaller one: max_size, --max-size"
            ) from error
        return file.getvalue()

    return write


def _figure(suffix: str) -> Write:
    """A writer of .pdf or .svg: the picture in pixels, lines and words that stay lines and words."""

    def write(
        saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED
    ) -> bytes:
        from onnxcam.outputs.figure import figure_bytes
        from onnxcam.outputs.map_figure import map_figure

        return figure_bytes(map_figure(saliency, picture, style), suffix, _made_of(saliency))

    return write


def _tiff(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The map on the picture as float32, NaN where the model saw nothing of it; a page for each slice of a volume.

    Of an image that came preprocessed the map as it is. The description holds the texts as JSON.
    """
    from PIL import Image as Pillow

    values = np.atleast_2d(in_pixels(saliency)).astype("<f4")
    pages = [Pillow.fromarray(page) for page in values.reshape(-1, *values.shape[-2:])]
    file = io.BytesIO()
    tags = {DESCRIPTION: _described(saliency)}
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], tiffinfo=tags)
    return file.getvalue()


def _npy(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The map, float32 in [0,1]."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(saliency.map, np.float32), allow_pickle=False)
    return file.getvalue()


def _npz(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """map and raw as float32, and the record as text, which json.loads(str(file["record"])) reads."""
    file = io.BytesIO()
    text = json.dumps(record(saliency, metrics=metrics), allow_nan=False)
    np.savez_compressed(file, allow_pickle=False, map=saliency.map, raw=saliency.raw, **{RECORD: np.array(text)})
    return file.getvalue()


def _json(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The record with the raw map and the metrics."""
    text = json.dumps(record(saliency, raw=True, metrics=metrics), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as in a file name that is not UTF-8, comes out as JSON's own escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


FORMATS: dict[str, Writer] = {
    "png": Writer(".png", _png),
    "jpg": Writer(".jpg", _lossy("JPEG", {"subsampling": 0}), (".jpeg",)),
    "webp": Writer(".webp", _lossy("WEBP", {"method": 4})),
    "pdf": Writer(".pdf", _figure(".pdf")),
    "svg": Writer(".svg", _figure(".svg")),
    **{name: Writer(f".{name}.png", _drawn(name), is_drawn=name not in OF_THE_MAP) for name in DRAWINGS},
    "tiff": Writer(".tiff", _tiff, (".tif",), is_drawn=False),
    "npy": Writer(".npy", _npy, is_drawn=False),
    "npz": Writer(".npz", _npz, is_drawn=False),
    "json": Writer(".json", _json, is_drawn=False),
}
"""Name of a format -> its writer. The first is the default."""
