"""Whether a command may replace a file that is there: one of the same call, or any with --overwrite.

A call is known by a SHA-256 of onnxcam's version, of the files that it reads, and of the options that change what it
writes. Every file that a command writes holds it, but for an .npy, which has no place for it. Where and how fast the
model runs does not count, nor how the file is called.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from onnxcam.errors import OnnxCamError, OutputError

FORMS = {".png": "png", ".pdf": "pdf", ".svg": "svg", ".json": "report", ".onnx": "onnx", ".pbtxt": "pbtxt"}
"""How a file of this ending says what it was made of, by the names of completeness.py."""
READ = ("model", "images", "paths", "pictures")
"""Options that name files whose content counts, wherever they lie."""
RUNNING = ("engine", "limits", "isolated", "quiet", "json", "out", "triton", "overwrite")
"""Options that change no content; of engine and limits call_sha256() takes those that do."""


def file_sha256(path: Path) -> str | None:
    """Of a file's content; None for what cannot be read, which whoever reads it reports."""
    from onnxcam import files

    try:
        return files.file_sha256(path, files.ANY)
    except OnnxCamError:
        return None


def digest(depends: Mapping[str, Any]) -> str:
    """SHA-256 of values, which become JSON."""
    from onnxcam.outputs.record import plain

    return hashlib.sha256(json.dumps(plain(depends), sort_keys=True).encode()).hexdigest()


def without_places(options: Any, files: Collection[Path]) -> Any:
    """The options, as plain values, with the name alone of each of these files: where a file lies does not count."""
    if isinstance(options, Mapping):
        return {name: without_places(value, files) for name, value in options.items()}
    if isinstance(options, list | tuple):
        return [without_places(value, files) for value in options]
    if not isinstance(options, str):
        return options
    start, sign, place = options.partition("=")  # NAME=FILE, as --input takes it
    if Path(options) in files:
        return Path(options).name
    return f"{start}={Path(place).name}" if sign and Path(place) in files else options


def call_sha256(command: str, options: Mapping[str, Any], models: Iterable[Path], others: Iterable[Path] = ()) -> str:
    """What a call is known by. options: by name, as plain values.

    models: their weights count too, and what lies beside them. others: the pictures and the files that options name.
    """
    from onnxcam.inputs.processor_config import files_beside
    from onnxcam.surgeon.weights_files import weights_files
    from onnxcam.versions import versions

    engine, limits = options.get("engine", {}), options.get("limits", {})
    named = {name: value for name, value in options.items() if name not in (*READ, *RUNNING)}
    others = list(others)
    read = [file for model in models for file in (model, *weights_files(model), *files_beside(model))]
    return digest(
        {
            "onnxcam": versions().get("onnxcam"),
            "command": command,
            "options": without_places(named, others),
            "rounding": [engine.get("half"), engine.get("tf32"), engine.get("precision"), limits.get("max_pixels")],
            "files": [(path.name, file_sha256(path)) for path in (*read, *others)],
        }
    )


def of_pictures(call: str, pictures: Iterable[Path]) -> str:
    """What the files of some pictures are known by, of a call that makes files of others too."""
    return digest({"call": call, "pictures": [(path.name, file_sha256(path)) for path in pictures]})


def refused(path: Path) -> OutputError:
    """What is said of a file of another call."""
    return OutputError(
        f"{path} is there, of another call (another picture, model, option or version of onnxcam), or it does "
        f"not say of which; --overwrite replaces it, -o names another file or folder"
    )


def check_same_call(paths: Iterable[Path], sha256: str, *, overwrite: bool) -> None:
    """Raises OutputError for a file that is there from another call, unless it may be replaced."""
    from onnxcam.outputs.completeness import of_another_call

    if overwrite:
        return
    other = of_another_call([{FORMS[path.suffix.lower()]: path} for path in paths], {sha256})
    if other is not None:
        raise refused(other)


def check_results(folder: Path, *, overwrite: bool) -> None:
    """Raises OutputError for a table or a report in a folder where `onnxcam evaluate` wrote none, unless it may be
    replaced.

    What it wrote is made of a journal, which keeps all rows, and can be made again.
    """
    from onnxcam.evaluation.export import RESULTS, SUMMARY_CSV, SUMMARY_JSON
    from onnxcam.evaluation.journal import NAME
    from onnxcam.evaluation.report import REPORT

    if overwrite or (folder / NAME).is_file() or _is_summary(folder / SUMMARY_JSON):
        return
    for name in (SUMMARY_JSON, SUMMARY_CSV, RESULTS, REPORT):
        if os.path.lexists(folder / name):
            raise refused(folder / name)


def _is_summary(path: Path) -> bool:
    """Whether `onnxcam evaluate` wrote a JSON file."""
    from onnxcam.files import ANY, parse_json, read_text

    try:
        record = parse_json(read_text(path, ANY))
    except (OnnxCamError, ValueError):
        return False
    return (
        isinstance(record, dict)
        and isinstance(record.get("run"), dict)
        and "onnxcam" in record["run"].get("versions", ())
    )


def signed_model(data: bytes, sha256: str) -> bytes:
    """An ONNX file with the digest of its call in its metadata, at its end: two messages in a row are one message.

    Written without onnx, which a command that takes its file from the cache does not load.
    """
    from onnxcam.surgeon.metadata import INPUTS

    key, value = _field(1, INPUTS.encode()), _field(2, sha256.encode())  # of StringStringEntryProto
    return data + _field(14, key + value)  # ModelProto.metadata_props


def _field(number: int, content: bytes) -> bytes:
    """A field of a message as protobuf writes texts and messages: its number, its length, its content."""
    assert len(content) < 128, "a greater length takes more than one byte"
    return bytes((number << 3 | 2, len(content))) + content


def signed_text(text: str, sha256: str) -> bytes:
    """A text with the digest of its call in a comment at its end, which # begins."""
    from onnxcam.outputs.formats import INPUTS_TEXT

    return f"{text.rstrip()}\n# {INPUTS_TEXT}={sha256}\n".encode()
