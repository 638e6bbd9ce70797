"""The public names: one list, shown by dir(), each documented down to its attributes and methods."""

import ast
import dataclasses
import enum
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import onnxcam

ROOT = Path(onnxcam.__file__).parent
SUBPACKAGE_LISTS = {"onnxcam", "onnxcam.methods", "onnxcam.surgeon.autodiff.rules"}
"""Packages whose __all__ is public. Every other module is private: its names may change at any time."""
SHORTEST = 20
"""Characters of a docstring that says something."""


def home(name: str) -> str:
    return onnxcam._HOME_OF[name]


def source(module: str) -> ast.Module:
    return ast.parse(Path(str(import_module(module).__file__)).read_text())


def attribute_texts(body: list[ast.stmt]) -> dict[str, str]:
    """The text that follows an assignment, by the assigned name."""
    texts: dict[str, str] = {}
    for statement, after in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            texts.update({t.id: after.value.value for t in targets if isinstance(t, ast.Name)})
    return texts


def class_texts(cls: type) -> tuple[str, dict[str, str]]:
    """A class's docstring as it is written, and the texts of its attributes."""
    (node,) = (n for n in source(cls.__module__).body if isinstance(n, ast.ClassDef) and n.name == cls.__name__)
    return ast.get_docstring(node) or "", attribute_texts(node.body)


def members(cls: type) -> list[str]:
    """Public attributes, properties and methods that a class defines itself, as far as the class knows them."""
    names = [f.name for f in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    if issubclass(cls, enum.Enum):
        return [*cls.__members__]
    return [n for n in dict.fromkeys([*names, *vars(cls)]) if not n.startswith("_")]


def documented(cls: type, member: str, text: str, attributes: dict[str, str]) -> bool:
    """Whether a member has a text of its own, or is named in the docstring of its class."""
    value = inspect.getattr_static(cls, member, None)
    value = value.fget if isinstance(value, property) else value
    has_docstring = inspect.isroutine(value) and bool(value.__doc__)
    return has_docstring or member in attributes or re.search(rf"\b{member}\b", text) is not None


CLASSES = [n for n in onnxcam.__all__ if isinstance(getattr(onnxcam, n), type)]
FUNCTIONS = [n for n in onnxcam.__all__ if inspect.isfunction(getattr(onnxcam, n))]
CONSTANTS = [n for n in onnxcam.__all__ if n not in CLASSES and n not in FUNCTIONS]


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert sorted(dir(onnxcam)) == sorted(onnxcam.__all__)
    assert len(set(onnxcam.__all__)) == len(onnxcam.__all__)
    assert set(onnxcam._HOME_OF) == set(onnxcam.__all__)
    command = "import onnxcam.cli.main, onnxcam.methods.rise, onnxcam; print(*sorted(dir(onnxcam)))"
    shown = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == sorted(onnxcam.__all__)


def test_type_checkers_see_the_names_where_they_are() -> None:
    (block,) = (n for n in source("onnxcam").body if isinstance(n, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == onnxcam._HOME_OF


def test_every_method_is_public_and_in_the_documentation() -> None:
    page = (ROOT.parent / "docs" / "methods.md").read_text()
    for name, make in onnxcam.METHODS.items():
        public = onnxcam._HOME_OF.get(make.__name__)
        assert public == make.__module__, f"add {make.__name__} to both lists of onnxcam/__init__.py"
        assert f"`{name}`" in page, f"add {name} to the table of docs/methods.md"


def test_every_metric_is_public_and_in_the_documentation() -> None:
    page = (ROOT.parent / "docs" / "metrics.md").read_text()
    for name, metric in onnxcam.METRICS.items():
        home = onnxcam._HOME_OF.get(name, "")
        assert home.startswith("onnxcam.metrics."), f"add {name} to both lists of onnxcam/__init__.py"
        title = metric.title.partition(" (")[0]
        assert f"### {title}\n" in page, f"add a section on {title} to docs/metrics.md"


def test_a_star_import_brings_every_name() -> None:
    names: dict[str, Any] = {}
    exec("from onnxcam import *", names)
    assert set(onnxcam.__all__) <= set(names)
    assert all(names[name] is getattr(onnxcam, name) for name in onnxcam.__all__)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'ForwardPass'"):
        onnxcam.ForwardPass  # noqa: B018
    assert onnxcam.__version__.count(".") >= 1


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "onnxcam", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxcam", onnxcam.__version__]
    wrong = subprocess.run([sys.executable, "-m", "onnxcam", "inspect", "nowhere.onnx"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr.startswith("error: ")) == (1, True)


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_public_constant_is_documented(name: str) -> None:
    assert len(attribute_texts(source(home(name)).body).get(name, "")) >= SHORTEST


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_documented(name: str) -> None:
    assert len(getattr(onnxcam, name).__doc__ or "") >= SHORTEST


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_is_documented_with_all_its_members(name: str) -> None:
    cls = getattr(onnxcam, name)
    text, attributes = class_texts(cls)
    assert len(text) >= SHORTEST
    assert [member for member in members(cls) if not documented(cls, member, text, attributes)] == []


def test_every_attribute_of_an_explainer_is_documented() -> None:
    (node,) = (n for n in source(home("Explainer")).body if isinstance(n, ast.ClassDef) and n.name == "Explainer")
    text = ast.get_docstring(node) or ""
    (init,) = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    stores = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    public = {n.attr for n in stores if not n.attr.startswith("_")}
    assert "preset_origin" in public
    assert {name for name in public if name not in text} == set()
    options = ast.get_docstring(init) or ""
    assert {a.arg for a in [*init.args.args, *init.args.kwonlyargs] if a.arg not in options} == {"self"}


@pytest.mark.parametrize("name", ["Explainer"])
def test_no_word_of_the_scheduling_is_public(name: str) -> None:
    public = {n for n in vars(getattr(onnxcam, name)) if not n.startswith("_")}
    made = {"explain", "predict", "batch", "stream", "explain_on_device", "scorer", "measure"}
    assert public == made | {"prepare", "close", "with_method"}


def test_private_modules_list_no_public_names() -> None:
    modules = {m.name for m in pkgutil.walk_packages([str(ROOT)], "onnxcam.")} - SUBPACKAGE_LISTS
    for module in sorted(modules - {"onnxcam.__main__"}):
        assigned = [
            target.id for node in source(module).body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
        ]  # fmt: skip
        assert "__all__" not in assigned, module


def test_importing_a_module_gives_the_module() -> None:
    for module in pkgutil.walk_packages([str(ROOT)], "onnxcam."):
        parent, _, name = module.name.rpartition(".")
        if name != "__main__":
            assert inspect.ismodule(import_module(module.name))
            assert inspect.ismodule(getattr(import_module(parent), name)), module.name
