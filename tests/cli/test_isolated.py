"""A whole command in a process of its own: each signal reaches it once, from its parent, and it ends when that does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PARENT = """
import sys
from onnxcam.cli import isolated
from onnxcam.explainer.child_process import python_command
isolated.PATIENCE = 60
isolated.PROGRAM = isolated.PROGRAM.partition("from onnxcam")[0] + '''
import time
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda number, frame: print(number, flush=True))
print(os.getpid(), flush=True)
time.sleep(60)
'''
sys.exit(128 - isolated._run(lambda pipe: python_command(isolated.PROGRAM, "null", str(pipe))))
"""
"""Runs a process that says which signals it gets, and ends at SIGTERM."""


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def said(parent: "subprocess.Popen[str]") -> int:
    assert parent.stdout is not None
    return int(parent.stdout.readline())


def test_a_signal_of_the_parent_alone_and_one_of_its_group_arrive_once(parent: "subprocess.Popen[str]") -> None:
    said(parent)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(parent.pid, number)
        assert said(parent) == number
        os.killpg(parent.pid, number)
        assert said(parent) == number
    os.killpg(parent.pid, signal.SIGTERM)
    assert parent.stdout is not None
    assert parent.stdout.read() == ""
    assert parent.wait(20) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_process_that_does_not_end_at_a_signal_is_killed(number: int) -> None:
    """A second signal gives it no more time."""
    code = PARENT.replace("print(number, flush=True)", "None").replace("isolated.PATIENCE = 60", "")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        child = said(process)
        start = time.monotonic()
        process.send_signal(number)
        time.sleep(0.5)
        process.send_signal(number)
        try:
            assert process.wait(20) == 128 + number
            assert 1.5 < time.monotonic() - start < 10
            assert not _runs(child)
        finally:
            process.kill()


def test_the_process_of_a_command_ends_when_its_parent_is_killed(parent: "subprocess.Popen[str]") -> None:
    child = said(parent)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while time.monotonic() < end and _runs(child):
        time.sleep(0.01)
    assert not _runs(child)


def test_a_pause_of_the_parent_pauses_the_process_too(parent: "subprocess.Popen[str]") -> None:
    if sys.platform != "linux":
        return
    child = said(parent)
    os.kill(parent.pid, signal.SIGTSTP)
    end = time.monotonic() + 20
    while time.monotonic() < end and not (_state(child) == _state(parent.pid) == "T"):
        time.sleep(0.01)
    assert _state(child) == _state(parent.pid) == "T"
    os.kill(parent.pid, signal.SIGCONT)
    os.kill(parent.pid, signal.SIGINT)
    assert said(parent) == signal.SIGINT


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
        return _state(process) != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("command", [["inspect"], ["explain", "photo.png", "--quiet", "-o", "map.png"]])
def test_nothing_of_the_current_folder_is_imported(classifier_file: Path, tmp_path: Path, command: list[str]) -> None:
    for name in ("json", "signal", "threading", "onnxcam", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    Image.fromarray(np.zeros((16, 12, 3), np.uint8)).save(tmp_path / "photo.png")
    entry = [sys.executable, "-P", "-m", "onnxcam", command[0], str(classifier_file), *command[1:], "--isolated"]
    done = subprocess.run(entry, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
