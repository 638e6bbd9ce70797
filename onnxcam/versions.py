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
    return dict(_installed(PACKAGES))


def cache_versions() -> dict[str, str]:
    """versions(), and those of GRAPH_MAKERS: what is stored under other ones is not used."""
    return dict(_installed(PACKAGES + GRAPH_MAKERS))


@cache
def _installed(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for name in names:
        try:
            pairs.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(pairs)
