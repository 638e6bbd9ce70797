"""Versions of the packages that a map's numbers depend on, for provenance and for the cache's keys."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

RUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn",
    "onnxruntime-rocm", "onnxruntime-migraphx", "onnxruntime-ep-webgpu",
)  # fmt: skip
"""Builds of onnxruntime, and the plugin that stands beside one."""
PACKAGES = ("onnxcam", "onnx", *RUNTIMES, "numpy", "pillow")


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
