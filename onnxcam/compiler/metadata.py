"""What a compiled file says of itself: JSON under the key `onnxcam.compiled` of its metadata.

`onnxcam inspect` shows it, and hosts in other languages can read what to feed, and the names of the classes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from onnxcam.compiler.interface import Interface
from onnxcam.errors import ModelError, PresetError
from onnxcam.files import parse_json
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
    """The JSON value of a file's metadata, with every field of compiled_record(); None where it was not compiled.

    Raises ModelError for a value that lacks a field or has one of another type.
    """
    text = metadata.get(COMPILED)
    if text is None:
        return None
    try:
        record = parse_json(text)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not _is_whole(record.get("schema")) or record["schema"] < 1:
        raise ModelError(f"the metadata {COMPILED!r} of this file is not what `onnxcam compile` writes")
    if record["schema"] > SCHEMA:
        raise ModelError(f"this file was compiled by a newer onnxcam (schema {record['schema']}); upgrade onnxcam")
    wrong = [name for name, check in _FIELDS.items() if name not in record or not check(record[name])]
    if wrong:
        raise ModelError(
            f"the metadata {COMPILED!r} of this file is not what `onnxcam compile` writes ({wrong[0]} is missing or of "
            f"another type); compile the model again"
        )
    return {name: record[name] for name in ("schema", *_FIELDS)}


Check = Callable[[object], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_setting(value: object) -> bool:
    """The value of a method's option."""
    return value is None or isinstance(value, bool | str) or _is_number(value) or _list_of(_is_number)(value)


def _is_preset(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("origin"), str):
        return False
    try:
        Preset.from_json(value)
    except PresetError:
        return False
    return True


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _object_of(fields: Mapping[str, Check]) -> Check:
    """An object of just these fields."""
    return lambda value: (
        isinstance(value, dict) and value.keys() == fields.keys() and all(fields[k](v) for k, v in value.items())
    )


_TENSORS = _list_of(
    _object_of({"name": _is_text, "dtype": _is_text, "shape": _list_of(lambda side: _is_text(side) or _is_whole(side))})
)
_INTERFACE: Mapping[str, Check] = {
    "inputs": _TENSORS, "outputs": _TENSORS, "image": _none_or(_is_text), "target": _none_or(_is_text),
    "map": _is_text, "map_target": _is_text, "range": _is_text, "box": _none_or(_is_text),
    "picture": _none_or(_is_text), "picture_map": _none_or(_is_text),
}  # fmt: skip
_FIELDS: Mapping[str, Check] = {
    "onnxcam": _is_text, "method": _is_text, "family": _is_text,
    "options": lambda value: isinstance(value, dict) and all(map(_is_setting, value.values())),
    "model": _is_text, "model_sha256": _is_text, "opset": _is_whole, "layer": _is_text, "grid": _list_of(_is_whole),
    "layout": _is_text, "size": _list_of(_is_whole), "preset": _is_preset,
    "scores": _object_of({"output": _is_text, "probabilities": _is_text}), "labels": _none_or(_list_of(_is_text)),
    "target": _none_or(_is_whole), "interface": _object_of(_INTERFACE), "largest_difference": _is_number,
}  # fmt: skip
"""The fields of the JSON value beside its schema, as compiled_record() writes them."""
