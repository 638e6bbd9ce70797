"""Pictures and maps as WebP data URIs, small enough that a report with hundreds of them is one file to send."""

import base64
import io
import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from onnxcam.inputs.images import read_picture
from onnxcam.types import Map, Placement

QUALITY, MAP_QUALITY = 75, 86
"""Of WebP, 0 to 100."""
MAP_SIDE = 112
"""Pixels of a map's longer side, at most."""


@dataclass(frozen=True)
class EmbeddedPicture:
    """source: a data URI. width, height: in pixels of what is embedded."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class EmbeddedMap:
    """source: a data URI of the map as grey values. box: where it lies, (left, top, right, bottom) as fractions of the
    picture's width and height; None where it has no place on a picture."""

    source: str
    box: tuple[float, float, float, float] | None


def embed_picture(path: str | os.PathLike[str], side: int) -> EmbeddedPicture:
    """The upright picture, its longer side at most `side` pixels. Raises PictureError."""
    image = Image.fromarray(read_picture(path))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return EmbeddedPicture(_webp(image, QUALITY), image.width, image.height)


def embed_map(saliency_map: Map, placement: Placement | None) -> EmbeddedMap | None:
    """The map (H,W) in [0,1], reduced to MAP_SIDE; None for a signal or a volume, which no picture shows."""
    if saliency_map.ndim != 2:
        return None
    grey = Image.fromarray(np.rint(reduced(saliency_map, MAP_SIDE) * 255).astype(np.uint8))
    return EmbeddedMap(_webp(grey, MAP_QUALITY), None if placement is None else _fractions(placement))


def reduced(saliency_map: Map, side: int) -> Map:
    """The map with its longer side at most `side`, by means over areas, in [0,1]."""
    height, width = saliency_map.shape
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(np.asarray(saliency_map, np.float32)).resize(size, Image.Resampling.BOX)
    return np.clip(np.asarray(image, np.float32), 0, 1)


def _fractions(placement: Placement) -> tuple[float, float, float, float]:
    height, width = placement.picture
    left, top, right, bottom = placement.box
    return round(left / width, 5), round(top / height, 5), round(right / width, 5), round(bottom / height, 5)


def _webp(image: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
