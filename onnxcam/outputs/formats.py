"""The files of an explanation: `FORMATS` names each format and its writer, `draw` makes the picture of a PNG.

To add a format, write a function (saliency, picture, style, metrics) -> bytes and a line in FORMATS.
"""

import io
import json
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from onnxcam.errors import PictureError
from onnxcam.outputs import overlay
from onnxcam.outputs.boxes import draw_target, draw_truth, shown_part
from onnxcam.outputs.captions import caption, target_text
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import NOT_MEASURED, Measurements, map_sha256, plain, record
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.signal import background, draw_signal
from onnxcam.outputs.volume import contact_sheet, plane
from onnxcam.types import Image, Map, Picture

INPUTS_TEXT, MAP_TEXT = "onnxcam:inputs_sha256", "onnxcam:map_sha256"
"""The text chunks of a PNG that hold Provenance.inputs_sha256, and the SHA-256 of the map."""

Original = Picture | Image
"""What was explained: an upright photograph, or the preprocessed array (C,*spatial) that the network saw."""


class Drawing(Protocol):
    """Draws an array (C,*spatial), or nothing, and its map (*spatial) as a picture."""

    def __call__(self, array: Image | None, saliency: Map, /, *, colormap: str, alpha: float) -> Picture: ...


ARRAYS: dict[int, Drawing] = {1: draw_signal, 2: plane, 3: contact_sheet}
"""Number of the map's axes -> how an array is drawn."""


class Write(Protocol):
    """Gives a file's content; draw() says what the picture is, record() what the metrics are."""

    def __call__(
        self, saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED, /
    ) -> bytes: ...


@dataclass(frozen=True)
class Writer:
    """How a format is written. suffix: with its dot."""

    suffix: str
    write: Write


def draw(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The map over what it explains, or alone if there is no picture, with the caption that style asks for.

    picture: the upright photograph if a map (H,W) has a placement; else the array (C,*spatial) that the network
    saw. Raises PictureError for a photograph with a saliency that has no placement on one, and for an array with
    one that has; ValueError for an array that does not have the map's axes.
    """
    rank, ground = saliency.map.ndim, overlay.GREY
    alpha = None if picture is None else style.alpha
    if saliency.placement is not None and picture is not None and rank == 2:
        photograph = cast(Picture, picture)  # overlay refuses another
        drawn = overlay.overlay(
            photograph, saliency.map, saliency.placement, colormap=style.colormap, alpha=style.alpha
        )
    elif rank not in ARRAYS:
        raise ValueError(f"a saliency map has 1 to 3 axes, this one has the shape {saliency.map.shape}")
    else:
        if picture is not None and picture.dtype == np.uint8:
            raise PictureError("the image came preprocessed, so the map has no place on a picture; draw it without one")
        drawn = ARRAYS[rank](cast(Image | None, picture), saliency.map, colormap=style.colormap, alpha=style.alpha)
        if rank == 1:
            alpha, ground = style.alpha, background(style.colormap)
    part = shown_part(saliency.map.shape, saliency.placement, heatmap=picture is None) if rank == 2 else None
    if style.truth and part is not None:
        drawn = draw_truth(drawn, style.truth, part)
    if saliency.target.box is not None and part is not None:
        drawn = draw_target(drawn, saliency.target, part, target_text(saliency.target), style.font)
    if not style.caption:
        return drawn
    words = caption(saliency)
    return overlay.caption(
        drawn, words.title, words.detail, colormap=style.colormap, alpha=alpha, font=style.font, ground=ground
    )


def _png(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The drawing, with the essentials of the provenance as text chunks; free text is a JSON string."""
    from PIL import Image as Pillow
    from PIL import PngImagePlugin

    provenance = saliency.provenance
    texts = {
        "Software": f"onnxcam {provenance.versions.get('onnxcam', '')}".strip(),
        "onnxcam:method": provenance.method,
        "onnxcam:options": json.dumps(plain(provenance.options)),
        "onnxcam:layer": ", ".join(provenance.tensors),
        "onnxcam:target": json.dumps(plain(saliency.target)),
        "onnxcam:model_sha256": provenance.model_sha256,
        "onnxcam:preset": json.dumps(plain(provenance.preset)),
        "onnxcam:fill": provenance.fill,
        MAP_TEXT: map_sha256(saliency.map),
        **({INPUTS_TEXT: provenance.inputs_sha256} if provenance.inputs_sha256 is not None else {}),
    }
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = io.BytesIO()
    Pillow.fromarray(draw(saliency, picture, style)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _npy(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The map, float32 in [0,1]."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(saliency.map, np.float32), allow_pickle=False)
    return file.getvalue()


def _json(saliency: Saliency, picture: Original | None, style: Style, metrics: Measurements = NOT_MEASURED) -> bytes:
    """The record with the raw map and the metrics."""
    text = json.dumps(record(saliency, raw=True, metrics=metrics), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as in a file name that is not UTF-8, comes out as JSON's own escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


FORMATS = {
    "png": Writer(".png", _png),
    "npy": Writer(".npy", _npy),
    "json": Writer(".json", _json),
}
"""Name of a format -> its writer. The first is the default."""
