"""The data.yaml of a YOLO data set: where its splits lie, and how its classes are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxcam.errors import DataError
from onnxcam.evaluation.readers.reader import Source
from onnxcam.files import MEBIBYTE, FileKind, first_bytes, read_text, reason, shown
from onnxcam.inputs.labels import read_labels
from onnxcam.limits import brief, is_whole

YAML = FileKind("data.yaml", MEBIBYTE, DataError)
SPLITS = ("train", "val", "test")
CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt", "train/classes.txt", "labels.txt")


@dataclass(frozen=True)
class DataYaml:
    """path: the folder of the splits, as it is written. splits: name -> folders, or lists of pictures.

    point_values: numbers of the key points of an object; 0 for a data set without.
    """

    place: str = ""
    path: str = ""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    point_values: int = 0


def yaml_in(source: Source) -> Path | None:
    """The data.yaml itself, or the one in a folder; None if it has none. Raises DataError if it has several."""
    if not source.is_folder:
        return source.path
    keys = [key for key in source.listing.with_suffix(".yaml", ".yml") if "/" not in key]
    chosen = [key for key in keys if key in ("data.yaml", "data.yml", "dataset.yaml")]
    chosen = chosen or [key for key in keys if is_data_yaml(source.listing.files[key])]
    if len(chosen) > 1:
        raise DataError(f"{shown(source.path)}: holds {', '.join(chosen)}; name the one that counts")
    return source.listing.files[chosen[0]] if chosen else None


def is_data_yaml(path: Path) -> bool:
    """Whether a file names classes and splits."""
    start = b"\n" + first_bytes(path, 65536).replace(b"\r", b"\n")
    return b"\nnames" in start and any(b"\n" + name.encode() in start for name in SPLITS)


def read_data_yaml(path: Path) -> DataYaml:
    """Raises DataError, with the line where it can, for what is no data.yaml."""
    values = _load(path)
    splits = {name: _places(values[name], name, path) for name in SPLITS if values.get(name) is not None}
    if "valid" in values and "val" not in values:
        splits["val"] = _places(values["valid"], "valid", path)
    folder = values.get("path", "")
    if not isinstance(folder, str | None):
        raise DataError(f"{shown(path)}: path is {_brief(folder)}, not a folder")
    return DataYaml(shown(path), folder or "", splits, _names(values.get("names"), path), _points(values, path))


def class_names(source: Source, config: DataYaml) -> Mapping[int, str]:
    """Of the file of classes that was given, else of data.yaml, else of a classes.txt; empty where there is none."""
    if source.classes is not None:
        return dict(enumerate(read_labels(source.classes)))
    if config.names:
        return config.names
    path = next((source.listing.files[name] for name in CLASS_LISTS if name in source.listing.files), None)
    return {} if path is None else dict(enumerate(read_labels(path)))


def _load(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise DataError(f'{shown(path)}: YAML needs PyYAML: pip install "onnxcam[evaluate]"') from None
    try:
        values = yaml.safe_load(read_text(path, YAML))  # not CSafeLoader: nested deeply, a file ends the process
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DataError(f"{shown(path)}, line {line}: not YAML ({error.problem}); correct it") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{shown(path)}: not YAML ({reason(error)}); correct it") from None
    if not isinstance(values, dict):
        raise DataError(f"{shown(path)}: {_brief(values)} is no data.yaml, which has names and train or val")
    return values


def _places(value: object, name: str, path: Path) -> tuple[str, ...]:
    places = value if isinstance(value, list) else [value]
    if not all(isinstance(place, str) for place in places):
        raise DataError(
            f"{shown(path)}: {name} is {_brief(value)}, not a folder, a list of pictures, or several of them"
        )
    return tuple(places)


def _names(value: object, path: Path) -> dict[int, str]:
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    if entries is None:
        return {}
    if not isinstance(entries, dict) or not all(
        is_whole(number, 0) and isinstance(name, str | int) for number, name in entries.items()
    ):
        raise DataError(
            f"{shown(path)}: names is {_brief(value)}, neither a list of names nor numbers with their names"
        )
    return {int(number): str(name) for number, name in entries.items()}


def _points(values: Mapping[str, Any], path: Path) -> int:
    """How many numbers of an object's line stand behind its box: points, times 2 or 3."""
    shape = values.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_whole(number, 1) for number in shape):
        raise DataError(f"{shown(path)}: kpt_shape is {_brief(shape)}, not two numbers: points, and 2 or 3")
    return int(shape[0]) * int(shape[1])


def _brief(value: object) -> str:
    """A value as messages have it. YAML's references may make a list endless or of any size: it is not written."""
    if isinstance(value, dict | list):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    return brief(value)
