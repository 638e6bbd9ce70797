"""Files beside a model: where they are looked for, and how they are read."""

from pathlib import Path

LARGEST_TEXT = 16 * 2**20
"""Bytes of a label or configuration file; more is something else."""


def read_text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError("too large")
    return path.read_text(encoding="utf-8-sig")


def file_beside(model_path: Path | None, name: str) -> Path | None:
    """The file in the model's folder, or one up: Hugging Face keeps model.onnx in a folder called onnx."""
    if model_path is None:
        return None
    folder = model_path.absolute().parent  # not resolved: in Hugging Face's cache the model is a link to elsewhere
    places = [folder, folder.parent] if folder.name == "onnx" else [folder]
    return next((p / name for p in places if (p / name).is_file()), None)
