"""Versions of the packages that a map's numbers depend on, for provenance and for the cache's keys."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("onnxcam", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Version by package, as a new dict; packages that are not installed are absent. Read once a process."""
    return dict(_installed())


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    pairs = []
    for name in PACKAGES:
        try:
            pairs.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(pairs)
