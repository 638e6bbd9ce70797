"""What travels with a model: its preprocessing and its labels, and where they were found."""

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import LabelError, PresetError, TargetError, near
from onnxcam.preprocess import Preset

LARGEST_TEXT = 16 * 2**20
"""Bytes of a label or configuration file; more is something else."""
INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which Hugging Face's `resample` uses."""


def find_preset(metadata: Mapping[str, str], model_path: Path | None) -> tuple[Preset, str] | None:
    """The preset and where it came from: the file's metadata, else a preprocessor_config.json beside it.

    Raises PresetError for a damaged or unsupported one: what says how a model wants its pictures is not passed over.
    """
    if "onnxcam.preset" in metadata:
        try:
            return Preset.from_json(json.loads(metadata["onnxcam.preset"])), "ONNX metadata onnxcam.preset"
        except (json.JSONDecodeError, PresetError) as error:
            raise PresetError(f"the model's metadata onnxcam.preset is damaged ({error}); use --preset") from None
    path = _beside(model_path, "preprocessor_config.json")
    if path is None:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise PresetError("it is no JSON object")
        return from_hugging_face(values), f"{path.name} beside the model"
    except (OSError, ValueError, TypeError, KeyError, PresetError) as error:
        raise PresetError(f"{path}: cannot be used ({error}); choose the preprocessing with --preset") from None


def from_hugging_face(values: Mapping[str, Any]) -> Preset:
    """The preset that an image processor's configuration means; raises PresetError for what it cannot express."""
    size, resize, crop = _hugging_face_geometry(values)
    resample = values.get("resample", 2)
    if resample not in INTERPOLATIONS:
        raise PresetError(f"resample {resample!r} is not supported")
    rescale = values.get("do_rescale", True)
    normalise = values.get("do_normalize", True)
    scale = float(values.get("rescale_factor", 1 / 255)) if rescale else 1.0
    return Preset(
        name="preprocessor_config",
        scale=scale,
        mean=_numbers(values.get("image_mean", 0.0)) if normalise else (0.0,),
        std=_numbers(values.get("image_std", 1.0)) if normalise else (1.0,),
        color="bgr" if values.get("do_flip_channel_order") else "rgb",
        resize=resize,  # type: ignore[arg-type]
        crop=crop,
        interpolation=INTERPOLATIONS[resample],  # type: ignore[arg-type]
        size=size,
    )


def _hugging_face_geometry(values: Mapping[str, Any]) -> tuple[tuple[int, int] | None, str, float]:
    """(size, resize, crop) of the configuration's several ways to say them."""
    size = values.get("size")
    shortest = _shortest(size)
    cropped = _sides(values.get("crop_size")) if values.get("do_center_crop") else None
    if not values.get("do_resize", True):
        return cropped or _sides(size), "squash", 1.0
    if "crop_pct" in values and shortest is not None:
        # ConvNeXt: below 384 pixels the picture is resized to size / crop_pct and cut, else it is squashed.
        if shortest >= 384:
            return (shortest, shortest), "squash", 1.0
        return (shortest, shortest), "shortest", float(values["crop_pct"] or 0.875)
    if shortest is not None and cropped is None and not isinstance(size, int):
        return (shortest, shortest), "shortest", 1.0
    if cropped is not None and shortest is not None:
        return cropped, "shortest", min(1.0, min(cropped) / shortest)
    if cropped is not None and (full := _sides(size)) is not None:
        return cropped, "squash", min(1.0, min(cropped) / min(full))
    return _sides(size), "squash", 1.0


def _shortest(size: Any) -> int | None:
    if isinstance(size, dict) and "shortest_edge" in size:
        return int(size["shortest_edge"])
    return size if isinstance(size, int) else None


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    if size is None:
        return None
    raise PresetError(f"size {size!r} is not supported")


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if isinstance(value, list) else (float(value),)


def find_labels(metadata: Mapping[str, str], model_path: Path | None) -> tuple[list[str], str] | None:
    """Class names and where they came from: 'onnxcam.labels' or Ultralytics' 'names' in the metadata, or the id2label
    of a Hugging Face config.json beside the model. One that does not name the classes 0 to n-1 is passed over."""
    if "onnxcam.labels" in metadata:
        found = _named(_json_or_none(metadata["onnxcam.labels"]))
        if found is not None:
            return found, "ONNX metadata onnxcam.labels"
    if "names" in metadata and len(metadata["names"]) < LARGEST_TEXT:
        try:
            found = _named(ast.literal_eval(metadata["names"]))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
        if found is not None:
            return found, "ONNX metadata names"
    path = _beside(model_path, "config.json")
    values = _json_or_none(path.read_text(encoding="utf-8", errors="replace")) if path is not None else None
    found = _named(values.get("id2label")) if isinstance(values, dict) else None
    return (found, "config.json beside the model") if found is not None else None


def read_labels(path: Path) -> list[str]:
    """From .json (a list, or an object of index to name) or text, a label a line. Raises LabelError."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise LabelError(f"{path}: too large for a label file")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(f"{path}: not UTF-8 text; a label file has one class name a line") from None
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix.lower() == ".json":
        found = _named(_json_or_none(text))
        if found is None:
            raise LabelError(f"{path}: not a JSON list of names, nor an object of 0 to n-1 to names")
        return found
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not any(lines):
        raise LabelError(f"{path}: the label file is empty")
    return lines


def check_labels(labels: Sequence[str], classes: int, source: str) -> None:
    """Raises LabelError where there is not one label a class."""
    if len(labels) != classes:
        raise LabelError(f"{source}: {len(labels)} labels, but the model has {classes} classes; give --labels that fit")


def find_class(labels: Sequence[str], text: str) -> int:
    """The index of a label: exact, else ignoring case and taking '_' for a space. Raises TargetError."""
    exact = [i for i, label in enumerate(labels) if label == text]
    found = exact or [i for i, label in enumerate(labels) if _folded(label) == _folded(text)]
    if len(found) > 1:
        raise TargetError(f"{text!r} names {len(found)} classes: {', '.join(map(str, found))}; give the index")
    if not found:
        raise TargetError(f"no class is called {text!r}; {near(text, dict.fromkeys(labels))}")
    return found[0]


def _folded(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _named(values: Any) -> list[str] | None:
    """A list of names, or a mapping of 0 to n-1 to names, in order; None for anything else."""
    if isinstance(values, dict):
        keys = {str(k): v for k, v in values.items()}
        values = [keys.get(str(i)) for i in range(len(keys))]
    if not isinstance(values, list | tuple) or not values or not all(isinstance(v, str) for v in values):
        return None
    return list(values)


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return None


def _beside(model_path: Path | None, name: str) -> Path | None:
    """The file in the model's folder, or one up: Hugging Face keeps model.onnx in a folder called onnx."""
    if model_path is None:
        return None
    folder = model_path.resolve().parent
    places = [folder, folder.parent] if folder.name == "onnx" else [folder]
    return next((p / name for p in places if (p / name).is_file()), None)
