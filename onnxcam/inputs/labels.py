"""Class labels: reads those that travel with a model and those of a file, and finds the index of a label (find_class).

Labels are a list of names, one per class in the model's order. Control characters are removed, since labels are
printed wherever they come from.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import LabelError, TargetError, near
from onnxcam.files import LABELS, parse_json, read_text
from onnxcam.inputs.sidecar import file_beside
from onnxcam.inputs.timm_config import is_timm, timm_labels
from onnxcam.surgeon.metadata import literal
from onnxcam.types import Origin, Source

MOST_LABELS = 1_000_000
"""Classes that a label file may name."""


def find_labels(metadata: Mapping[str, str], model_path: Path | None) -> tuple[list[str], Origin] | None:
    """Class names that travel with a model, and where they came from; None if there are none.

    Looked for in this order: 'onnxcam.labels' in the metadata, Ultralytics' 'names' there, and the id2label of a
    Hugging Face config.json beside the model, or the label_names of timm's. One that does not name the classes 0 to
    n-1 is passed over.
    """
    if "onnxcam.labels" in metadata:
        labels = _names(_json_or_none(metadata["onnxcam.labels"]))
        if labels is not None:
            return labels, Origin(Source.METADATA, "ONNX metadata onnxcam.labels")
    labels = _names(literal(metadata.get("names", "")))
    if labels is not None:
        return labels, Origin(Source.METADATA, "ONNX metadata names")
    path = file_beside(model_path, "config.json")
    try:
        values = _json_or_none(read_text(path, LABELS)) if path is not None else None
    except LabelError:
        return None
    labels = (
        _names(timm_labels(values) if is_timm(values) else values.get("id2label")) if isinstance(values, dict) else None
    )
    return (labels, Origin(Source.CONFIG_FILE, "config.json beside the model")) if labels is not None else None


def read_labels(path: Path) -> list[str]:
    """Class names of a file: JSON (a list, or an object of index to name), or text, one a line. Raises LabelError."""
    text = read_text(path, LABELS)
    if path.suffix.lower() == ".json":
        labels = _names(_json_or_none(text))
        if labels is None:
            raise LabelError(f"{path}: not a JSON list of names, nor an object of 0 to n-1 to names")
        return labels
    if not text.strip():
        raise LabelError(f"{path}: the label file is empty")
    count = text.rstrip().count("\n") + 1
    if count > MOST_LABELS:
        raise LabelError(f"{path}: {count:,} lines; a label file has one class name a line, {MOST_LABELS:,} at most")
    return [_line(line) for line in text.rstrip().split("\n")]


def check_labels(labels: Sequence[str], classes: int, source: str) -> None:
    """Raises LabelError unless there is one label per class. source: where the labels came from, for the message."""
    if len(labels) != classes:
        raise LabelError(f"{source}: {len(labels)} labels, but the model has {classes} classes; give --labels that fit")


def find_class(labels: Sequence[str], text: str) -> int:
    """The class that a label names: an exact match, else one that differs in case, or in '_' for a space.

    Raises TargetError where none or several match.
    """
    exact = [i for i, label in enumerate(labels) if label == text]
    matches = exact or [i for i, label in enumerate(labels) if _folded(label) == _folded(text)]
    if len(matches) > 1:
        shown = ", ".join(map(str, matches[:10])) + (", ..." if len(matches) > 10 else "")
        raise TargetError(f"{text!r} names {len(matches)} classes: {shown}; give the index")
    if not matches:
        raise TargetError(f"no class is called {text!r}; {near(text, dict.fromkeys(labels))}{several(text)}")
    return matches[0]


def several(text: str) -> str:
    """The end of a message on an unknown label; for a text with a comma it says how several labels are given."""
    return "; repeat --target for several labels" if "," in text else ""


def _folded(label: str) -> str:
    return " ".join(label.casefold().replace("_", " ").split())


def _names(values: Any) -> list[str] | None:
    """A list of names, or a mapping of 0 to n-1 to names, in order; None for anything else."""
    if isinstance(values, dict):
        keys = {str(k): v for k, v in values.items()}
        values = [keys.get(str(i)) for i in range(len(keys))]
    if not isinstance(values, list | tuple) or not values or not all(isinstance(v, str) for v in values):
        return None
    return [_line(value) for value in values]


def _line(label: str) -> str:
    """The label without line breaks, terminal commands and halves of characters."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", label).strip()


def _json_or_none(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None
