"""Checks that a wheel holds every file of the package and nothing else, under the version of pyproject.toml.

    python -m build && twine check --strict dist/* && python tools/check_wheel.py dist/*.whl

Prints one line a problem and exits with 1, or says how many files there are. Needs nothing but Python.
"""

import argparse
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"onnxcam": "onnxcam", "models": "onnxcam/models"}
"""Folder of the repository, and its place in the wheel."""
NEEDED = (
    "onnxcam/py.typed",
    "onnxcam/models/efficientnet-lite0.onnx",
    "onnxcam/models/efficientnet-lite0.md",
    "onnxcam/models/chelsea.jpg",
    "onnxcam/models/coffee.jpg",
    "onnxcam/outputs/record.schema.json",
)
"""Files that are found by their names at run time, or by type checkers; more of them may be there."""


def package_files(root: Path) -> set[str]:
    """The names in the wheel of all files of the package in the repository at root."""
    return {
        f"{place}/{path.relative_to(root / folder).as_posix()}"
        for folder, place in FOLDERS.items()
        for path in (root / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def problems(wheel: Path, root: Path) -> Iterator[str]:
    """What is wrong with a wheel that was built from the repository at root, a line each."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    info = f"{project['name']}-{project['version']}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        if f"{info}/METADATA" not in names:
            yield f"it is not version {project['version']} of {project['name']}: it has no {info}/METADATA"
            return
        files = {name for name in names if not name.startswith(f"{info}/")}
        expected = package_files(root)
        yield from (f"missing: {name}" for name in sorted((expected | set(NEEDED)) - files))
        yield from (f"not of the package: {name}" for name in sorted(files - expected))
        yield from _metadata_problems(archive, info, project)


def _metadata_problems(archive: zipfile.ZipFile, info: str, project: dict[str, object]) -> Iterator[str]:
    metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode("utf-8"))
    stated = {"Version": project["version"], "Requires-Python": project["requires-python"]}
    for field, value in stated.items():
        if metadata[field] != value:
            yield f"{field} is {metadata[field]!r}, in pyproject.toml {value!r}"
    optional = project.get("optional-dependencies", {})
    assert isinstance(optional, dict)
    extras = set(metadata.get_all("Provides-Extra", []))
    if extras != set(optional):
        yield f"its extras are {sorted(extras)}, in pyproject.toml {sorted(optional)}"
    points = ConfigParser()
    points.read_string(archive.read(f"{info}/entry_points.txt").decode("utf-8"))
    if not points.has_section("console_scripts") or dict(points["console_scripts"]) != project.get("scripts"):
        yield "its commands are not those of pyproject.toml"
    if not any(name.startswith(f"{info}/") and name.endswith("/LICENSE") for name in archive.namelist()):
        yield "it has no LICENSE"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--tag", help="the tag of the release, such as v0.1.0, which must name this version")
    arguments = parser.parse_args()
    lines = list(problems(arguments.wheel, ROOT))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    if arguments.tag is not None and arguments.tag.removeprefix("v") != version:
        lines.append(f"the tag is {arguments.tag}, and the version of pyproject.toml {version}")
    if lines:
        raise SystemExit("\n".join(f"{arguments.wheel.name}: {line}" for line in lines))
    print(f"{arguments.wheel.name}: {len(package_files(ROOT))} files of the package, and nothing else")


if __name__ == "__main__":
    main()
