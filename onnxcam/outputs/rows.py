"""One result as a row of a table."""

from typing import Any

import numpy as np

from onnxcam.outputs.record import map_sha256
from onnxcam.outputs.regions import in_pixels, mask
from onnxcam.outputs.saliency import Saliency


def row(saliency: Saliency) -> dict[str, Any]:
    """The columns as Explanations.to_rows() describes them."""
    target, provenance, placement = saliency.target, saliency.provenance, saliency.placement
    x, y = _peak(saliency)
    values = in_pixels(saliency)
    return {
        "image": provenance.image,
        "target": target.name,
        "index": target.index,
        "class_index": target.class_index,
        "kind": target.kind,
        "probability": target.probability if target.is_probability else None,
        "value": target.logit,
        "score": saliency.score,
        "method": provenance.method,
        "layer": ", ".join(provenance.tensors),
        "model": provenance.model,
        "peak_x": x,
        "peak_y": y,
        "area": float(mask(saliency).sum() / np.isfinite(values).sum()),
        "hidden": placement.hidden if placement is not None else None,
        "error": provenance.error,
        "passes": provenance.forwards + provenance.steps,
        "seconds": provenance.seconds,
        "notes": "; ".join(note.code for note in provenance.notes),
        "sha256": map_sha256(saliency.map),
    }


def _peak(saliency: Saliency) -> tuple[float | None, float | None]:
    """The middle of the highest pixel on the picture; the first in reading order of several."""
    if saliency.map.ndim != 2:
        return None, None
    values = in_pixels(saliency)
    down, across = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return float(across) + 0.5, float(down) + 0.5
