"""The order of the modules, read from their imports."""

import ast
from pathlib import Path

import pytest

import onnxcam

ROOT = Path(onnxcam.__file__).parent
ORDER = """errors versions arrays resampling pictures preprocess discover fills embedded surgeon further rows engine crowd devices held on_device network mixing influence cache trial
preparation rewriting methods sessions differentiation probe together targets intake scoring answers networks inquiry pipeline explainer lettering render render_signal render_volume outputs naming staging cli""".split()
"""A module imports only from what stands before it, or from its own folder."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


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


def rank(name: str) -> int:
    return ORDER.index(name.split(".")[1])


@pytest.mark.parametrize(
    "path", [p for p in modules() if p != ROOT / "__init__.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_go_one_way(path: Path) -> None:
    home = path.relative_to(ROOT).with_suffix("").parts[0]
    used = {name for name in imported(path) if name.startswith("onnxcam.")}
    wrong = sorted(name for name in used if rank(name) > ORDER.index(home))
    assert wrong == [], f"{home} may not import {wrong}"


@pytest.mark.parametrize(
    ("folder", "never"),
    [("methods", "onnx"), ("methods", "onnxruntime"), ("engine", "onnxcam.surgeon"), ("surgeon", "onnxruntime")],
)
def test_what_a_folder_never_imports(folder: str, never: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert not any(name == never or name.startswith(never + ".") for name in imported(path)), path


def test_every_module_has_its_place() -> None:
    top = {p.relative_to(ROOT).with_suffix("").parts[0] for p in modules()} - {"__init__"}
    assert top <= set(ORDER)


def test_only_graph_py_touches_onnx_irs_passes() -> None:
    for path in (ROOT / "surgeon").glob("*.py"):
        if path.name != "graph.py":
            assert not any("passes" in name or "onnxscript" in name for name in imported(path)), path


def test_importing_the_package_stays_light() -> None:
    import subprocess
    import sys

    code = "import sys, onnxcam.cli.main; print([m for m in ('onnx','onnxruntime','numpy','cv2','PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
