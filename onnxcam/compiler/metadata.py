"""What a compiled file says of itself: JSON under the key `onnxcam.compiled` of its metadata.

`onnxcam inspect` shows it, and hosts in other languages can read what to feed, and the names of the classes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from onnxcam.compiler.interface import Interface
from onnxcam.errors import ModelError
from onnxcam.inputs.presets import Preset
from onnxcam.methods.blocks import Method
from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.metadata import COMPILED
from onnxcam.versions import versions

SCHEMA = 1
"""Version of the JSON value; a change that readers must know of raises it."""


def compiled_record(
    method: Method,
    interface: Interface,
    *,
    family: str,
    model: str,
    sha256: str,
    opset: int,
    layer: str,
    grid: tuple[int, ...],
    layout: str,
    size: tuple[int, ...],
    preset: Preset,
    preset_origin: str,
    scores: Logits,
    labels: tuple[str, ...] | None,
    target: int | None,
    largest_difference: float,
) -> dict[str, Any]:
    """The JSON value.

    model, sha256: of the file that was compiled. layer: the feature tensor, whose maps are of `grid` cells. layout: the
    axes of the image input. target: the class that is baked in, -1 for the prediction, None for an input.
    largest_difference: of its maps to those of `onnxcam explain`.
    """
    return {
        "schema": SCHEMA,
        "onnxcam": versions()["onnxcam"],
        "method": method.name,
        "family": family,
        "options": dict(method.options),
        "model": model,
        "model_sha256": sha256,
        "opset": opset,
        "layer": layer,
        "grid": list(grid),
        "layout": layout,
        "size": list(size),
        "preset": {**asdict(preset), "origin": preset_origin},
        "scores": {"output": scores.output, "probabilities": how_probable(scores)},
        "labels": list(labels) if labels is not None else None,
        "target": target,
        "interface": asdict(interface),
        "largest_difference": largest_difference,
    }


def how_probable(scores: Logits) -> str:
    """How the scored output becomes probabilities: 'as they are', 'exp', 'sigmoid' or 'softmax' over the classes."""
    if scores.activation in ("softmax", "sigmoid", "probability"):
        return "as they are"
    return "exp" if scores.activation == "log_softmax" else "sigmoid" if scores.has_sigmoid else "softmax"


def read_compiled(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """The JSON value of a file's metadata; None where it was not compiled. Raises ModelError for a broken value."""
    text = metadata.get(COMPILED)
    if text is None:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int):
        raise ModelError(f"the metadata {COMPILED!r} of this file is not what `onnxcam compile` writes")
    if record["schema"] > SCHEMA:
        raise ModelError(f"this file was compiled by a newer onnxcam (schema {record['schema']}); upgrade onnxcam")
    return record
