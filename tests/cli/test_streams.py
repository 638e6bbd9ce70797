"""Standard streams that are absent, full, closed or narrow: no traceback, the right exit code, and the files stay."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files
from PIL import Image

EXPLAIN = ("explain", "tiny.onnx", "photo.png", "2.png", "-m", "grad-cam", "--format", "npy")
FILES = {"photo.grad-cam.npy", "2.grad-cam.npy"}
FULL = "error: standard output cannot be written: No space left on device; make room there, or add --quiet"


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(classifier, tmp_path / "tiny.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    for name in ("photo.png", "2.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def shell(folder: Path, words: tuple[str, ...], redirections: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of the command with a shell's redirections."""
    command = f'"$0" -m onnxcam "$@" {redirections}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=240
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", pytest.param(">&-", marks=pytest.mark.slow)])
def test_absent_streams_are_like_the_null_device(folder: Path, redirections: str) -> None:
    before = files(folder)
    assert shell(folder, EXPLAIN, redirections) == (0, "", "")
    assert files(folder) - before == FILES
    for name in FILES:
        assert np.load(folder / name).shape == (16, 12), "nothing was printed into a file that took a stream's number"


def test_a_failure_without_streams_has_its_exit_code(folder: Path) -> None:
    assert shell(folder, ("explain", "none.onnx", "photo.png"), "<&- >&- 2>&-") == (1, "", "")
    assert shell(folder, ("explain", "--nothing"), ">&- 2>&-") == (2, "", "")


def test_a_program_without_a_console_has_no_streams(folder: Path) -> None:
    code = f"""
import os, sys
sys.stdout = sys.stderr = sys.stdin = None
for descriptor in (0, 1, 2):
    os.close(descriptor)
sys.argv = ["onnxcam", *{EXPLAIN!r}]
from onnxcam.cli.start import start
start()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert files(folder) >= FILES


@pytest.mark.parametrize("json_words", [(), pytest.param(("--json",), marks=pytest.mark.slow)])
def test_a_full_disk_behind_standard_output_is_an_error_and_finished_files_stay(
    folder: Path, json_words: tuple[str, ...]
) -> None:
    before = files(folder)
    code, _, message = shell(folder, (*EXPLAIN, *json_words), ">/dev/full")
    assert (code, message) == (1, f"{FULL}; 1 of 2 pictures was written\n")
    assert files(folder) - before == {"photo.grad-cam.npy"}


@pytest.mark.parametrize("words", [("methods",), ("metrics", "--json"), ("--help",), ("--version",)], ids=" ".join)
def test_a_full_disk_is_an_error_of_commands_that_only_print(folder: Path, words: tuple[str, ...]) -> None:
    assert shell(folder, words, ">/dev/full") == (1, "", f"{FULL}\n")


def test_standard_error_that_cannot_be_written_changes_no_exit_code(folder: Path) -> None:
    assert shell(folder, ("inspect", "none.onnx"), "2>/dev/full") == (1, "", "")
    assert shell(folder, ("methods", "--nothing"), "2>/dev/full") == (2, "", "")
    assert shell(folder, ("methods", "--nothing"), ">/dev/full 2>/dev/full") == (2, "", "")


@pytest.mark.parametrize(
    "words",
    [EXPLAIN, pytest.param((*EXPLAIN, "--json"), marks=pytest.mark.slow), ("methods",), ("--help",)],
    ids=lambda w: w[0] + w[-1],
)
def test_a_reader_that_has_gone_ends_the_command_like_any_other(folder: Path, words: tuple[str, ...]) -> None:
    """Exit code 141, as of SIGPIPE; of explain with the files that it finished. Python complains of nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "onnxcam", *words],
        cwd=folder,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
    )
    os.close(writer)
    explains = words[0] == "explain"
    assert done.returncode == 141
    assert done.stderr == ("stopped: 1 of 2 pictures was written\n" if explains else "")
    assert ("photo.grad-cam.npy" in files(folder)) == explains


@pytest.mark.slow
def test_both_streams_in_a_pipe_that_closes(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "onnxcam", *EXPLAIN], cwd=folder, stdout=writer, stderr=writer, timeout=240
    )
    os.close(writer)
    assert done.returncode == 141
    assert "photo.grad-cam.npy" in files(folder)


def test_a_pipe_that_does_not_block_gets_everything(folder: Path) -> None:
    """As some programs make them; the pipe is full before all is written."""
    code = """
import os, sys
os.set_blocking(1, False)
from onnxcam.cli.start import start
from onnxcam.cli import printing
text = printing.json_text
printing.json_text = lambda value: text(value) + " " * 300_000
sys.argv = ["onnxcam", "methods", "--json"]
start()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, error = process.communicate(timeout=240)
    assert (process.returncode, error) == (0, b"")
    assert len(json.loads(out)) > 10
    assert len(out) > 300_000


@pytest.mark.slow
def test_names_that_the_encoding_lacks_are_escaped(folder: Path) -> None:
    (folder / "photo.png").rename(folder / "\u67f4\u72ac.png")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "onnxcam", "explain", "tiny.onnx", "\u67f4\u72ac.png", "-m", "grad-cam"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"\\u67f4\\u72ac.png" in done.stdout
