"""What a killed process left behind is swept by the next one, and nothing else is."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxcam import temporary as naming
from onnxcam.outputs.atomic import Staging, check_writable, write_together
from onnxcam.temporary import ABANDONED, sweep, temporary

KILLED = """
import os, signal, sys
from pathlib import Path
from onnxcam.outputs.atomic import Staging
with Staging() as staging:
    staging.stage(Path("a.png"), b"new a")
    staging.stage(Path("b.png"), b"new b")
    print("staged", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def of_process(path: Path, process: int) -> Path:
    """The same name, as another process of this machine gives it."""
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{process}-", 1))


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize(
    "next_run",
    [lambda folder: check_writable([folder / "c.png"]), lambda folder: write_together({folder / "c.png": b"c"})],
    ids=["check_writable", "write_together"],
)
def test_the_next_run_sweeps_what_kill_9_left(tmp_path: Path, next_run: Callable[[Path], None]) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "staged\n"), killed.stderr
    assert len(names(tmp_path)) == 2, "temporary files are there"
    next_run(tmp_path)
    assert names(tmp_path) <= {"c.png"}


def test_files_of_others_stay(tmp_path: Path, dead: int) -> None:
    living, left = temporary(tmp_path), of_process(temporary(tmp_path), dead)
    foreign = of_process(temporary(tmp_path), dead).with_name("notes.tmp")
    elsewhere = of_process(temporary(tmp_path), dead)
    elsewhere = elsewhere.with_name(re.sub(f"-{dead}-[0-9a-f]{{8}}-", f"-{dead}-00000000-", elsewhere.name))
    linked, folder = of_process(temporary(tmp_path), dead), of_process(temporary(tmp_path), dead)
    for path in (living, left, foreign, elsewhere):
        path.write_bytes(b"half")
    linked.symlink_to(foreign)
    folder.mkdir()
    kept = names(tmp_path) - {left.name}
    sweep(tmp_path)
    assert names(tmp_path) == kept


def test_a_file_of_another_machine_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".onnxcam-1-00000000-0123456789abcdef.tmp"
    path.write_bytes(b"half")
    os.utime(path, (0, 0))  # a backup is a link to an old file
    sweep(tmp_path)
    assert path.exists()
    now = time.time()
    monkeypatch.setattr(naming.time, "time", lambda: now + ABANDONED + 10)
    sweep(tmp_path)
    assert not path.exists()


def test_a_file_of_another_user_stays(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = of_process(temporary(tmp_path), dead)
    path.write_bytes(b"half")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    sweep(tmp_path)
    assert path.exists()


def test_a_folder_that_cannot_be_listed_is_no_error(tmp_path: Path) -> None:
    sweep(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_could_not_be_put_back_is_never_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    (tmp_path / "a.png").write_bytes(b"old a")
    real = os.replace

    def broken(source: Path, target: Path) -> None:
        real(source, target)
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        raise OSError(28, "No space left on device")

    with pytest.raises(Exception, match="kept in"), Staging() as staging:  # noqa: PT012
        staging.stage(tmp_path / "a.png", b"new a")
        monkeypatch.setattr(os, "replace", broken)
        staging.commit()
    (kept,) = [path for path in tmp_path.iterdir() if path.read_bytes() == b"old a"]
    assert not naming.NAME.fullmatch(kept.name)
