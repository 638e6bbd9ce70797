"""What a map was made of, when it is drawn: the picture that is given, else the one that the Saliency kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PictureError
from onnxcam.inputs.images import read_picture
from onnxcam.limits import SAFE, Limits
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import NoteCode, Placement


def original_of(saliency: Saliency, picture: object | None = None) -> npt.NDArray[Any]:
    """The upright photograph (height,width,3) uint8, or the array (C,*spatial) that the network saw.

    picture: as read_picture() takes it, for a map that keeps none; of an array that came preprocessed, that array.
    A photograph's file is read again. Raises PictureError where there is no picture, and for one of another size.
    """
    kept = picture if picture is not None else saliency.picture
    if kept is None:
        raise PictureError(
            f"the map of {saliency.provenance.image} keeps no picture; pass what was explained as picture="
        )
    if saliency.placement is None or saliency.map.ndim != 2:
        return np.asarray(kept)
    if isinstance(kept, np.ndarray) and kept.dtype == np.uint8 and kept.shape == (*saliency.placement.picture, 3):
        return kept
    height, width = saliency.placement.picture
    try:
        pixels = read_picture(kept, limits=_limits(saliency, saliency.placement))
    except PictureError as error:
        if not isinstance(kept, Path):
            raise
        raise PictureError(f"{error}; the map was made of this file: pass the picture as picture=") from None
    if pixels.shape[:2] != (height, width):
        raise PictureError(
            f"the picture is {pixels.shape[1]}x{pixels.shape[0]}, the one explained {width}x{height}; pass that one as "
            f"picture="
        )
    return pixels


def _limits(saliency: Saliency, placement: Placement) -> Limits:
    """Those with which a file gives the pixels that were explained: of a JPEG that was read reduced, their number."""
    height, width = placement.picture
    is_reduced = any(note.code is NoteCode.READ_REDUCED for note in saliency.provenance.notes)
    return replace(SAFE, pixels=height * width if is_reduced else max(SAFE.pixels or 0, height * width))
