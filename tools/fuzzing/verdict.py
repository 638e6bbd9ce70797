"""Runs an action in a process of bounded time and memory, and judges whether a user may see such an end."""

import faulthandler
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

MOST_LINES, MOST_CHARACTERS = 3, 2000
"""Limits of an error message on standard error, a little above the one or two lines that it should have."""


@dataclass(frozen=True)
class Limits:
    """Limits of one process. memory: bytes of address space, in which the stacks of the runtime's threads count too."""

    seconds: float = 20
    memory: int = 3 * 2**30


@dataclass(frozen=True)
class Ended:
    """How a process ended. error: the class of the typed error, or ""; new_files: files that were not there before."""

    code: int | None
    signal: int | None
    timed_out: bool
    out: str
    err: str
    error: str
    new_files: tuple[str, ...]
    seconds: float
    peak: int


@dataclass(frozen=True)
class Verdict:
    """outcome: answer, error or failure. kind: the error's class, or what is wrong; detail: what was printed.

    noise: what was printed on standard error besides the message. It is counted, but is no failure.
    """

    outcome: str
    kind: str
    detail: str = ""
    noise: str = ""


def sandboxed(action: Callable[[], object], folder: Path, limits: Limits) -> Ended:
    """Runs the action in a forked process whose working directory is the folder, and waits for its end."""
    before, start = listing(folder), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name)
        pid = os.fork()
        if pid == 0:
            become(action, folder, log, limits)
        descriptor = os.pidfd_open(pid)
        timed_out = not select.select([descriptor], [], [], limits.seconds)[0]
        os.close(descriptor)
        if timed_out:
            os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        out, err, error = (
            (log / n).read_text(errors="replace") if (log / n).exists() else "" for n in ("out", "err", "error")
        )
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        code if code >= 0 else None, -code if code < 0 else None, timed_out, out, err, error,
        tuple(sorted(listing(folder) - before)), time.monotonic() - start, usage.ru_maxrss * 1024,
    )  # fmt: skip


def become(action: Callable[[], object], folder: Path, log: Path, limits: Limits) -> NoReturn:
    """Runs the action in the forked process, in the folder, its output in files. Ends as Python would."""
    code = 70
    faulthandler.disable()  # a test runner's would write to the terminal
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        processor = int(limits.seconds * 4) + 1  # several threads; the clock on the wall is the other limit
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 2))
        for number, place, flags in ((0, "/dev/null", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
            os.dup2(os.open(log / place, flags | os.O_CREAT), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(folder)
        code = exit_code(action, log)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def exit_code(action: Callable[[], object], log: Path) -> int:
    """The exit code that the interpreter would end with.

    The command line turns a typed error into SystemExit. The error is then the exit's context; its class is logged.
    """
    try:
        action()
    except SystemExit as exit_:
        if exit_.__context__ is not None:
            (log / "error").write_text(type(exit_.__context__).__name__)
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:  # noqa: BLE001 - this is the last frame of the process
        traceback.print_exc()
        return 1
    return 0


def listing(folder: Path) -> set[str]:
    """All paths in the folder, relative to it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def judge(ended: Ended, fault: Callable[[], str | None] = lambda: None) -> Verdict:
    """The verdict on a process. Exit 0 is an answer if `fault` gives None; exit 1 with a short message is an error."""
    output = (ended.err or ended.out)[-6000:]
    if ended.timed_out or ended.signal == signal.SIGXCPU:
        return Verdict("failure", "hang", output or f"killed after {ended.seconds:.0f} s")
    if ended.signal is not None:
        return Verdict("failure", f"killed by {signal.Signals(ended.signal).name}", output)
    if "Traceback" in ended.err + ended.out:
        logged = ended.code == 0 or ended.err.rpartition("\nerror: ")[1]  # by a library, before the command went on
        return Verdict("failure", f"{'logged ' if logged else ''}traceback: {where(ended.err)}", output)
    if ended.code == 0:
        reason = fault()
        if reason is not None:
            return Verdict("failure", f"wrong answer: {reason}", output, ended.err)
        return Verdict("answer", "", output, ended.err)
    if ended.code != 1:
        return Verdict("failure", f"exit code {ended.code}", output)
    if ended.new_files:
        return Verdict("failure", "files left behind", f"{', '.join(ended.new_files)}\n{output}")
    reason = fault_of_message(ended.err)
    if reason is not None:
        return Verdict("failure", f"{reason} ({ended.error})", output)
    return Verdict("error", ended.error or "?", output, ended.err.partition("error: ")[0])


def fault_of_message(err: str) -> str | None:
    """What is wrong with the message. None if it is 'error: ' and a line or two without control characters."""
    lines = [line for line in err.splitlines() if line.strip()]
    if not any(line.startswith("error: ") for line in lines):
        return "exit 1 without a message"
    if len(lines) > MOST_LINES or len(err) > MOST_CHARACTERS:
        return "long message"
    return "control characters in the message" if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", err) else None


def where(trace: str) -> str:
    """The exception and the last frame in onnxcam, which are the same for every case of one bug."""
    frames = re.findall(r'File "[^"]*/(onnxcam/[^"]+)", line (\d+), in (\w+)', trace)
    raised = re.findall(r"^([A-Za-z_][\w.]*)(?:: .*)?$", trace, re.MULTILINE)
    kinds = [kind for kind in raised if kind not in ("error", "Traceback")]
    kind = kinds[-1] if kinds else "?"
    return f"{kind} at {frames[-1][0]}:{frames[-1][1]} ({frames[-1][2]})" if frames else kind
