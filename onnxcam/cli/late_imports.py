"""Modules that other packages import at their top and use seldom: loaded at their first use.

onnx_ir needs sympy for arithmetic with names of sizes alone, and its import takes a tenth of a first start. Only the
program does so, which owns its process. importlib's LazyLoader shows a module that is half loaded to other threads
(https://github.com/python/cpython/issues/114763, repaired in Python 3.12.3), so threads wait here.
"""

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LATE = frozenset({"sympy", "onnx_ir._symbolic_shapes"})
"""sympy, and the module of onnx_ir that would use it while it is imported."""
_LOADING = threading.RLock()


class _LateModule(ModuleType):
    """A module whose first attribute that is read loads it. The thread that loads it sees what is there so far."""

    def __getattribute__(self, name: str) -> Any:
        with _LOADING:
            loader = ModuleType.__getattribute__(self, "__loader__")
            if isinstance(loader, _LateLoader) and not loader.is_begun:
                loader.is_begun = True
                loader.load(self)
        return ModuleType.__getattribute__(self, name)


class _LateLoader(Loader):
    """Makes a _LateModule of what another loader would load."""

    def __init__(self, loader: Loader) -> None:
        self._loader, self.is_begun = loader, False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _LateModule

    def load(self, module: ModuleType) -> None:
        """Loads the module in place, as if it had never been late."""
        spec = ModuleType.__getattribute__(module, "__spec__")
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        module.__class__ = ModuleType


class _LateFinder:
    """Finds the modules of LATE as the import system does, with a loader that waits."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


def import_late() -> None:
    """From now on the modules of LATE are loaded when they are used."""
    sys.meta_path.insert(0, _LateFinder)
