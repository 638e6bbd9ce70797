"""docs/benchmarks.md: its tables are those of docs/benchmarks.json, and every part of run_all.py has one."""

import argparse
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from programs import tool

ROOT = Path(__file__).parents[2]
PAGE, DATA = ROOT / "docs/benchmarks.md", ROOT / "docs/benchmarks.json"
FIELDS = {"what", "value", "least", "most", "rounds", "reach", "met", "note"}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools/benchmarks"))
    return tool("benchmarks/page")


def row(what: str, values: list[float], reach: str = "", note: str = "") -> dict[str, Any]:
    made: dict[str, Any] = tool("benchmarks/table").row(what, values, reach, note)
    return made


def test_the_page_is_what_its_figures_make(page: ModuleType) -> None:
    """If this fails: `python tools/benchmarks/page.py`."""
    text = PAGE.read_text("utf-8")
    assert page.with_tables(text, json.loads(DATA.read_text("utf-8"))) == text


def test_every_part_has_its_table_and_every_table_its_part(page: ModuleType) -> None:
    names = "pictures boxes rounds work channels large_rounds".split()
    arguments = argparse.Namespace(model=[], **dict.fromkeys(names))
    parts = set(tool("benchmarks/run_all").commands(arguments))
    places = re.findall(r"<!-- measured: (\w+) -->", PAGE.read_text("utf-8"))
    assert sorted(places) == sorted(parts)
    assert set(json.loads(DATA.read_text("utf-8"))) <= parts


def test_the_figures_are_rows_whose_verdict_follows_from_their_value() -> None:
    is_met = tool("benchmarks/table").is_met
    for name, part in json.loads(DATA.read_text("utf-8")).items():
        assert {"when", "machine", "versions", "rows"} <= set(part), name
        for each in part["rows"]:
            assert set(each) >= FIELDS, each
            assert each["met"] == is_met(each["value"], each["reach"]), each
            assert each["value"] is not None or each["note"], each


PART = {"when": "2026-11-05T10:00+00:00", "machine": "Some CPU, 2 cores", "versions": {"torch": "2.0", "numpy": "2"}}


def test_a_line_says_where_and_how_busy(page: ModuleType) -> None:
    start = "*5 November 2026; Some CPU, 2 cores; torch 2.0."
    assert page.measured_on(PART) == f"{start}*"
    assert page.measured_on({**PART, "others": 0.04}) == f"{start} A quiet machine.*"
    assert "Other processes took 60% of the machine: " in page.measured_on({**PART, "others": 0.6})
    assert page.measured_on({**PART, "gpus": ["H1, 5.0"], "comment": "By hand."}).endswith(
        "H1, 5.0; torch 2.0. By hand.*"
    )


def test_a_plain_table_has_spread_bound_and_what_was_not_measured(page: ModuleType) -> None:
    rows = [row("a / b", [1.0, 2.0, 4.0], ">= 3", "why"), row("memory", [1234.5]), row("gpu", [], ">= 5", "no GPU")]
    assert list(page.plain_table(rows))[2:] == [
        "| a / b | 2 (1 to 4) | >= 3, missed | why |",
        "| memory | 1234 |  |  |",
        "| gpu | not measured | >= 5 | no GPU |",
    ]


def test_figures_of_one_subject_stand_in_one_line(page: ModuleType) -> None:
    rows = [
        row("vgg: ours", [1.0], "<= 2", "7 live"), row("vgg: theirs", [3.0]), row("lite: ours", [4.0]),
        row("lite: theirs", []), row("start: seconds", [0.5]), row("the rest of it", [], "", "ended"),
    ]  # fmt: skip
    assert list(page.crossed_table(rows)) == [
        "| | ours | theirs |", "|---|---|---|",
        "| vgg | 1; reach <= 2 | 3 |", "| lite | 4 | not measured |",
        "", "- vgg: 7 live", "",
        "| what | measured | reach | note |", "|---|---|---|---|",
        "| start: seconds | 0.5 |  |  |", "| the rest of it | not measured |  | ended |",
    ]  # fmt: skip


def test_methods_that_were_not_measured_follow_with_their_reason(page: ModuleType) -> None:
    measured = {**row("x", [0.5]), "tool": "onnxcam", "method": "cam", "first": 0.75, "processor": 0.25}
    qualities = {"pearson": 0.9, "insertion": 0.75, "deletion": 0.5}
    missing = {**row("y", [], "", "TorchCAM is not installed"), "tool": "TorchCAM", "method": "CAM"}
    assert list(page.quality_table([missing, {**measured, **qualities}]))[2:] == [
        "| onnxcam | cam | 0.25 | 0.5 | 0.75 | 0.900 | 0.250 |",
        "| TorchCAM | CAM | not measured: TorchCAM is not installed | | | | |",
    ]


def test_a_part_that_was_never_measured_is_said_to_be_so_and_the_text_stays(page: ModuleType) -> None:
    text = "before\n<!-- measured: gpu -->\nold\n<!-- end -->\nafter\n"
    made = page.with_tables(text, {})
    assert made == "before\n<!-- measured: gpu -->\n\nNot measured yet.\n\n<!-- end -->\nafter\n"
    assert page.with_tables(made, {}) == made
