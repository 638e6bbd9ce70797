"""The program that runs all benchmarks: failing parts, rows that need a GPU, and files with earlier rows."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import tool

TOOL = Path(__file__).parents[2] / "tools" / "benchmarks" / "run_all.py"
WITHOUT_GPU = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, TOOL, *words, "--json", str(folder / "rows.json")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=WITHOUT_GPU)


@pytest.mark.parametrize(
    ("values", "reach", "value", "met"),
    [([3.0, 1.0, 2.0], ">= 2", 2.0, True), ([1.0, 1.5, 9.0], ">= 2", 1.5, False), ([0.4], "<= 1e-5", 0.4, False),
     ([0.0], "<= 0", 0.0, True), ([7.0], "", 7.0, None), ([], ">= 2", None, None)],
)  # fmt: skip
def test_a_row_is_the_median_and_whether_it_reaches(
    values: list[float], reach: str, value: float | None, met: bool | None
) -> None:
    row = tool("benchmarks/table").row("what", values, reach, "why")
    assert (row["value"], row["met"], row["rounds"], row["note"]) == (value, met, len(values), "why")
    assert (row["least"], row["most"]) == ((min(values), max(values)) if values else (None, None))


def test_without_a_gpu_its_rows_are_listed_as_not_measured(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "gpu")
    results = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0
    assert all("provider cuda" in row["note"] for row in results["gpu"]["rows"])
    assert [row["reach"] for row in results["gpu"]["rows"]] == [">= 0.95", ">= 5", ">= 10", ">= 0.9999", ">= 0.999"]
    assert all(row["value"] is None for row in results["gpu"]["rows"])
    assert set(results["gpu"]) >= {"when", "machine", "versions"}


def test_a_part_that_fails_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "--only", "several_pictures", "--only", "gpu", "--pictures", str(tmp_path / "empty"))
    assert done.returncode == 1
    parts = json.loads((tmp_path / "rows.json").read_text())
    assert parts["several_pictures"]["rows"][-1]["what"] == "the rest of several_pictures"
    assert "ended with 1" in parts["several_pictures"]["rows"][-1]["note"]
    assert "empty" in parts["several_pictures"]["rows"][-1]["note"]
    assert parts["gpu"]["rows"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "rows.json"]


def test_parts_measured_earlier_stay_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    before = {
        "speed": {
            "when": "then",
            "rows": [tool("benchmarks/table").row("quick [as ever", [2.0, 3.0], ">= 1", "[/odd] [gpu]")],
        }
    }
    file.write_text(json.dumps(before))
    done = run(tmp_path, "--only", "gpu")
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert results["speed"] == before["speed"]
    assert set(results) == {"speed", "gpu"}
    assert "quick [as ever" in done.stdout
    assert "[/odd] [gpu]" in done.stdout


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere", "--only", "several_pictures")
    assert done.returncode == 2
    assert "rows.json cannot be used" in done.stderr
    assert "measuring" not in done.stderr


@pytest.mark.parametrize("text", ["[1]", "{", '{"parts": 3}', "\xff"])
def test_a_file_that_holds_something_else_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(text.encode("latin-1"))
    done = run(tmp_path, "--only", "gpu")
    assert done.returncode == 2
    assert "rows.json cannot be used" in done.stderr
    assert file.read_bytes() == text.encode("latin-1")


def test_every_part_takes_the_arguments_that_run_all_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    given = {"pictures": tmp_path, "model": ["a.onnx"], "boxes": tmp_path, "rounds": 2, "work": tmp_path}
    words = {**given, "channels": 64, "large_rounds": 1}
    for part, arguments in tool("benchmarks/run_all").commands(argparse.Namespace(**words)).items():
        source = (TOOL.parent / f"{part}.py").read_text()
        options = [word for word in arguments if word.startswith("--")]
        assert all(f'"{option}"' in source for option in options), part


def test_an_unknown_part_is_named_with_the_known_ones(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "tpu")
    assert done.returncode == 2
    assert "no part is called tpu; there are methods, basics, first" in done.stderr


def test_a_part_whose_packages_are_missing_is_listed_as_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    run_all = tool("benchmarks/run_all")
    monkeypatch.setattr(run_all, "NEEDS", {"speed": ("sys", "no_such_package")})
    part, whole = run_all.measured("speed", [], TOOL.parent / "none.json")
    assert whole
    assert [(row["what"], row["value"]) for row in part["rows"]] == [("all of speed", None)]
    assert part["rows"][0]["note"] == 'needs no_such_package: pip install ".[bench]"'


def test_the_share_of_others_is_of_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOL.parent))
    conditions = tool("benchmarks/conditions")
    seconds = iter([10.0, 10.5])
    monkeypatch.setattr(conditions, "_elsewhere", lambda: next(seconds))
    monkeypatch.setattr(conditions.time, "perf_counter", iter([0.0, 1.0]).__next__)
    monkeypatch.setattr(conditions.os, "cpu_count", lambda: 2)
    assert conditions.others_share()() == (0.25 if Path("/proc/stat").exists() else None)


@pytest.mark.slow
def test_the_budget_part_measures_a_picture(tmp_path: Path) -> None:
    """It gives methods a probe of its own, which type checkers cannot compare with the network's."""
    pictures = Path(__file__).parents[2] / "models"
    rows = tmp_path / "budget.json"
    command = [sys.executable, TOOL.with_name("budget.py"), pictures, "--limit", "1", "--json", rows]
    subprocess.run(command, check=True, timeout=300, capture_output=True, env=WITHOUT_GPU)
    measured = {row["what"]: row["value"] for row in json.loads(rows.read_text())}
    assert measured["embedded, budget 64: pearson mean"] > 0.99
