"""What notebooks show of results: the overlay with its caption, and the provenance folded below.

HTML holds the overlay as a JPEG, a fifth of the PNG's size, because a notebook stores what it shows. The PNG is for
programs that show no HTML, or clean it of pictures.
"""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np

from onnxcam.errors import OnnxCamError
from onnxcam.outputs.captions import caption
from onnxcam.outputs.drawing import Pixels, draw
from onnxcam.outputs.formats import encoded_png
from onnxcam.outputs.original import original_of
from onnxcam.outputs.overlay import PAPER
from onnxcam.outputs.record import record
from onnxcam.outputs.saliency import Saliency
from onnxcam.outputs.style import Style
from onnxcam.outputs.volume import arranged

SHOWN = Style(caption=True, max_size=640)
MOST = 24
"""The most maps that a row shows."""
NARROW, WIDE = 320, 480
"""Pixels between which the width of a map lies, where the page is not narrower."""
QUALITY = 85
"""Of the JPEG, whose colours are not halved in resolution, as those of captions would smear."""


def png(saliency: Saliency) -> bytes:
    """The overlay as a PNG of at most 640 pixels, with its caption; the map alone where its picture is gone."""
    return encoded_png(_drawn(saliency)[0], saliency)


def png_of_several(saliencies: Sequence[Saliency]) -> bytes:
    """The overlays with their captions in rows, as one PNG; of the first MOST, and the number of the others below."""
    from PIL import Image as Pillow

    tiles = [_drawn(saliency, WIDE)[0] for saliency in saliencies[:MOST]]
    file = io.BytesIO()
    Pillow.fromarray(arranged(_of_one_size(tiles), note=_more(saliencies))).save(file, "PNG")
    return file.getvalue()


def html(saliencies: Sequence[Saliency]) -> str:
    """The overlays beside each other, each with its caption and its provenance folded below."""
    shown = "".join(map(_figure, saliencies[:MOST]))
    more = f"<p>{_more(saliencies)}</p>" if len(saliencies) > MOST else ""
    count = min(len(saliencies), MOST)
    columns = f"repeat(auto-fit,minmax(min(100%,{NARROW}px),1fr))"  # as many as fit, all of one width
    style = f"display:grid;grid-template-columns:{columns};gap:12px;max-width:{count * (WIDE + 12)}px;align-items:start"
    return f'<div style="{style}">{shown}</div>{more}'


def _more(saliencies: Sequence[Saliency]) -> str:
    return f"and {len(saliencies) - MOST} more" if len(saliencies) > MOST else ""


def _of_one_size(tiles: Sequence[Pixels]) -> list[Pixels]:
    """The tiles with white at their right and below, where another one is larger."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    sides = [((0, height - tile.shape[0]), (0, width - tile.shape[1]), (0, 0)) for tile in tiles]
    return [np.pad(tile, side, constant_values=PAPER) for tile, side in zip(tiles, sides, strict=True)]


def _drawn(saliency: Saliency, size: int | None = SHOWN.max_size) -> tuple[Pixels, str]:
    """The drawing, and why it is the map alone; "" where it is over its picture."""
    try:
        picture, why = original_of(saliency), ""
    except OnnxCamError as error:
        picture, why = None, str(error)
    return draw(saliency, picture, replace(SHOWN, max_size=size)), why


def _jpeg(pixels: Pixels) -> str:
    """The pixels as a JPEG in base64."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _figure(saliency: Saliency) -> str:
    pixels, why = _drawn(saliency)
    words = caption(saliency)
    values = json.dumps(record(saliency), indent=1, ensure_ascii=False)
    alone = f"<div>The map alone: {escape(why)}</div>" if why else ""
    return (
        f'<figure style="margin:0"><img style="max-width:100%" '
        f'alt="{escape(f"Saliency of {words.title}, {words.detail}")}" '
        f'src="data:image/jpeg;base64,{_jpeg(pixels)}">{alone}'
        f"<details><summary>{escape(saliency.provenance.image)}: provenance</summary>"
        f'<pre style="font-size:smaller;max-height:24em;overflow:auto">{escape(values)}</pre></details></figure>'
    )
