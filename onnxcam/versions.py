"""Which packages were at work."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("onnxcam", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Of everything that a map's numbers depend on; a runtime build that is not installed is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
