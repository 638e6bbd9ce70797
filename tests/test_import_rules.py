"""The rooms: imports go down only, checked on what a file writes and on what an import of it loads."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import onnxcam
from onnxcam.cli.main import COMMANDS

ROOT = Path(onnxcam.__file__).parent
STOREYS = (
    {"errors", "types", "files", "limits", "logs", "products", "resampling", "temporary", "versions"},
    {"surgeon", "engine"},
    {"inputs"},
    {"network"},
    {"methods", "outputs"},
    {"metrics"},
    {"explainer"},
    {"evaluation", "compiler"},
    {"cli"},
    {"__main__"},
)
"""From the ground up. A package imports from those below it; those on one storey do not know each other."""
STOREY = {room: i for i, rooms in enumerate(STOREYS) for room in rooms}
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python", "google": "protobuf", "onnx_ir": "onnx-ir", "yaml": "pyyaml"}
"""The distribution that a top-level import belongs to, where its name differs."""
PACKAGES, MODULES = 11, 11
"""Entries directly in onnxcam/, at most."""


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1]


def dotted(path: Path) -> str:
    parts = ("onnxcam", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Modules of onnxcam and top-level packages that a file imports anywhere, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@cache
def loaded(module: str) -> frozenset[str]:
    """Every module that is loaded once this one has been imported, in a process of its own."""
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(json.loads(done.stdout))


def may_import(room: str, other: str) -> bool:
    return other == room or STOREY[other] < STOREY[room] or STOREY[room] == 0 == STOREY[other]


@pytest.mark.parametrize(
    "path", [p for p in files() if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(dotted(path))
    wrong = sorted(n for n in imported(path) if n.startswith("onnxcam.") and not may_import(room, room_of(n)))
    assert wrong == [], f"{room} may not import {wrong}"


@pytest.mark.parametrize("room", sorted({room_of(dotted(p)) for p in files() if p != ROOT / "__init__.py"}))
def test_what_is_loaded_lies_below_too(room: str) -> None:
    modules = [
        dotted(p) for p in files() if dotted(p) != "onnxcam" and room_of(dotted(p)) == room and p.stem != "__main__"
    ]
    others = {m for name in loaded(", ".join(modules) or "onnxcam") for m in [name] if m.startswith("onnxcam.")}
    assert sorted(m for m in others if not may_import(room, room_of(m))) == []


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("methods", "onnxruntime"),
        ("methods", "onnx"),
        ("engine", "onnx"),
        ("engine", "onnxcam.surgeon"),
        ("surgeon", "onnxruntime"),
        ("outputs", "onnxruntime"),
    ],
)
def test_what_a_room_never_imports(room: str, never: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        assert not any(name == never or name.startswith(never + ".") for name in imported(path)), path


def declared() -> set[str]:
    """The distributions that pyproject.toml declares: always needed, or in an extra that users choose."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    chosen = ("cpu", "dicom", "evaluate", "plot", "ray", "table", "tiff", "watch")
    requirements = [*project["dependencies"], *(line for extra in chosen for line in extras[extra])]
    return {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in requirements}


def test_every_package_that_is_imported_is_declared() -> None:
    packages = {name.split(".")[0] for path in files() for name in imported(path)}
    packages |= {"onnxruntime"}  # imported by import_module()
    others = packages - set(sys.stdlib_module_names) - {"onnxcam"}
    assert {"numpy", "google"} <= others
    assert sorted(name for name in others if DISTRIBUTIONS.get(name, name).lower() not in declared()) == []


def test_the_engine_loads_nothing_of_onnx_or_the_surgeon() -> None:
    modules = ", ".join(dotted(p) for p in files() if room_of(dotted(p) + ".x") == "engine")
    assert not {m for m in loaded(modules) if m.split(".")[0] in ("onnx", "onnx_ir", "onnxscript")}


def test_the_listing_is_short() -> None:
    entries = [p for p in ROOT.iterdir() if p.name not in ("__pycache__", "py.typed", "models")]
    assert {p.stem for p in entries} - {"__init__"} <= set(STOREY)
    assert sum(p.is_dir() for p in entries) <= PACKAGES
    assert sum(p.is_file() for p in entries) <= MODULES


def test_only_one_file_touches_onnx_irs_passes() -> None:
    for path in (ROOT / "surgeon").rglob("*.py"):
        if path.name != "ir.py":
            used = {n for n in imported(path) if not n.startswith("onnxcam.")}
            assert not any("passes" in name or "onnxscript" in name for name in used), path


PROCESS_WIDE = {"catch_warnings", "filterwarnings", "simplefilter", "redirect_stdout", "redirect_stderr", "chdir"}
PROCESS_WIDE |= {"threadpool_limits", "ThreadpoolController", "putenv"}
"""Calls that change the process for every thread; only what owns its process may make them."""
OWNERS = {ROOT / "explainer" / "isolated_process.py"}
"""The main program of a process of onnxcam's own, beside the command line."""


@pytest.mark.parametrize("room", sorted({room_of(dotted(p)) for p in files() if p.parent != ROOT} - {"cli"}))
def test_library_code_changes_nothing_of_the_process(room: str) -> None:
    for path in set((ROOT / room).rglob("*.py")) - OWNERS:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {node.id for node in nodes if isinstance(node, ast.Name)}
        assert not names & PROCESS_WIDE, path


def test_importing_the_package_stays_light() -> None:
    assert not loaded("onnxcam.cli.main") & {"onnx", "onnxruntime", "numpy", "cv2", "PIL"}
    commands = {f"onnxcam.cli.{name}" for name in COMMANDS}
    assert not loaded("onnxcam.cli.main") & commands


def test_the_explainer_loads_without_onnx() -> None:
    """A warm start runs stored graphs; what builds one is imported where it is built."""
    heavy = {"onnx", "onnx_ir", "onnxscript", "sympy", "google.protobuf", "cv2", "onnxruntime"}
    assert not loaded("onnxcam.explainer.explainer") & heavy


def test_no_attribute_of_a_package_hides_a_module() -> None:
    """`import onnxcam.methods.rise` gives the module, whatever a package's own names are."""
    for package in [dotted(path) for path in files() if path.name == "__init__.py"]:
        home = importlib.import_module(package)
        for name in {module.name for module in pkgutil.iter_modules(home.__path__)} - {"__main__"}:
            submodule = importlib.import_module(f"{package}.{name}")
            assert getattr(home, name) is submodule, f"{package}.{name}"


def test_tests_share_through_support_alone() -> None:
    """`tests.` is importable or not with the order in which pytest collects: a run of some files would fail."""
    tests = Path(__file__).parent
    wrong = {
        f"{path.relative_to(tests)}: {name}"
        for path in tests.rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] == "tests" or name.split(".")[0].startswith("test_")
    }
    assert not wrong
