"""Versions of the packages that a map's numbers depend on, for provenance and for the cache's keys."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

RUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn",
    "onnxruntime-rocm", "onnxruntime-migraphx", "onnxruntime-ep-webgpu",
)  # fmt: skip
"""Builds of onnxruntime, and the plugin that stands beside one."""
PACKAGES = ("onnxcam", "onnx", *RUNTIMES, "numpy", "pillow")
GRAPH_MAKERS = ("onnx-ir", "onnxscript")
"""Packages whose code makes graphs. No number of a map depends on them, but what the cache stores may."""


def versions() -> dict[str, str]:
    """Version by package, as a new dict; packages that are not installed are absent. Read once a process."""
    return _by_package(PACKAGES)


def cache_versions() -> dict[str, str]:
    """versions(), and those of GRAPH_MAKERS: what is stored under other ones is not used."""
    return _by_package(PACKAGES + GRAPH_MAKERS)


def _by_package(names: tuple[str, ...]) -> dict[str, str]:
    return {name: number for name in names if (number := _installed(name)) is not None}


@cache
def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
