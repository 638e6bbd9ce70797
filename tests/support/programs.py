"""The programs of tools/ as modules, for tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def tool(path: str) -> ModuleType:
    """tools/<path>.py, or the package tools/<path>, as a module, without tools becoming a place to import from."""
    place = Path(__file__).parents[2] / "tools" / path
    name = place.name
    if not place.is_dir():
        return _executed(name, place.with_suffix(".py"))
    return sys.modules[name] if name in sys.modules else _executed(name, place / "__init__.py")


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if spec.submodule_search_locations is not None:
        sys.modules[name] = module  # its parts import each other by this name
    spec.loader.exec_module(module)
    return module
