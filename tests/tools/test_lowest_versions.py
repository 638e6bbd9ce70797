"""The lowest versions are those that pyproject.toml names, of the extras too."""

import tomllib

import pytest
from programs import tool

lowest = tool("lowest_versions")


def test_every_dependency_is_pinned_to_its_lower_bound() -> None:
    project = {
        "name": "p",
        "dependencies": ["numpy>=2.1.0", "opencv-python >= 4.12.0.88"],
        "optional-dependencies": {"cpu": ["onnxruntime>=1.26.0"], "test": ["pytest>=8", "p[gpu]"], "gpu": ["g[a,b]==1.0"]},
    }  # fmt: skip
    assert lowest.constraints(project, ["cpu", "test"]) == [
        "g==1.0", "numpy==2.1.0", "onnxruntime==1.26.0", "opencv-python==4.12.0.88", "pytest==8",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["numpy", "numpy<3", "numpy>=2,<3", "numpy~=2.0", "numpy>=2; python_version<'3.12'"])
def test_a_requirement_without_a_plain_lower_bound_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="lowest version"):
        lowest.pinned(text)


def test_the_projects_bounds_can_be_read() -> None:
    project = tomllib.loads(lowest.PYPROJECT.read_text("utf-8"))["project"]
    assert lowest.constraints(project, project["optional-dependencies"])
