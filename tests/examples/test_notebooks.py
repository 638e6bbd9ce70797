"""The notebooks of examples/: what is stored of them is clean, and (marked `notebooks`) what they show today."""

import base64
import io
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from programs import tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
ENOUGH = 2_000_000
"""Bytes of all notebooks together."""
WIDE = 96
"""Letters in a line of a cell that pages show without scrolling."""
PATH_OF_A_MACHINE = re.compile(
    r"(?:/(?:home|root|tmp|work|usr|opt|var|Users|private)/|[A-Z]:\\\\|site-packages)[\w.-]*"
)


def stored(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
    return notebook


def code_cells(name: str) -> list[dict[str, Any]]:
    return [cell for cell in stored(name)["cells"] if cell["cell_type"] == "code"]


def outputs(name: str) -> list[dict[str, Any]]:
    return [output for cell in code_cells(name) for output in cell["outputs"]]


def test_the_notebooks_are_these_and_small() -> None:
    assert NOTEBOOKS == ["compare-and-measure", "detector", "fastapi", "first-steps", "own-method"]
    assert sum((FOLDER / f"{name}.ipynb").stat().st_size for name in NOTEBOOKS) < ENOUGH


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_as_it_ran_from_the_top_without_an_error(name: str) -> None:
    cells = code_cells(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = outputs(name)
    assert {output["output_type"] for output in shown} <= {"stream", "display_data", "execute_result"}
    assert {output["name"] for output in shown if output["output_type"] == "stream"} <= {"stdout"}, "no warnings"
    assert any({"text/html", "image/jpeg"} & set(output.get("data", ())) for output in shown), "a map is shown"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_no_metadata_of_an_editor_and_of_a_map_its_html_and_its_picture(name: str) -> None:
    notebook = stored(name)
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{i + 1}" for i in range(len(notebook["cells"]))]
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    for output in outputs(name):
        if "data" in output:
            maps = "data:image" in "".join(output["data"].get("text/html", ()))
            assert output["metadata"] == {}
            assert len(output["data"]) == 1 + maps
            assert not maps or output["data"]["image/jpeg"].startswith("/9j/"), "code hosts clean HTML of pictures"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_names_no_path_of_a_machine(name: str) -> None:
    text = re.sub(
        r"base64,[A-Za-z0-9+/=\\n]*|\"image/(?:png|jpeg)\": \"[^\"]*\"",
        "",
        (FOLDER / f"{name}.ipynb").read_text("utf-8"),
    )
    assert PATH_OF_A_MACHINE.findall(text) == []
    assert str(ROOT) not in text
    assert PATH_OF_A_MACHINE.findall('"/home/someone/x.jpg" "C:\\\\Users" "/tmp/ipykernel_1/2.py"')


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_reads_nothing_but_what_a_clone_has(name: str) -> None:
    code = "\n".join("".join(cell["source"]) for cell in code_cells(name))
    files = re.findall(r'"(\.\./\.\./[^"{]+)"', code)
    assert files
    assert all((FOLDER / path).is_file() for path in files)
    assert not re.search(r"https?://(?!127\.0\.0\.1)|^\s*[!%]", code, re.MULTILINE)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_line_of_a_cell_is_cut_off(name: str) -> None:
    lines = "\n".join("".join(cell["source"]) for cell in code_cells(name)).splitlines()
    assert [line for line in lines if len(line) > WIDE] == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_link_of_a_notebook_leads_to_a_file(name: str) -> None:
    words = "\n".join("".join(cell["source"]) for cell in stored(name)["cells"] if cell["cell_type"] == "markdown")
    targets = re.findall(r"\]\(([^)#\s]+)", words)
    assert targets
    assert [target for target in targets if not (FOLDER / target).exists()] == []


def test_the_extra_has_what_the_notebooks_import() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    installed = {re.split(r"[>=\[]", line)[0] for line in [*extras["notebooks"], *extras["plot"], *extras["table"]]}
    code = "\n".join("".join(cell["source"]) for name in NOTEBOOKS for cell in code_cells(name))
    packages = set(re.findall(r"^(?:import|from) (fastapi|uvicorn|matplotlib|pandas)\b", code, re.MULTILINE))
    assert packages == {"fastapi", "uvicorn", "matplotlib", "pandas"} & installed
    assert "onnxcam[plot,table]" in extras["notebooks"]


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_shows_what_is_stored(name: str) -> None:
    import nbformat

    program, path = tool("run_notebooks"), FOLDER / f"{name}.ipynb"
    before = nbformat.read(path, 4)
    nbformat.validate(before)
    assert list(program.differences(before, program.executed(path))) == []


@pytest.mark.notebooks
def test_another_number_word_or_form_is_a_difference() -> None:
    program = tool("run_notebooks")
    assert program.alike("espresso 95.7%", "espresso 95.6%")
    assert not program.alike("espresso 95.7%", "espresso 85.7%")
    assert not program.alike("espresso 95.7%", "cup 95.7%")
    assert not program.alike("espresso", "espresso 1")


@pytest.mark.notebooks
def test_what_a_cell_shows_is_compared_and_records_and_drawings_are_not() -> None:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    png = base64.b64encode(file.getvalue()).decode()

    def notebook(text: str, html: str) -> Any:
        forms = {"text/html": html, "image/png": png, "text/plain": "x"}
        shown = [new_output("stream", text=text), new_output("display_data", forms)]
        return tool("run_notebooks").clean(new_notebook(cells=[new_code_cell("f()", outputs=shown)]))

    def differ(text: str, html: str) -> int:
        made = notebook("cup 0.5", '<img src="data:image/jpeg;base64,AAA"> cup <pre>seconds 1</pre>')
        stored = nbformat.reads(nbformat.writes(made), 4)
        assert sorted(stored.cells[0].outputs[1].data) == ["image/jpeg", "text/html"]
        return len(list(tool("run_notebooks").differences(stored, notebook(text, html))))

    assert differ("cup 0.51", '<img src="data:image/jpeg;base64,BBB"> cup <pre>seconds 9</pre>') == 0
    assert differ("cup 0.6", '<img src="data:image/jpeg;base64,AAA"> cup <pre>seconds 1</pre>') == 1
    assert differ("cup 0.5", '<img src="data:image/jpeg;base64,AAA"> plate <pre>seconds 1</pre>') == 1


@pytest.mark.notebooks
def test_a_cell_that_fails_ends_the_run_and_leaves_the_file(tmp_path: Path) -> None:
    import nbformat
    from nbclient.exceptions import CellExecutionError
    from nbformat.v4 import new_code_cell, new_notebook

    path = tmp_path / "fails.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(6 * 7)"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        tool("run_notebooks").executed(path)
    assert path.read_bytes() == before
