"""Modules that other packages import at their top and use seldom: loaded at their first use.

onnx_ir needs sympy for arithmetic with names of sizes alone, and its import takes a tenth of a first start. Only the
program does so, which owns its process: in a service other threads may be at the same module.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

LATE = frozenset({"sympy", "onnx_ir._symbolic_shapes"})
"""sympy, and the module of onnx_ir that would use it while it is imported."""


class _LateFinder:
    """Finds the modules of LATE as the import system does, with a loader that waits for their first attribute."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def import_late() -> None:
    """From now on the modules of LATE are loaded when they are used."""
    sys.meta_path.insert(0, _LateFinder)
