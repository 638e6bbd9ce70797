"""The program behind the tables of docs/metrics.md, on the summary of an evaluation made by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
from evaluated import row, rows

from onnxcam.evaluation.collection import collect
from onnxcam.evaluation.export import export
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.summary import summarise

pytest.importorskip("pyarrow")
TOOL = Path(__file__).parents[2] / "tools" / "metric_tables.py"


def printed(folder: Path, given: list[Row]) -> list[str]:
    export(given, summarise(collect(given)), folder)
    command = [sys.executable, TOOL, folder / "summary.json"]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout.splitlines()


def test_a_cell_holds_mean_interval_difference_and_what_this_method_lacks(tmp_path: Path) -> None:
    """Every picture of a has 0.5, of b 0.25: intervals without width, and a difference that excludes 0."""
    given = [
        *rows({
            "a": {"insertion:blur-rise": [0.5] * 8, "energy_pointing_game": [1.0] * 7 + [None]},
            "b": {"insertion:blur-rise": [0.25] * 7 + [None], "energy_pointing_game": [1.0] * 6 + [None] * 2},
            "ones": {"insertion:blur-rise": [None] * 8, "energy_pointing_game": [0.5] * 7 + [None]},
        })
    ]  # fmt: skip
    lines = printed(tmp_path, given)
    assert lines == [
        "**Insertion and deletion**", "",
        "| method | insertion:blur-rise ↑ |", "|---|---|",
        "| a | 0.5 (0.5 to 0.5) |",
        "| b | 0.25 (0.25 to 0.25), 1 without a value<br>**-0.25** (-0.25 to -0.25) |",
        "| *map of ones* | undefined |", "",
        "**Where the object is**", "",
        "| method | energy-pointing-game ↑ |", "|---|---|",
        "| a | 1 (1 to 1) |",
        "| b | 1 (1 to 1), 1 without a value<br>+0 (+0 to +0) |",
        "| *map of ones* | 0.5 (0.5 to 0.5)<br>**-0.5** (-0.5 to -0.5) |", "",
    ]  # fmt: skip


def test_few_pictures_have_no_interval_and_each_model_has_tables_of_its_own(tmp_path: Path) -> None:
    given = [row("0.jpg", name, "mystery", 0.5, model=model) for model in ("mini", "tiny") for name in ("a", "b")]
    lines = printed(tmp_path, given)
    headings = [line for line in lines if line.startswith("#")]
    assert headings == ["### mini, target: prediction", "### tiny, target: prediction"]
    assert lines.count("| b | 0.5<br>+0 |") == 2
