"""The files of an evaluation, read again by other libraries."""

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluated import curve, row, rows

from onnxcam.errors import OptionError, OutputError
from onnxcam.evaluation import export as exporting
from onnxcam.evaluation.export import export, summary_json
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.run_record import RunRecord
from onnxcam.evaluation.summary import summarise


def given() -> list[Row]:
    return [
        *rows({"a": {"road": [0.25, None]}, "b": {"road": [0.5, 0.75]}}),
        row(
            "0.jpg", "a", "deletion", 0.5, protocol="zero", curve=curve([1, 0.5, 0]), label=7, target_index=281,
            target_name="tabby, \"cat\"", probability=0.5, passes=30, method_passes=400, method_seconds=1.5,
        ),
        row("1.jpg", "a", "", None, error="=no map"),
    ]  # fmt: skip


def test_the_parquet_file_has_every_row_with_types(tmp_path: Path) -> None:
    export(given(), summarise(given()), tmp_path)
    table = pq.read_table(tmp_path / "results.parquet")
    assert table.schema.equals(exporting.schema())
    records = table.to_pylist()
    for record, one in zip(records, given(), strict=True):
        assert {name: record[name] for name in vars(one.key)} == vars(one.key)
        plain = {name: value for name, value in vars(one).items() if name not in ("key", "curve", "label")}
        assert {name: record[name] for name in plain} == plain
    assert records[0]["curve_score"] is None
    assert records[4]["curve_fraction"] == [0, 0.5, 1]
    assert records[4]["curve_score"] == [1, 0.5, 0]
    assert [record["label"] for record in records] == [None] * 4 + ["7", None]


def test_many_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "GROUP", 3)
    export(iter(given()), summarise(given()), tmp_path)
    file = pq.ParquetFile(tmp_path / "results.parquet")
    assert (file.num_row_groups, file.metadata.num_rows) == (2, 6)


def test_the_json_and_the_csv_hold_the_summary(tmp_path: Path) -> None:
    summary = summarise(given(), against="a")
    export(given(), summary, tmp_path, run=RunRecord(command="onnxcam evaluate x", versions={"onnxcam": "1"}))
    record = json.loads((tmp_path / "summary.json").read_text())
    assert record["run"]["command"] == "onnxcam evaluate x"
    assert (record["pictures"], record["rows"], record["against"]) == (2, 6, "a")
    with open(tmp_path / "summary.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for line, one, cells in zip(summary.lines, record["summary"], table, strict=True):
        assert (one["undefined"], one["errors"], one["missing"]) == (line.undefined, line.errors, line.missing)
        if line.estimate is None:
            assert (line.method, one["estimate"], cells["mean"], cells["n"]) == ("b", None, "", "0")
            continue
        assert one["estimate"] == {
            "mean": line.estimate.mean,
            "low": None,  # of 2 pictures there is no interval
            "high": None,
            "n": line.estimate.n,
        }
        assert (float(cells["mean"]), cells["low"], cells["high"]) == (line.estimate.mean, "", "")
        assert (cells["difference_mean"] == "") == (line.difference is None)
    b = next(one for one in record["summary"] if one["method"] == "b")
    assert b["difference"]["mean"] == 0.25
    assert b["difference"]["n"] == 1


def test_of_six_pictures_the_interval_is_given() -> None:
    summary = summarise(rows({"a": {"road": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}))
    (one,), (estimate,) = json.loads(summary_json(summary, RunRecord()))["summary"], [summary.lines[0].estimate]
    assert estimate is not None
    assert one["estimate"] == {"mean": estimate.mean, "low": estimate.low, "high": estimate.high, "n": 6}


def test_a_failure_leaves_the_files_of_before(tmp_path: Path) -> None:
    export(given(), summarise(given()), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken() -> Iterator[Row]:
        yield from given()
        raise OutputError("the journal is gone")

    with pytest.raises(OutputError, match="journal"):
        export(broken(), summarise([]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"onnxcam\[evaluate\]"):
        export(given(), summarise(given()), tmp_path)
    assert importlib.util.find_spec("pyarrow") is not None
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_without_rows_has_empty_files(tmp_path: Path) -> None:
    export([], summarise([]), tmp_path)
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 0
    assert json.loads((tmp_path / "summary.json").read_text())["summary"] == []
    assert (tmp_path / "summary.csv").read_text() == ""
    assert np.array_equal(
        sorted(path.name for path in tmp_path.iterdir()), ["results.parquet", "summary.csv", "summary.json"]
    )
