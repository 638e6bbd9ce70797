"""Finds and reads the files that lie beside a model: configurations and labels."""

from pathlib import Path

LARGEST_TEXT = 16 * 2**20
"""Bytes of a label or configuration file; more is something else."""


def read_text(path: Path) -> str:
    """UTF-8 text; raises OSError, and ValueError for another encoding, no regular file, or more than LARGEST_TEXT."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    if path.stat().st_size > LARGEST_TEXT:
        raise ValueError("too large")
    return path.read_text(encoding="utf-8-sig")


def file_beside(model_path: Path | None, name: str) -> Path | None:
    """The file in the model's folder, or above a folder called onnx, as Hugging Face has it; None if absent."""
    if model_path is None:
        return None
    folder = model_path.absolute().parent  # not resolved: in Hugging Face's cache the model is a link to elsewhere
    places = [folder, folder.parent] if folder.name == "onnx" else [folder]
    return next((p / name for p in places if (p / name).is_file()), None)
