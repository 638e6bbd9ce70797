"""Records are read as they were written; a damaged one counts as none."""

import json
from pathlib import Path

import numpy as np
import pytest

from onnxcam.engine.parallel import RunPlan
from onnxcam.engine.session import available_threads
from onnxcam.network import cache
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.types import BatchMode

RECORD = cache.ModelRecord(
    Trace({"x": (1, 3), "s": ()}, {"v": np.array([2, -1]), "b": np.array(True)}, {"c": False}),
    BatchMode.REWRITTEN,
    "why",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    assert cache.load("a") is None
    cache.store("a", RECORD)
    record = cache.load("a")
    assert record is not None
    assert (record.mode, record.reason, record.trace.taken) == (BatchMode.REWRITTEN, "why", {"c": False})
    assert record.trace.shapes == RECORD.trace.shapes
    assert {k: v.tolist() for k, v in record.trace.values.items()} == {"v": [2, -1], "b": True}
    assert [p.name for p in folder.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"shapes": 3}', "\x00", '{"shapes": {}, "values": {}, "taken": {}, "mode": "m", "reason": "r"}']
    + [json.dumps({"shapes": {}, "values": {"v": v}, "taken": {}, "mode": "m", "reason": "r"}) for v in (
        1, {"dtype": "O", "shape": [1], "data": "00" * 8}, {"dtype": "<i8", "shape": [2], "data": "00"},
        {"dtype": "nonsense", "shape": [], "data": ""},
    )],
)  # fmt: skip
def test_a_damaged_record_is_none(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "a.json").write_text(text)
    assert cache.load("a") is None


def test_off_stores_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", "off")
    cache.store("a", RECORD)
    assert cache.load("a") is None
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNXCAM_CACHE", "/proc/onnxcam")
    cache.store("a", RECORD)
    assert cache.load("a") is None


def test_keys_differ_with_every_part() -> None:
    names = {cache.key("a", "b"), cache.key("ab"), cache.key("a", "c"), cache.key("b", "a")}
    assert len(names) == 4


def test_a_plan_is_read_as_it_was_written_and_a_damaged_one_is_none(folder: Path) -> None:
    assert cache.load_plan("p") is None
    cache.store_plan("p", RunPlan(1, 4, 2))
    assert cache.load_plan("p") == RunPlan(1, 4, 2)
    for text in ("", "[]", "{}", '{"threads": 0, "parallel": 1, "batch": 2}', '{"threads": 1, "parallel": 1}',
                 '{"threads": 1, "parallel": 1, "batch": 1e99}', '{"threads": 1e999, "parallel": 1, "batch": 1}', '{"threads": "x", "parallel": 1, "batch": 1}'):  # fmt: skip
        (folder / "p.json").write_text(text)
        assert cache.load_plan("p") is None, text


def test_a_plan_is_of_this_machine() -> None:
    assert cache.machine().endswith(f"{available_threads()} cores")
    assert not cache.machine().startswith(",")
