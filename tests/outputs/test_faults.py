"""Every operating-system call of saving files made to fail in turn: all of them or none, and nothing else stays."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults import Fault, Machine, faults_of, interrupted, open_files

from onnxcam.errors import OutputError
from onnxcam.outputs import atomic
from onnxcam.outputs.atomic import check_writable, write_together
from onnxcam.temporary import sweep_once

Tree = dict[str, bytes | None]
NO_PROCESS = 2**31 - 2
OLD: Tree = {"a.png": b"old a", "b.json": b"old b"}
FILES = {"a.png": b"new a" * 9, "new/deep/c.npy": b"new c" * 9, "b.json": b'{"new": 1}'}
NEW: Tree = {**FILES, "new": None, "new/deep": None}


def tree(folder: Path) -> Tree:
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def without_temporary(files: Tree) -> Tree:
    return {name: content for name, content in files.items() if not name.endswith(".tmp")}


def save(folder: Path) -> None:
    check_writable(folder / name for name in FILES)
    write_together({folder / name: content for name, content in FILES.items()})


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content or b"")
    return folder


def count(folder: Path, *before: Fault) -> list[str]:
    machine = Machine(fresh(folder))
    with in_a_process_that_ended():
        machine.run(lambda: save(folder), *before)
    return machine.calls


@contextmanager
def in_a_process_that_ended() -> Iterator[None]:
    """What is left then belongs to a process that the next run finds dead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: NO_PROCESS)
        sweep_once.cache_clear()
        yield
    sweep_once.cache_clear()


def check(error: BaseException | None, folder: Path, kind: str, label: object) -> None:
    """All or nothing, a typed error, and no temporary file that the next run does not remove."""
    files = tree(folder)
    kept = without_temporary(files)
    assert kept in (OLD, NEW), f"{label}: mixed files {sorted(files)}"
    if error is None:
        assert kept == NEW, f"{label}: nothing written, and no error"
    else:
        expected = {"memory": MemoryError, "interrupt": KeyboardInterrupt}.get(kind, OutputError)
        assert type(error) is expected, f"{label}: {error!r}"
    if kept != files:
        save(folder)
        assert tree(folder) == NEW, f"{label}: the next run leaves {sorted(tree(folder))}"


def run(folder: Path, *faults: Fault) -> None:
    machine = Machine(fresh(folder))
    with in_a_process_that_ended():
        error = machine.run(lambda: save(folder), *faults)
    check(error, folder, faults[-1].error, " then ".join(map(str, faults)))


def test_any_call_that_fails_leaves_all_files_or_none(tmp_path: Path) -> None:
    faults = faults_of(count(tmp_path / "out"), ("full", "interrupt"))
    assert len(faults) >= 300
    before = open_files()
    for fault in faults:
        run(tmp_path / "out", fault)
    assert open_files() == before


@pytest.mark.slow
def test_any_error_of_a_call_leaves_all_files_or_none(tmp_path: Path) -> None:
    for fault in faults_of(count(tmp_path / "out"), ("denied", "broken", "memory")):
        run(tmp_path / "out", fault)


def second_faults(folder: Path, every: int) -> Iterable[tuple[Fault, Fault]]:
    """An interrupt or a lack of memory in any call that follows a failed move or link: while files are put back."""
    for first in faults_of(count(folder), ("full",)):
        if first.call in ("replace", "mkdir", "link", "fsync") and first.when == "before":
            calls = count(folder, first)
            later = [f for f in faults_of(calls, ("interrupt", "memory")) if f.at > first.at]
            yield from ((first, second) for second in later[::every])


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_an_interrupt_does_not_end_the_putting_back(tmp_path: Path, every: int) -> None:
    pairs = list(second_faults(tmp_path / "out", every))
    assert len(pairs) > 10
    for pair in pairs:
        run(tmp_path / "out", *pair)


def test_what_cannot_be_put_back_is_kept_under_another_name(tmp_path: Path) -> None:
    """The disk fails, and fails again while files are put back."""
    folder = tmp_path / "out"
    calls = count(folder)
    moves = [at for at, call in enumerate(calls) if call == "replace"]
    for first in (Fault(at, "replace", "before", "broken") for at in moves):
        for at, call in enumerate(count(folder, first)):
            if at > first.at:
                machine = Machine(fresh(folder))
                with in_a_process_that_ended():
                    error = machine.run(lambda: save(folder), first, Fault(at, call, "before", "broken"))
                assert isinstance(error, OutputError)
                contents = set(tree(folder).values())
                assert set(OLD.values()) <= contents, f"{first} then {call}: {sorted(tree(folder))}"


def test_an_interrupt_at_any_line_leaves_all_files_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    module = str(atomic.__file__)
    with in_a_process_that_ended():
        _, lines = interrupted(lambda: save(fresh(folder)), module, None)
    assert lines > 200
    for at in range(lines):
        fresh(folder)
        with in_a_process_that_ended():
            error, _ = interrupted(lambda: save(folder), module, at)
        check(error, folder, "interrupt", f"interrupt at line {at} of {lines}")
