"""Every operating-system call of storing and reading a record made to fail in turn: a record as it was, or the new one."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from faults import Fault, Machine, faults_of, interrupted, open_files

from onnxcam.network import cache
from onnxcam.types import BatchMode

NO_PROCESS = 2**31 - 2
OLD = cache.ModelRecord({"x": (1, 3)}, BatchMode.DYNAMIC, "old")
NEW = cache.ModelRecord({"x": (1, 3), "y": (1, 8)}, BatchMode.REWRITTEN, "new")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use() -> None:
    """What an opening does: a record that is there is read, a new one is written."""
    assert cache.load("a") in (OLD, None)
    cache.store("a", NEW)
    assert cache.load("a") in (OLD, NEW, None)


def fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    cache.store("a", OLD)


def check(error: BaseException | None, folder: Path, kind: str, label: object) -> None:
    expected = {"memory": MemoryError, "interrupt": KeyboardInterrupt}.get(kind)
    assert error is None or type(error) is expected, f"{label}: {error!r}"
    assert cache.load("a") in (OLD, NEW), label
    cache.store("q", NEW)  # of the next process
    assert {path.name for path in folder.iterdir()} <= {"a.json", "q.json"}, label


def run_all(folder: Path, monkeypatch: pytest.MonkeyPatch, errors: Sequence[str]) -> int:
    machine = Machine(folder)
    fresh(folder)
    assert machine.run(use) is None
    faults: list[Fault] = faults_of(machine.calls, errors)
    before = open_files()
    for fault in faults:
        fresh(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
            error = machine.run(use, fault)
        check(error, folder, fault.error, fault)
        assert open_files() == before, f"{fault} leaves a file open"
    return len(faults)


def test_any_call_that_fails_leaves_the_old_record_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_all(folder, monkeypatch, ("full", "interrupt")) > 100


@pytest.mark.slow
def test_any_error_of_a_call_leaves_the_old_record_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_all(folder, monkeypatch, ("denied", "broken", "memory")) > 150


def test_an_interrupt_at_any_line_leaves_the_old_record_or_the_new_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh(folder)
    module = str(cache.__file__)
    _, lines = interrupted(use, module, None)
    assert lines > 100
    for at in range(lines):
        fresh(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: NO_PROCESS)
            error, _ = interrupted(use, module, at)
        check(error, folder, "interrupt", f"interrupt at line {at} of {lines}")
