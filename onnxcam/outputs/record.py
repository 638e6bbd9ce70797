"""The JSON record of an explanation: one schema for `--json`, for `--format json` and for programs.

`record` turns a `Saliency` into plain JSON values. `record.schema.json` beside this file is its JSON Schema, which
describes every field. The schema's number rises when a field goes or changes its meaning; a field that is added is
optional there, so that earlier records fit.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from onnxcam.outputs.captions import caption
from onnxcam.outputs.saliency import Provenance, Saliency, ScoredTarget
from onnxcam.types import Floats, Map

SCHEMA = 1
"""The number of the schema that `record` writes."""


class Measured(Protocol):
    """A metric of the map, as onnxcam.metrics returns it in a Measurement, which says what the fields are."""

    @property
    def value(self) -> float | None: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def curve(self) -> Floats | None: ...
    @property
    def options(self) -> Mapping[str, Any]: ...
    @property
    def passes(self) -> int: ...
    @property
    def better(self) -> str | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def note(self) -> str | None: ...


Measurements = Mapping[str, Measured]
"""Metrics by the name under which they were requested, such as 'deletion' or 'average-drop:half'."""

NOT_MEASURED: Measurements = MappingProxyType({})
"""No metric was requested."""


def record(
    saliency: Saliency,
    outputs: Iterable[Path | str] = (),
    *,
    raw: bool = False,
    metrics: Measurements = NOT_MEASURED,
) -> dict[str, Any]:
    """What was explained and how, in plain JSON values that fit record.schema.json.

    outputs: the files that were written of it. raw: whether the map before rectifying and normalising comes along, as
    nested lists. metrics: as Explainer.measure() returns them; the record holds them under the same names, with
    underscores in the metric's name. A number that is not finite becomes None. Raises TypeError for a value that JSON
    cannot hold.
    """
    provenance = saliency.provenance
    values = {
        "schema": SCHEMA,
        "image": provenance.image,
        "image_input": provenance.image_input,
        "model": {"name": provenance.model, "sha256": provenance.model_sha256},
        "target": _target(saliency.target),
        "score": saliency.score,
        "caption": caption(saliency),
        **_choices(provenance),
        **({"window": provenance.window} if provenance.window is not None else {}),
        **({"bands": provenance.bands} if provenance.bands is not None else {}),
        **({"inputs_sha256": provenance.inputs_sha256} if provenance.inputs_sha256 is not None else {}),
        "size": {"sides": saliency.map.shape, "origin": provenance.size_origin},
        **_run(provenance),
        "map": {
            "shape": saliency.map.shape,
            "sha256": map_sha256(saliency.map),
            "placement": saliency.placement,
            "hidden": saliency.placement.hidden if saliency.placement is not None else None,
            **({"raw": saliency.raw} if raw else {}),
        },
        **({"metrics": {_key(name): _measured(one) for name, one in metrics.items()}} if metrics else {}),
        "outputs": list(outputs),
        "notes": provenance.notes,
        "versions": provenance.versions,
    }
    return {key: plain(value) for key, value in values.items()}


def map_sha256(saliency: Map) -> str:
    """SHA-256 of the numbers of a map, as an .npy file holds them: float32, little-endian, row by row."""
    return hashlib.sha256(np.ascontiguousarray(saliency, "<f4").tobytes()).hexdigest()


def preset_sha256(preset: Mapping[str, Any], source: str) -> str:
    """SHA-256 of the preprocessing and of where it came from. preset: its fields, as in a record. source: a Source.

    An assumed preset is another choice than the same one given.
    """
    values = {key: value for key, value in preset.items() if key != "origin"}
    return hashlib.sha256(json.dumps([plain(values), str(source)], sort_keys=True).encode()).hexdigest()


def _key(name: str) -> str:
    """The field of a metric: 'average-drop:half-soft' is average_drop:half-soft, since protocols are values."""
    metric, colon, protocol = name.partition(":")
    return f"{metric.replace('-', '_')}{colon}{protocol}"


def _measured(one: Measured) -> dict[str, Any]:
    return {
        "value": one.value,
        "protocol": one.protocol,
        "reason": one.reason,
        **({"note": one.note} if one.note is not None else {}),
        "better": one.better,
        "unit": one.unit,
        **({"curve": one.curve} if one.curve is not None else {}),
        "options": one.options,
        "passes": one.passes,
    }


def _target(target: ScoredTarget) -> dict[str, Any]:
    return {
        "index": target.index,
        "label": target.label,
        "kind": target.kind,
        "probability": target.probability if target.is_probability else None,
        "value": target.logit,
        "output": target.output,
        "region": target.where,
        "side": target.side,
        "box": target.box,
        "outline": target.outline,
        "step": target.step,
        "class_index": target.class_index,
        "class_label": target.class_label,
        "box_number": target.box_number,
    }


def _choices(provenance: Provenance) -> dict[str, Any]:
    """What was chosen before anything ran."""
    return {
        "method": {
            "name": provenance.method,
            "options": provenance.options,
            "fill": provenance.fill,
            "changed": provenance.changed,
        },
        "layer": {
            **_layer(provenance.layer, provenance.layer_reason, provenance.features),
            "fused": [_layer(layer.tensor, layer.reason, layer.features) for layer in provenance.layers],
        },
        "logits": {"tensor": provenance.logits, "activation": provenance.activation},
        "preset": {**provenance.preset.to_json(), "origin": provenance.preset_origin},
    }


def _layer(tensor: str, reason: str, features: tuple[int, ...]) -> dict[str, Any]:
    return {"tensor": tensor, "reason": reason, "shape": features}


def _run(provenance: Provenance) -> dict[str, Any]:
    """What happened while it ran."""
    channels = provenance.channels
    return {
        "provider": provenance.provider,
        "provider_options": provenance.provider_options,
        **({"precision": provenance.precision} if provenance.precision is not None else {}),
        "batch": {"size": provenance.batch, "mode": provenance.batch_mode},
        "channels": None
        if channels is None
        else {
            "total": channels.total,
            "scored": channels.scored,
            "estimated": channels.estimated,
            "skipped": channels.skipped,
            "pending": channels.pending,
        },
        "error": provenance.error,
        "passes": {"forward": provenance.forwards, "gradient": provenance.steps},
        "seconds": provenance.seconds,
    }


def plain(value: Any) -> Any:
    """The value in JSON's types; a number that is not finite becomes None.

    A dataclass becomes an object of its fields. Raises TypeError for what has no counterpart in JSON.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str | PurePath):  # str() also makes an enumeration's member its value
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")
