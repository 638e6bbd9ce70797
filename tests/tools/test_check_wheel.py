"""A wheel with a file too few or too many, or of another version, is seen."""

import zipfile
from pathlib import Path

import pytest
from programs import tool

wheels = tool("check_wheel")

PYPROJECT = """[project]
name = "onnxcam"
version = "1.2.3"
requires-python = ">=3.11"
[project.optional-dependencies]
cpu = []
[project.scripts]
onnxcam = "onnxcam.cli.start:start"
"""
INFO = "onnxcam-1.2.3.dist-info"
METADATA = "Name: onnxcam\nVersion: 1.2.3\nRequires-Python: >=3.11\nProvides-Extra: cpu\n\nText\n"
POINTS = "[console_scripts]\nonnxcam = onnxcam.cli.start:start\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository that holds what a wheel needs, one module, and a test beside it."""
    root = tmp_path / "repository"
    sources = [name.replace("onnxcam/models/", "models/") for name in wheels.NEEDED]
    for name in [*sources, "onnxcam/__init__.py", "onnxcam/__pycache__/x.pyc", "tests/test_x.py"]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "pyproject.toml").write_text(PYPROJECT)
    return root


def wheel(root: Path, changes: dict[str, str | None]) -> Path:
    """A right wheel of that repository, with these files changed, added or (None) left out."""
    files: dict[str, str | None] = dict.fromkeys(wheels.package_files(root), "x")
    files |= {f"{INFO}/METADATA": METADATA, f"{INFO}/entry_points.txt": POINTS, f"{INFO}/licenses/LICENSE": "x"}
    path = root / "onnxcam-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in (files | changes).items():
            if text is not None:
                archive.writestr(name, text)
    return path


def test_a_right_wheel_has_no_problem(root: Path) -> None:
    assert list(wheels.problems(wheel(root, {}), root)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"onnxcam/py.typed": None}, "missing: onnxcam/py.typed"),
        ({"onnxcam/models/coffee.jpg": None}, "missing: onnxcam/models/coffee.jpg"),
        ({"onnxcam/__init__.py": None}, "missing: onnxcam/__init__.py"),
        ({"tests/test_x.py": "x"}, "not of the package: tests/test_x.py"),
        ({"onnxcam/__pycache__/x.pyc": "x"}, "not of the package: onnxcam/__pycache__/x.pyc"),
        ({f"{INFO}/METADATA": None}, f"it is not version 1.2.3 of onnxcam: it has no {INFO}/METADATA"),
        (
            {f"{INFO}/METADATA": METADATA.replace("1.2.3", "1.2.4")},
            "Version is '1.2.4', in pyproject.toml '1.2.3'",
        ),
        ({f"{INFO}/METADATA": METADATA.replace("cpu", "gpu")}, "its extras are ['gpu'], in pyproject.toml ['cpu']"),
        ({f"{INFO}/entry_points.txt": "[console_scripts]\n"}, "its commands are not those of pyproject.toml"),
        ({f"{INFO}/licenses/LICENSE": None}, "it has no LICENSE"),
    ],
)
def test_each_problem_is_a_line(root: Path, changes: dict[str, str | None], problem: str) -> None:
    assert list(wheels.problems(wheel(root, changes), root)) == [problem]


def test_a_file_that_the_repository_lost_is_missed_too(root: Path) -> None:
    (root / "models/coffee.jpg").unlink()
    assert list(wheels.problems(wheel(root, {}), root)) == ["missing: onnxcam/models/coffee.jpg"]
