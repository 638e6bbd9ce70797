"""Signals stop every command cleanly: exit code 128 + n, no temporary file, no traceback, finished files stay."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import files
from PIL import Image
from small_models import CLASSIFIER, filled

from onnxcam.cli.main import app
from onnxcam.cli.stopping import stoppable

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PHOTOS = ("photo.png", "2.png", "3.png")
WRITING = {
    "explain": ("explain", "tiny.onnx", *PHOTOS, "-m", "grad-cam", "-q"),
    "demo": ("demo", "-m", "grad-cam", "-q"),
    "compare": ("compare", "tiny.onnx", "photo.png", "-m", "grad-cam,layer-cam", "-q"),
    "sanity": ("sanity", "tiny.onnx", *PHOTOS, "-m", "grad-cam", "--steps", "1", "-q"),
    "evaluate": ("evaluate", "tiny.onnx", "photo.png", "-m", "grad-cam", "--metrics", "sparseness", "-q"),
    "rewrite": ("rewrite", "tiny.onnx", "-q"),
    "compile": ("compile", "tiny.onnx", "-q"),
}
PRINTING = {
    "inspect": ("inspect", "tiny.onnx"),
    "predict": ("predict", "tiny.onnx", "photo.png", "--preset", "raw"),
    "methods": ("methods",),
    "metrics": ("metrics",),
}
KEPT_WHOLE = ("explain", "demo")
"""Commands that finish the files of a picture once they began to write them."""

# Waits, for at most ten seconds, where the files of a picture are staged, or where a page is printed.
PAUSED = """
import os, sys, time
from onnxcam.cli import printing
from onnxcam.outputs.atomic import Staging
commit, write = Staging.commit, printing._write
def pause():
    os.write(2, b"ready\\n")
    for _ in range(10 if {short} else 200):
        time.sleep(0.05)
def pausing_commit(self):
    pause()
    commit(self)
def pausing_write(stream, text):
    if stream is sys.stdout:
        pause()
    write(stream, text)
Staging.commit, printing._write = pausing_commit, pausing_write
from onnxcam.cli.start import start
sys.argv = ["onnxcam", *{words!r}]
start()
"""
# Waits where a module is first imported.
IMPORTING = """
import os, sys, time
class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.write(2, b"ready\\n")
            for _ in range(200):
                time.sleep(0.05)
sys.meta_path.insert(0, Waiting())
from onnxcam.cli.start import start
sys.argv = ["onnxcam", "inspect", "tiny.onnx"]
start()
"""
LOOP = """
  brightest = ReduceMax <keepdims=0> (x)
  seventh = Constant <value_float=7.0> ()
  many = Pow (brightest, seventh)
  rounds = Cast <to=7> (many)
  looped = Loop <body = step (int64 i, bool go, float[N,3,16,12] v) => (bool on, float[N,3,16,12] w)
    { w = Identity (v)
      on = Identity (go) }> (rounds, , x)
"""
"""As many rounds as the brightest number of the picture to the power of seven: 10^16."""
CASES = {
    **{("methods", number): () for number in ALL},
    ("explain", signal.SIGHUP): (),
    ("rewrite", signal.SIGQUIT): (),
    ("compile", signal.SIGTERM): (),
    ("metrics", signal.SIGTERM): (),
    ("inspect", signal.SIGQUIT): (),
    ("predict", signal.SIGINT): pytest.mark.slow,
    ("demo", signal.SIGINT): pytest.mark.slow,
    ("compare", signal.SIGTERM): pytest.mark.slow,
    ("sanity", signal.SIGHUP): pytest.mark.slow,
    ("evaluate", signal.SIGTERM): pytest.mark.slow,
}
"""Every command, and every signal."""


@pytest.fixture
def folder(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    onnx.save(classifier, tmp_path / "tiny.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    for name in PHOTOS:
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def stopped(code: str, folder: Path, signals: Sequence[int]) -> tuple[int, str]:
    """Exit code and standard error of a process that gets the signals as soon as it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line == "ready\n", line + process.stderr.read()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)  # signals that are pending are one
    _, message = process.communicate(timeout=120)
    return process.returncode, message


def test_every_command_is_stopped_here() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {*WRITING, *PRINTING} == commands == {command for command, _ in CASES}


@pytest.mark.parametrize(
    ("command", "number"),
    [pytest.param(*case, marks=marks) for case, marks in CASES.items()],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_ends_a_command_with_its_code_and_leaves_nothing_half_done(
    folder: Path, command: str, number: int
) -> None:
    before = files(folder)
    words = {**WRITING, **PRINTING}[command]
    code, message = stopped(PAUSED.format(words=words, short=command in KEPT_WHOLE), folder, [number])
    assert code == 128 + number
    new = files(folder) - before
    if command in KEPT_WHOLE:
        assert len(new) == 1, "the picture that was begun"
        assert message.startswith("stopped: 1 of ")
    elif command == "evaluate":
        assert new == {"results/journal.sqlite", "results/journal.sqlite-lock"}, "what was measured before the tables"
        assert message.startswith("stopped: 1 of 1 pictures; run the same command to go on")
    else:
        assert (new, message) == (set(), "")


@pytest.mark.parametrize(
    ("command", "count"), [("explain", 2), ("rewrite", 2), pytest.param("explain", 3, marks=pytest.mark.slow)]
)
def test_more_signals_print_no_traceback_and_leave_no_file_that_is_not_swept(
    folder: Path, command: str, count: int
) -> None:
    before = files(folder)
    code, message = stopped(PAUSED.format(words=WRITING[command], short=False), folder, [signal.SIGINT] * count)
    assert code == 130
    assert message in ("", "stopped: 0 of 3 pictures were written\n")
    assert {name for name in files(folder) - before if count == 2 or not name.startswith(".onnxcam-")} == set()


@pytest.mark.parametrize(
    "module", ["onnxcam.cli.stopping", "onnxcam.cli.streams", "typer", "onnxcam.network.opening", "onnxruntime"]
)
def test_a_signal_during_the_imports_prints_nothing(folder: Path, module: str) -> None:
    assert stopped(IMPORTING.format(module=module), folder, [signal.SIGINT]) == (130, "")


def test_a_signal_that_is_ignored_stays_so(folder: Path) -> None:
    nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code, message = stopped(nohup + PAUSED.format(words=WRITING["rewrite"], short=True), folder, [signal.SIGHUP])
    assert (code, message) == (0, "")
    assert (folder / "tiny.cam.onnx").is_file()


@pytest.mark.parametrize("closing", [False, True], ids=["Ctrl-C", "the terminal closes"])
def test_a_bar_on_a_terminal_ends_cleanly(folder: Path, closing: bool) -> None:
    """The files of finished pictures stay, and the cursor is shown again."""
    (folder / "maps").mkdir()
    for i in range(500):
        os.link(folder / "photo.png", folder / "maps" / f"{i:03}.png")
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        words = ["-m", "onnxcam", "explain", "tiny.onnx", "maps", "-m", "grad-cam", "--format", "npy", "-o", "out/"]
        os.execv(sys.executable, [sys.executable, *words])
    text, until = b"", time.monotonic() + 120
    while b"\r\n" not in text and time.monotonic() < until:  # the first summary
        text += os.read(terminal, 4096)
    if not closing:
        os.write(terminal, b"\x03")
    while not closing:
        try:
            select.select([terminal], [], [], 60)
            text += os.read(terminal, 65536)
        except OSError:
            break
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (129 if closing else 130)
    written = files(folder / "out")
    assert 0 < len(written) < 500
    assert all(name.endswith(".npy") for name in written)
    assert b"Traceback" not in text
    if not closing:
        assert b"stopped: " in text
        assert text.rfind(b"\x1b[?25h") > text.rfind(b"\x1b[?25l"), "the cursor is back"


def test_one_more_signal_does_not_disturb_what_cleans_up() -> None:
    steps: list[str] = []

    def run() -> None:
        with stoppable() as stop:
            try:
                with stop.deferred():
                    signal.raise_signal(signal.SIGTERM)
                    steps.append("waits")
                    signal.raise_signal(signal.SIGINT)
                    steps.append("never")
            finally:
                signal.raise_signal(signal.SIGINT)
                steps.append("clean")

    with pytest.raises(SystemExit) as ended:
        run()
    assert (steps, ended.value.code) == (["waits", "clean"], 143)


def test_a_forward_pass_that_takes_for_ever_is_stopped(folder: Path) -> None:
    """The main thread is within the runtime, where no handler of Python runs."""
    start = CLASSIFIER.index("{") + 1
    text = CLASSIFIER[:start] + LOOP + CLASSIFIER[start:].replace("(x, w1)", "(looped, w1)")
    onnx.save(filled(text), folder / "tiny.onnx")
    code = """
import os, sys, threading, time
from onnxcam.engine import deadlines
def ready():
    before = None
    while before is None or before not in set(deadlines._watch._open):
        before = next(iter(set(deadlines._watch._open)), None)
        time.sleep(1)
    os.write(2, b"ready\\n")
threading.Thread(target=ready, daemon=True).start()
from onnxcam.cli.start import start
sys.argv = ["onnxcam", "explain", "tiny.onnx", "photo.png", "--preset", "raw", "-m", "grad-cam"]
start()
"""
    begun = time.monotonic()
    assert stopped(code, folder, [signal.SIGTERM]) == (143, "stopped: 0 of 1 pictures were written\n")
    assert time.monotonic() - begun < 100, "before its deadline of 120 s"


SWALLOWING = """
import gc, os, signal, sys, time
from onnxcam.cli import main
class Slow:
    def __del__(self):
        os.write(2, b"ready\\n")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
class Unclear:
    def __getattr__(self, name):
        os.write(2, b"ready\\n")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
def run():
    try:
        {how}
        time.sleep(60)
    finally:
        time.sleep(1)
        os.write(2, b"cleaned up\\n")
main.run = run
from onnxcam.cli.start import start
start()
"""
"""Loses what a signal raises: in a destructor, and in an `except` clause of other code."""


@pytest.mark.parametrize("how", ["value = Slow(); del value", "exec('try: Unclear().x\\nexcept BaseException: pass')"])
def test_a_signal_that_other_code_swallows_stops_the_program_all_the_same(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SWALLOWING.format(how=how)], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        text = process.stderr.read()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert text == "cleaned up\n"
    assert time.monotonic() - start < 10
