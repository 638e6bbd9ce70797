"""Runs cases one after another in a process that is kept, and starts another one when a case ends or blocks it.

It is a fork of one that has imported everything, so that a start costs a fifth of a second, not some; a case costs a
millisecond or more. What a case prints goes to a file. The process has a limit of memory, and its peak is measured for
each case.
"""

import faulthandler
import gc
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzzing.verdict import Verdict, judged

Files = dict[str, bytes]
Check = Callable[[Files, Path], Verdict]
"""Judges the files of a case in an empty folder, the working directory. It may raise, end the process, or hang."""
MOST_CASES = 1000
"""Cases of one process, so that what one leaves behind meets a limited number of others."""


@dataclass(frozen=True)
class Bounds:
    """Limits of one case. seconds: on the wall. memory: bytes of address space. peak: bytes that a case may add."""

    seconds: float = 30
    memory: int = 6 * 2**30
    peak: int = 2**30


class Kept:
    """A process with one check. start: called once in each process, before its first case."""

    def __init__(self, check: Check, bounds: Bounds, start: Callable[[], None] | None = None) -> None:
        self._check, self._bounds, self._start = check, bounds, start
        self._context = multiprocessing.get_context("forkserver")  # a fork of this process would lose its threads
        start_server()
        self._process: Any = None
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._cases = 0
        self.starts = 0

    def run(self, files: Files) -> Verdict:
        """The verdict on one case; of a process that died or is stopped for being late, a failure."""
        if self._process is None or self._cases >= MOST_CASES:
            self.close()
            self._open()
        self._cases += 1
        begin = time.monotonic()
        try:
            self._pipe.send(files)
            if self._pipe.poll(self._bounds.seconds):
                return replace(self._pipe.recv(), seconds=time.monotonic() - begin)
            kind = "hang"
            os.kill(self._process.pid, signal.SIGABRT)  # faulthandler writes where it is
        except (EOFError, BrokenPipeError, ConnectionResetError):
            kind = ""
        return self._dead(kind, time.monotonic() - begin)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._pipe.close()
            self._process.join(2)
            self._process.kill()
            self._process.join()
            self._process = None

    def remove(self) -> None:
        """Ends the process for good."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        arguments = (theirs, self._check, self._bounds, self._folder, self._start)
        self._process = self._context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._cases, self.starts = 0, self.starts + 1
        if not self._pipe.poll(120) or self._pipe.recv() != "ready":
            raise RuntimeError("the fuzzer's process does not start")

    def _dead(self, kind: str, seconds: float) -> Verdict:
        self._process.join(5)
        self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        if not kind:
            kind = f"killed by {signal.Signals(-code).name}" if code < 0 else f"the process ended with {code}"
        self._process = None
        return Verdict("failure", kind, text(self._folder / "err")[-6000:], seconds=seconds)


def start_server() -> None:
    """Starts the process that forks, with this process's path, which Python 3.11 does not hand on."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.set_forkserver_preload(["fuzzing.warm"])
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ |= {"PYTHONPATH": before} if before is not None else {}


def serve(pipe: Connection, check: Check, bounds: Bounds, folder: Path, start: Callable[[], None] | None) -> None:
    """What the process does: it receives files, checks them, and sends the verdict."""
    log = open(folder / "err", "w+")  # noqa: SIM115 - as long as the process lives
    for number in (1, 2):
        os.dup2(log.fileno(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = sys.stderr = log
    faulthandler.enable(log)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory, bounds.memory))
    warnings.simplefilter("ignore")
    if start is not None:
        start()
    pipe.send("ready")
    while True:
        try:
            files = pipe.recv()
        except EOFError:
            return
        log.seek(0)
        log.truncate()
        pipe.send(bounded(check, files, folder, bounds))


def bounded(check: Check, files: Files, folder: Path, bounds: Bounds) -> Verdict:
    """The verdict of the check, in a folder of its own; a failure if it took more memory than it may."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    os.chdir(place)
    before = start_peak()
    verdict = judged(check, files, place)
    taken = max(0, peak() - before)
    if taken > bounds.peak // 4:
        gc.collect()
    if verdict.outcome != "failure" and taken > bounds.peak:
        verdict = Verdict("failure", "takes more memory than it may", f"{taken / 2**20:.0f} MiB; {verdict.kind}")
    return replace(verdict, peak=taken)


def start_peak() -> int:
    """Bytes of this process now; its peak counts from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak() -> int:
    return status("VmHWM")


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
