"""Paths of the model and the two photographs that the package holds, for the demo and for ImageNet's labels."""

from pathlib import Path

from onnxcam.errors import ModelError

# In a wheel the folder is inside the package; in a checkout or an editable install it stands beside it.
FOLDERS = tuple(parent / "models" for parent in Path(__file__).parents[1:3])


def model() -> Path:
    """EfficientNet-Lite0 with ImageNet weights; its card lies beside it."""
    return _file("efficientnet-lite0.onnx")


def pictures() -> dict[str, Path]:
    """Two photographs that may be redistributed, by name."""
    return {name: _file(f"{name}.jpg") for name in ("chelsea", "coffee")}


def _file(name: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{name} is missing from the installation; install onnxcam again")
