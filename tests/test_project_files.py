"""The files around the code: citation, workflows, forms, hooks, versions, and every line that installs something."""

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import onnxcam
from onnxcam.cli.main import app
from onnxcam.methods.registry import METHODS
from onnxcam.metrics.registry import METRICS

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, EXTRAS = PYPROJECT["project"], PYPROJECT["project"]["optional-dependencies"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
PROVIDED = {"gh": None, "pip": None, "onnxcam": None}
"""Programs of a runner, of Python and of the package itself; any other is a distribution that a job installs."""
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "models/*.md", ".github/**/*.yml", ".ci/run")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
CODE = sorted(path for folder in ("onnxcam", "tools") for path in (ROOT / folder).rglob("*.py"))


class UniqueKeys(yaml.SafeLoader):
    """PyYAML takes the last of two values of one key without a word; GitHub refuses the file."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"{node.start_mark}: a key stands there twice"
        return super().construct_mapping(node, deep=deep)


def loaded(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), UniqueKeys)


def test_a_key_that_stands_twice_is_seen(tmp_path: Path) -> None:
    (tmp_path / "twice.yml").write_text("jobs: {lint: 1, lint: 2}\n")
    with pytest.raises(AssertionError, match="twice"):
        loaded(tmp_path / "twice.yml")


def identifiers(text: str) -> list[str]:
    """'arXiv:...' and 'doi:...' of a source, in small letters."""
    return [each.lower().rstrip(".,;)") for each in re.findall(r"(?:arXiv|doi):\S+", text, re.IGNORECASE)]


# Citation


def test_the_citation_names_the_paper_of_every_method_and_metric() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    cited = {f"doi:{r['doi']}".lower() for r in citation["references"] if "doi" in r}
    cited |= {i["value"].lower() for r in citation["references"] for i in r.get("identifiers", ())}
    papers = {each for make in METHODS.values() for each in identifiers(str(make().paper))}
    papers |= {each for metric in METRICS.values() for each in identifiers(metric.source)}
    assert len(papers) > 15
    assert papers <= cited


def test_the_citation_has_what_its_format_requires() -> None:
    citation = loaded(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == PROJECT["license"]
    assert all(citation[field] for field in ("message", "title", "authors"))
    for reference in citation["references"]:
        assert all(reference[field] for field in ("type", "title", "authors", "year"))
        assert all(author["family-names"] and author["given-names"] for author in reference["authors"])


# Version


def test_the_version_stands_in_pyproject_alone() -> None:
    version = PROJECT["version"]
    assert onnxcam.__version__ == metadata.version("onnxcam")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    places = [*(ROOT / "onnxcam").rglob("*.py"), ROOT / "CITATION.cff", *WORKFLOWS, *FORMS]
    assert [path.name for path in places if version in path.read_text("utf-8")] == []


# Lines that install


def installed(text: str) -> list[tuple[str, list[str]]]:
    """(distribution or '.', extras) of each requirement of onnxcam in the `pip install` lines of a text."""
    lines = re.findall(r"pip install [^`&;\n]*", text)
    words = re.findall(r"""["' ](onnxcam|\.)(?:\[([a-z0-9,_-]+)\])?(?=["'\s;`]|$)""", "\n".join(lines))
    return [(name, [extra for extra in extras.split(",") if extra]) for name, extras in words]


def test_every_extra_that_a_line_installs_exists() -> None:
    for path in [*TEXTS, *CODE]:
        for _, extras in installed(path.read_text("utf-8")):
            assert set(extras) <= set(EXTRAS), path


def test_lines_that_install_are_read() -> None:
    assert installed('pip install ".[cpu,plot]" && onnxcam demo') == [(".", ["cpu", "plot"])]
    assert installed('it needs `pip install "onnxcam[ray]"`.') == [("onnxcam", ["ray"])]
    assert installed('pip install -e ".[cpu]" pre-commit') == [(".", ["cpu"])]
    assert installed("pip install pillow\npip install onnxcam") == [("onnxcam", [])]
    assert sum(bool(installed(path.read_text("utf-8"))) for path in [*TEXTS, *CODE]) > 15


def test_no_line_installs_onnxcam_for_the_first_time_from_an_index() -> None:
    """A name without a runtime is true at all times: pip adds an extra to what is installed, from its metadata."""
    if "not on PyPI yet" not in (ROOT / "README.md").read_text("utf-8"):
        return  # it is published
    for path in TEXTS:
        for name, extras in installed(path.read_text("utf-8")):
            first = name == "onnxcam" and (not extras or {"cpu", "gpu"} & set(extras))
            assert not first, f"{path.name}: install from a clone (pip install '.[...]') until an index has onnxcam"


# Workflows


def steps(workflow: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(job, command lines in order) of each job."""
    jobs = workflow["jobs"].items()
    return [(name, [line for s in job["steps"] if "run" in s for line in s["run"].splitlines()]) for name, job in jobs]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_limits_and_only_versioned_actions(path: Path) -> None:
    workflow = loaded(path)
    assert workflow[True], "'on', which YAML reads as a truth value"
    assert "permissions" in workflow
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v1"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_command_of_a_workflow_exists(path: Path) -> None:
    for job, lines in steps(loaded(path)):
        available = set(PROVIDED)
        for line in lines:
            check_command(shlex.split(line), available, f"{path.name}, {job}: {line}")


def check_command(words: list[str], available: set[str], where: str) -> None:
    """Checks one line; `available` gains what it installs."""
    program, *rest = words
    if program == "python":
        if rest[0] == "-m":
            program, *rest = rest[1:]
        else:
            assert (ROOT / rest[0]).is_file(), where
            return
    assert program in available, f"{where}: no earlier line installs {program}"
    if program == "pip":
        available |= distributions(rest)
    elif program == "onnxcam":
        assert rest[0] in COMMANDS, where
    for word in rest:
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*\.(yml|py|cff|md|toml)", word) and word != "notes.md":
            assert (ROOT / word).is_file(), where


def distributions(words: list[str]) -> set[str]:
    """The names of what `pip install` is given, with those of the extras of this project."""
    names: set[str] = set()
    for word in words:
        extras = re.fullmatch(r"\.\[([a-z,]+)\]", word)
        for extra in extras[1].split(",") if extras else ():
            names |= {re.split(r"[\[<>=~ ]", requirement)[0] for requirement in EXTRAS[extra]}
    return names | {word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)}


def test_the_tests_run_on_every_python_that_is_supported() -> None:
    versions = loaded(ROOT / ".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={versions[0]}"


def test_the_workflow_checks_what_a_contributor_is_told_to_check() -> None:
    lines = [line for _, job in steps(loaded(ROOT / ".github/workflows/ci.yml")) for line in job]
    line = re.search(r"^ruff check .*$", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    assert line is not None
    for command in line[0].split(" && "):
        assert command in lines


# Forms and hooks


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_asks_for_version_model_and_what_was_read_in_it(path: Path) -> None:
    form = loaded(path)
    assert all(form[field] for field in ("name", "description", "body"))
    fields = {each["id"]: each for each in form["body"] if each["type"] != "markdown"}
    assert fields["version"]["attributes"]["label"] == "onnxcam --version"
    assert fields["version"]["validations"]["required"] is True or path.name == "proposal.yml"
    assert fields["source"]["validations"]["required"] is True
    assert re.search(r"onnxcam inspect .*--json", path.read_text("utf-8"))


def test_the_hooks_run_programs_of_the_extras() -> None:
    available = distributions([".[cpu,dev,test]"])
    hooks = [hook for repo in loaded(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "mypy"}
    for hook in hooks:
        check_command(shlex.split(hook["entry"]), available, hook["id"])


@pytest.mark.parametrize("name", ["CODE_OF_CONDUCT.md", ".github/PULL_REQUEST_TEMPLATE.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_exist(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) + re.findall(r"\b[A-Z]+\.md\b", text)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_code_of_conduct_reports_where_the_security_policy_does() -> None:
    policy = (ROOT / "SECURITY.md").read_text("utf-8")
    assert "SECURITY.md#how-to-report-a-hole" in (ROOT / "CODE_OF_CONDUCT.md").read_text("utf-8")
    assert "\n## How to report a hole\n" in policy
    assert "private reports" in policy
