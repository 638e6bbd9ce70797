"""The record of an explanation, in plain JSON values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from onnxcam.outputs.saliency import Saliency, ScoredTarget


def record(saliency: Saliency, image: Path | str, outputs: Iterable[Path | str] = ()) -> dict[str, Any]:
    """What was explained and how, in plain JSON values; a number that is not finite becomes None."""
    target, made = saliency.target, saliency.provenance
    values = {
        "image": str(image),
        "target": {"index": target.index, "label": target.label, **_numbers(target)},
        "score": saliency.score,
        "method": made.method,
        "options": made.options,
        "layer": made.layer,
        "layer_reason": made.layer_reason,
        "features": made.features,
        "provider": made.provider,
        "preset": made.preset,
        "preset_source": made.preset_origin.text,
        "fill": made.fill,
        "channels": None
        if made.channels is None
        else {
            "total": made.channels.total,
            "scored": made.channels.scored,
            "estimated": made.channels.estimated,
            "skipped": made.channels.skipped,
        },
        "error": made.error,
        "forwards": made.forwards,
        "steps": made.steps,
        "batch": made.batch,
        "seconds": made.seconds,
        "outputs": [str(path) for path in outputs],
        "notes": [{"code": str(note.code), "text": note.text} for note in made.notes],
    }
    return {key: plain(value) for key, value in values.items()}


def plain(value: Any) -> Any:
    """value in JSON's types. Raises TypeError for what has no counterpart there."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | PurePath):  # str() also makes an enumeration's member its value
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def _numbers(target: ScoredTarget) -> dict[str, Any]:
    """A number that is no probability is called a value."""
    if target.is_probability:
        return {"probability": target.probability, "kind": str(target.kind)}
    return {"probability": None, "value": target.logit, "kind": str(target.kind)}
