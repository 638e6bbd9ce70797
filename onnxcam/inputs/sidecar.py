"""Finds the files that lie beside a model: configurations and labels."""

from pathlib import Path


def file_beside(model_path: Path | None, name: str) -> Path | None:
    """The file in the model's folder, or above a folder called onnx, as Hugging Face has it; None if absent."""
    if model_path is None:
        return None
    folder = model_path.absolute().parent  # not resolved: in Hugging Face's cache the model is a link to elsewhere
    places = [folder, folder.parent] if folder.name == "onnx" else [folder]
    return next((p / name for p in places if (p / name).is_file()), None)
