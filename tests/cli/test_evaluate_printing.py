"""What `onnxcam evaluate` prints: tables that fit a terminal, progress, durations."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxcam.cli import evaluation_progress
from onnxcam.cli.evaluation_progress import duration, evaluation_bar, pace_text
from onnxcam.cli.evaluation_summary import announcement, evaluation_summary
from onnxcam.evaluation.collection import collect
from onnxcam.evaluation.dataset import DataItem, DataSet
from onnxcam.evaluation.journal import Journal
from onnxcam.evaluation.options import EvaluationOptions
from onnxcam.evaluation.pace import EvaluationProgress
from onnxcam.evaluation.results import Results
from onnxcam.evaluation.rows import Row, RowKey
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.runs import Run, RunState
from onnxcam.evaluation.summary import summarise

METHODS = {"score-cam": 0.0, "grad-cam": 20.0, "gaussian": -5.0}


def rows(pictures: int = 12) -> Iterator[Row]:
    """Average drops around 30 plus that of METHODS; deletion, which the baseline does not have here; one picture broken."""
    noise = np.random.default_rng(0).uniform(0, 2, pictures)
    for i in range(pictures):
        for method, more in METHODS.items():
            key = RowKey("5a", "0f", f"{i}.png", f"{i:064}", method, "prediction", "average_drop", "mult", "{}")
            cost = {
                "method_passes": 40,
                "method_seconds": 1.5,
                "target_index": 1,
                "target_name": "cat",
                "probability": 0.5,
            }
            if i == 3:
                broken = RowKey("5a", "0f", f"{i}.png", f"{i:064}", method, "prediction", "", "", "{}")
                yield Row(broken, "net.onnx", method, error=f"{i}.png: cut short")
                continue
            yield Row(key, "net.onnx", method, 30 + more + noise[i], **cost)  # type: ignore[arg-type]
            deletion = RowKey("5a", "0f", f"{i}.png", f"{i:064}", method, "prediction", "deletion", "zero", "{}")
            reason = {"reason": "no order"} if method == "gaussian" else {}
            value = None if method == "gaussian" else 0.25 + noise[i] / 100
            yield Row(deletion, "net.onnx", method, value, **reason, **cost)  # type: ignore[arg-type]


@pytest.fixture
def results() -> Results:
    collection = collect(rows())
    return Results(
        Run(1, RunState.FINISHED, RunRecord()),
        collection,
        summarise(collection),
        (Path("out/a.csv"), Path("out/b.html")),
    )


def printed(results: Results, monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    return evaluation_summary(results, None, 75.0)


def without_maps(method: str, pictures: list[str]) -> list[Row]:
    """A row of each picture whose map could not be made."""
    return [
        Row(RowKey("5a", "0f", name, f"{i:064}", method, "prediction", "", "", "{}"), "net.onnx", method, error="x")
        for i, name in enumerate(pictures)
    ]


def test_a_table_has_means_intervals_differences_and_marks(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(results, monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    assert lines[:2] == [
        "net.onnx, 12 pictures, 1 with errors, target: prediction",
        "  means with 95 % intervals; differences to score-cam",
    ]
    best, worse, baseline = (line.split() for line in lines[3:6])
    assert lines[2].split()[:3] == ["average-drop", "(mult),", "%"]
    assert (best[:2], worse[0], baseline[:2]) == (["*", "score-cam"], "grad-cam", ["!", "(gaussian)"])
    assert (worse[4:], baseline[5:]) == (["+20.0", "[+20.0,", "+20.0]"], ["-5.0", "[-5.0,", "-5.0]"])
    (undefined,) = (line for line in lines if "undefined" in line)
    assert undefined.split() == ["(gaussian)", "-", "11", "undefined"]
    assert lines[-1] == "12 pictures, 69 rows, 1 min 15 s"
    assert "  cost     score-cam: 1.5 s and 40 passes a map" in lines
    (error,) = (line for line in lines if "cut short" in line)
    assert error == "  errors   3.png: cut short", "of all methods, so it is said once"


def test_too_few_pictures_have_no_interval_and_a_smaller_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(given: list[Row]) -> list[list[str]]:
        collection = collect(given)
        results = Results(Run(1, RunState.FINISHED, RunRecord()), collection, summarise(collection), (Path("a.csv"),))
        return [line.split() for line in printed(results, monkeypatch, 200)]

    few = [one for one in rows() if one.key.picture in ("0.png", "1.png")]
    lines = shown(few)
    assert " ".join(lines[1]) == "means; intervals need 6 pictures; differences to score-cam"
    assert not any("[" in word for line in lines for word in line)
    mixed = [one for one in rows() if one.key.method != "grad-cam" or one.key.picture in ("0.png", "1.png")]
    lines = shown(mixed)
    assert " ".join(lines[1]) == "means with 95 % intervals, which need 6 pictures; differences to score-cam"
    (grad_cam, _) = (line for line in lines if line[:1] == ["grad-cam"] or line[1:2] == ["grad-cam"])
    assert "n = 2," in " ".join(grad_cam)
    assert not any("[" in word for word in grad_cam)


def ended(given: list[Row], monkeypatch: pytest.MonkeyPatch, *files: str) -> str:
    """What is printed of these rows, with files, as one line."""
    collection = collect(given)
    paths = tuple(Path("out", name) for name in ("results.parquet", *files))
    lines = printed(
        Results(Run(1, RunState.FINISHED, RunRecord()), collection, summarise(collection), paths), monkeypatch, 200
    )
    return " | ".join(" ".join(line.split()) for line in lines)


def test_errors_of_metrics_are_counted_and_the_file_that_names_the_others_is_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(row: Row) -> Row:
        is_late = (
            row.key.metric == "deletion" and row.key.picture in ("5.png", "7.png") and row.key.method != "gaussian"
        )
        return replace(row, value=None, error="the forward pass took too long") if is_late else row

    given = [*map(failing, rows()), *without_maps("grad-cam", [f"{i}.jpg" for i in range(20, 25)])]
    late = "deletion:zero, 4 numbers of score-cam, grad-cam (5.png, ...): the forward pass took too long"
    text = ended(given, monkeypatch)
    assert (
        "| errors 3.png: cut short | 20.jpg, grad-cam: x | 21.jpg, grad-cam: x | 3 more of maps: see results.parquet |"
        in text
    )
    assert f"| {late} | --retry computes them again |" in text
    assert "report.html" not in text
    assert "3 more of maps: see report.html" in ended(given, monkeypatch, "report.html")


def test_costs_name_the_model_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        replace(row, key=replace(row.key, model="6b"), model_name="other.onnx", method_seconds=3.0) for row in rows()
    ]
    text = ended([*rows(), *others], monkeypatch)
    assert "cost net.onnx, score-cam: 1.5 s and 40 passes a map" in text
    assert "other.onnx, score-cam: 3.0 s and 40 passes a map" in text
    assert "errors 3.png: cut short |" in text, "of both models"
    of_one = [replace(row, error="too few classes") if row.error else row for row in others]
    assert "errors 3.png, net.onnx: cut short | 3.png, other.onnx: too few classes |" in ended(
        [*rows(), *of_one], monkeypatch
    )


def test_a_chosen_method_without_a_value_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = without_maps("rise", [f"{i}.png" for i in range(12)])
    collection = collect([*rows(), *broken])
    summary = summarise(collection, against="rise")
    results = Results(Run(1, RunState.FINISHED, RunRecord()), collection, summary, (Path("out/a.csv"),))
    lines = printed(results, monkeypatch, 200)
    assert lines[1] == "  means with 95 % intervals; no differences: rise has no value"
    failed = [line.split() for line in lines if line.split()[:1] == ["rise"]]
    assert failed == [["rise", "-", "11", "with", "errors"]] * 2


@pytest.mark.parametrize("columns", [36, 44, 56])
def test_on_a_narrow_terminal_the_numbers_stand_below_the_names(
    results: Results, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    wide, narrow = printed(results, monkeypatch, 200), printed(results, monkeypatch, columns)
    assert max(map(len, narrow)) <= columns
    assert [word for line in narrow for word in line.split()] == [word for line in wide for word in line.split()]


def test_what_is_measured_is_said_with_what_was_left_out_and_what_is_there(tmp_path: object) -> None:
    items = tuple(DataItem(path=__file__, key=f"{i}.png") for i in range(36))  # type: ignore[arg-type]
    data = DataSet("photos", "coco", items, skipped={f"{i}": "no such picture" for i in range(5)})
    options = EvaluationOptions(["grad-cam", "rise"], ["deletion", "adcc"])
    with Journal(f"{tmp_path}/journal.sqlite") as journal:
        lines = announcement(1, data, options, journal)
    assert lines[0] == "36 pictures x 2 methods and 2 baselines x 2 metrics: 288 rows"
    assert lines[1:6] == [
        "data     photos, read as coco",
        *(f"left out {i}: no such picture" for i in range(3)),
        "left out 2 more, which summary.json will name",
    ]
    assert lines[6:] == ["maps     grad-cam, rise, ones, gaussian", "metrics  deletion:zero, adcc"]


def progress(done: int, rate: float | None) -> EvaluationProgress:
    left = (100 - done) / rate if rate else None
    return EvaluationProgress(done, 100, 0, 0, rate, left, "net.onnx", "a.png")


def test_durations_and_rates_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.04, 59.94, 59.96, 60, 252, 3599.7, 7500)] == [
        "0.0 s", "59.9 s", "1 min 0 s", "1 min 0 s", "4 min 12 s", "1 h 0 min", "2 h 5 min",
    ]  # fmt: skip
    assert pace_text(progress(0, None)) == ""
    assert pace_text(progress(40, 4.0)) == "4.0 pictures/s, 15.0 s left"
    assert pace_text(progress(40, 0.25)) == "4.0 s a picture, 4 min 0 s left"
    assert pace_text(progress(100, 0.25)) == "4.0 s a picture"


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 5.0, 11.0, 11.0, 100.0, 311.0, 311.0, 700.0])
    monkeypatch.setattr(evaluation_progress.time, "monotonic", lambda: next(clock))
    with evaluation_bar(quiet=False) as bar:
        for done in (1, 2, 3, 4, 100):
            bar.report(progress(done, 0.5))
    assert bar.last == progress(100, 0.5)
    assert capsys.readouterr().err.splitlines() == [
        "2 of 100 pictures, 2.0 s a picture, 3 min 16 s left",
        "4 of 100 pictures, 2.0 s a picture, 3 min 12 s left",
    ]
