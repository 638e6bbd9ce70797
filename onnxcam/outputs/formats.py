"""What is written for an explanation: the formats, and the record of it."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from onnxcam.errors import PictureError
from onnxcam.outputs import overlay
from onnxcam.outputs.overlay import Style
from onnxcam.outputs.record import plain
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.outputs.signal import background, draw_signal
from onnxcam.outputs.volume import contact_sheet, plane
from onnxcam.types import Image, Map, Picture

Original = Picture | Image
"""What was explained: an upright photograph, or the preprocessed array (C,*spatial) that the network saw."""


class Drawing(Protocol):
    """An array (C,*spatial), or nothing, and its map (*spatial) -> a picture."""

    def __call__(self, array: Image | None, saliency: Map, /, *, colormap: str, alpha: float) -> Picture: ...


ARRAYS: dict[int, Drawing] = {1: draw_signal, 2: plane, 3: contact_sheet}
"""The number of the map's axes -> how an array is drawn."""


@dataclass(frozen=True)
class Writer:
    """suffix: with its dot. write: a file's content; for the picture see draw."""

    suffix: str
    write: Callable[[Saliency, Original | None, Style], bytes]


SPEAKING = ("convention", "variant")
"""Options whose value says by itself what it is."""
LIMITS = ("budget", "tolerance")
"""Options that end an estimate, whose error is known afterwards."""


def draw(saliency: Saliency, picture: Original | None, style: Style) -> Picture:
    """The map over what it explains, or alone if there is no picture, with the caption that style asks for.

    picture: the upright photograph if the saliency has a placement; else the array (C,*spatial) that the network
    saw. Raises PictureError for a photograph with a saliency that has no placement on one, and for an array with
    one that has; ValueError for an array that does not have the map's axes.
    """
    rank, ground = saliency.map.ndim, overlay.GREY
    alpha = None if picture is None else style.alpha
    if saliency.placement is not None and picture is not None:
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
    if not style.caption:
        return drawn
    made = saliency.provenance
    # What differs from the defaults changes the meaning of the picture, so the picture says it.
    differing = {name: made.options[name] for name in made.changed if name != "fill"}
    if made.error is not None:  # what was reached says more than what was asked for
        differing = {k: v for k, v in differing.items() if k not in LIMITS} | {"map error": _error(made.error)}
    special = [v if k in SPEAKING else f"{k} {v}" for k, v in differing.items()]
    special += [made.fill] if "fill" in made.changed else []
    detail = " · ".join([shown_score(saliency.target), made.method, *special])
    name = saliency.target.name
    return overlay.caption(drawn, name, detail, colormap=style.colormap, alpha=alpha, font=style.font, ground=ground)


def _error(error: float) -> str:
    return f"{error:.3f}" if error >= 0.001 else f"{error:.1g}"


def shown_score(target: ScoredTarget) -> str:
    """What the model gave the target: a share in percent, or the number itself."""
    return percent(target.probability) if target.is_probability else f"{target.logit:.3g}"


def percent(probability: float) -> str:
    """With one decimal, and never as a certainty or an impossibility that it is not."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"


def _png(saliency: Saliency, picture: Original | None, style: Style) -> bytes:
    """Lossless, with the essentials of the provenance as text chunks; what is free text is a JSON string."""
    from PIL import Image as Pillow
    from PIL import PngImagePlugin

    made, target = saliency.provenance, saliency.target
    texts = {
        "Software": f"onnxcam {made.versions.get('onnxcam', '')}".strip(),
        "onnxcam:method": made.method,
        "onnxcam:options": json.dumps(plain(made.options)),
        "onnxcam:layer": made.layer,
        "onnxcam:target": json.dumps(plain(target)),
        "onnxcam:model_sha256": made.model_sha256,
        "onnxcam:preset": json.dumps(plain(made.preset)),
        "onnxcam:fill": made.fill,
    }
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = io.BytesIO()
    Pillow.fromarray(draw(saliency, picture, style)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _npy(saliency: Saliency, picture: Original | None, style: Style) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(saliency.map, np.float32), allow_pickle=False)
    return file.getvalue()


def _json(saliency: Saliency, picture: Original | None, style: Style) -> bytes:
    values = {
        "target": saliency.target,
        "score": saliency.score,
        "map_shape": saliency.map.shape,
        "raw": saliency.raw,
        "placement": saliency.placement,
        "provenance": saliency.provenance,
    }
    text = json.dumps(plain(values), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as in a file name that is not UTF-8, comes out as JSON's own escape.
    return text.encode("utf-8", "backslashreplace") + b"\n"


FORMATS = {"png": Writer(".png", _png), "npy": Writer(".npy", _npy), "json": Writer(".json", _json)}
"""The name of a format -> how it is written. The first is what is written if nothing else is asked for."""
