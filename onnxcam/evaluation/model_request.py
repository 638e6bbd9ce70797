"""ModelRequest: a model and how it is opened, as a value that other processes can open it by; and its identity in rows.

identify() reads the file but opens no session, so that a run knows which rows it has before it computes anything.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.engine.options import EngineOptions
from onnxcam.engine.providers import parse_providers, short_name
from onnxcam.errors import OptionError, near
from onnxcam.explainer.arguments import adjusted
from onnxcam.explainer.explainer import Explainer
from onnxcam.files import ARRAY, file_sha256
from onnxcam.inputs.choices import choose_preset, choose_size
from onnxcam.inputs.labels import find_labels, read_labels
from onnxcam.inputs.presets import Preset
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.types import Source

ELSEWHERE = {
    "method": "the methods are options of the evaluation",
    "step": "a step graph serves one method",
    "isolated": "an evaluation shares passes between methods and metrics, which an isolated process does not hand out",
}
"""Arguments of Explainer() that a ModelRequest does not take, and why."""
DESCRIBED = ("layer", "layout", "image_input", "window", "bands", "output", "kind")
"""Arguments that are recorded as they are given."""


@dataclass(frozen=True)
class ModelRequest:
    """A model file and the keyword arguments of Explainer() that it is opened with. It can be pickled.

    model: its path, or the file's bytes. arguments: by name, without method, step and isolated. name: of the model as
    people read it; the file's name if empty. Raises OptionError for an argument that Explainer() does not have.
    """

    model: str | Path | bytes
    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        known = [p.name for p in signature(Explainer).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
        for name in self.arguments:
            if name in ELSEWHERE:
                raise OptionError(f"a model is not opened with {name} here: {ELSEWHERE[name]}")
            if name not in known:
                raise OptionError(f"Explainer() has no argument {name!r}; {near(name, set(known) - set(ELSEWHERE))}")


@dataclass(frozen=True)
class ModelIdentity:
    """What rows say of a model. sha256: of its file. opening: the SHA-256 of `description`.

    description: canonical JSON of everything about the opening that changes a number: the preprocessing as it was
    chosen, the layer, the labels, the providers that were requested, and the rest that is no default. batch, threads
    and cache, which change no number beyond rounding, are not in it. name: as people read it. preprocessing: the
    preset's name and where it came from, as 'imagenet (assumed)', for people; assumed: nothing says that it is right.
    """

    sha256: str
    opening: str
    description: str
    name: str
    preprocessing: str = ""
    assumed: bool = False


def identify(request: ModelRequest) -> ModelIdentity:
    """Reads the model's file, and what travels with it, without opening it. Raises OnnxCamError."""
    limits = request.arguments.get("limits") or SAFE
    file = read_model(request.model, limits)
    image = file.image(request.arguments.get("layout"), request.arguments.get("image_input"))
    preset, origin = adjusted(
        *choose_preset(file, request.arguments.get("preset"), image), request.arguments.get("adjust")
    )
    description = canonical_json(_description(file, request.arguments, limits, image, preset))
    return ModelIdentity(
        file.sha256, digest(description), description, request.name or Path(file.name).name,
        preset.name if origin.source is Source.ASSUMED else f"{preset.name} ({origin})",
        origin.source is Source.ASSUMED,
    )  # fmt: skip


def preprocessing_doubt(name: str, preprocessing: str) -> str:
    """What to say of a model whose preprocessing is assumed. name: the model's."""
    return f"{name}: preprocessing assumed: {preprocessing}; if that is wrong, so is every number: --preset"


def canonical_json(value: Any) -> str:
    """The value as JSON that is the same wherever it is made: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: str | bytes) -> str:
    """The SHA-256 of a text or of bytes, in hexadecimal."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _description(
    file: ModelFile, arguments: Mapping[str, Any], limits: Limits, image: ImageInput, preset: Preset
) -> dict[str, Any]:
    """What changes a number, by name; what is at its default is left out, so that new options change no old row."""
    size, _ = choose_size(image, arguments.get("size"), preset)
    labels = _labels(file, arguments.get("labels"))
    engine: EngineOptions = arguments.get("engine") or EngineOptions()
    described = {
        "preset": _preset(preset),
        "size": [int(side) for side in size] if size is not None else None,
        "inputs": {name: _input(value) for name, value in (arguments.get("inputs") or {}).items()},
        "labels": digest(canonical_json(labels)) if labels is not None else None,
        "providers": _providers(arguments.get("providers", ("auto",))),
        "engine": [name for name in ("half", "tf32") if getattr(engine, name)]
        + ([str(engine.precision)] if engine.reduced else []),
        "pixels": limits.pixels if limits.pixels != SAFE.pixels else None,  # a larger JPEG is read at a fraction
        "weights": file.fingerprint if file.fingerprint != file.sha256 else None,
    }
    for name in DESCRIBED:
        value = arguments.get(name)
        is_list = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        described[name] = np.asarray(value).tolist() if is_list else value
    if described["layer"] in ("auto", ["auto"]):
        del described["layer"]
    return {name: value for name, value in described.items() if value is not None and value not in ([], {})}


def _preset(preset: Preset) -> dict[str, Any]:
    """The fields of a preset that are no defaults, without its name, which changes no number."""
    values = {f.name: (getattr(preset, f.name), f.default) for f in fields(preset) if f.name != "name"}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def _providers(providers: Any) -> list[Any]:
    return [[short_name(p.name), dict(sorted(p.options.items()))] for p in parse_providers(providers)]


def _input(value: Any) -> str:
    """The digest of an extra input: of a file's content, or of an array's numbers, type and shape."""
    if isinstance(value, bytes):
        return digest(value)
    if isinstance(value, str | os.PathLike):
        return file_sha256(value, ARRAY)
    array = np.asarray(value)
    return digest(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes())


def _labels(file: ModelFile, labels: Any) -> tuple[str, ...] | None:
    """The names that were given, or those beside the model, which may turn out not to fit what is scored."""
    if labels == "imagenet" and not Path("imagenet").exists():
        return ("imagenet",)
    if isinstance(labels, str | os.PathLike):
        return tuple(read_labels(Path(labels)))
    if labels is not None:
        return tuple(labels)
    beside = find_labels(file.metadata, file.path)
    return tuple(beside[0]) if beside is not None else None
