"""A process of bounded time and memory, and whether its end is one that a user may see."""

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
"""Of an error's message; a little more than the 'one or two lines' that the style asks for."""


@dataclass(frozen=True)
class Limits:
    """memory: of address space, in bytes, which also counts the stacks of the runtime's threads."""

    seconds: float = 20
    memory: int = 3 * 2**30


@dataclass(frozen=True)
class Ended:
    """How a process ended. error: the class of the typed error. left: files that were not there before."""

    code: int | None
    signal: int | None
    timed_out: bool
    out: str
    err: str
    error: str
    left: tuple[str, ...]
    seconds: float
    peak: int


@dataclass(frozen=True)
class Verdict:
    """outcome: answer, error or failure. kind: the error's class, or what is wrong; detail: what was printed.

    noise: what stands on standard error besides the message. It is counted, but no failure.
    """

    outcome: str
    kind: str
    detail: str = ""
    noise: str = ""


def sandboxed(action: Callable[[], object], folder: Path, limits: Limits) -> Ended:
    """Run the action in a forked process whose working directory is the folder, and wait for its end."""
    before, start = listing(folder), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name)
        pid = os.fork()
        if pid == 0:
            become(action, folder, log, limits)
        ended = os.pidfd_open(pid)
        timed_out = not select.select([ended], [], [], limits.seconds)[0]
        os.close(ended)
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
    """In the forked process: take the limits, the folder and files for the output; act; end as Python would."""
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
    """As the interpreter does it; the error that the command line turned into an exit is the exit's context."""
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
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def judge(ended: Ended, answer: Callable[[], str | None] = lambda: None) -> Verdict:
    """A clean end is an answer if `answer` finds nothing wrong with it; a short message and exit 1 is an error."""
    said = (ended.err or ended.out)[-6000:]
    if ended.timed_out or ended.signal == signal.SIGXCPU:
        return Verdict("failure", "hang", said or f"killed after {ended.seconds:.0f} s")
    if ended.signal is not None:
        return Verdict("failure", f"killed by {signal.Signals(ended.signal).name}", said)
    if "Traceback" in ended.err + ended.out:
        logged = ended.code == 0 or ended.err.rpartition("\nerror: ")[1]  # by a library, before the command went on
        return Verdict("failure", f"{'logged ' if logged else ''}traceback: {where(ended.err)}", said)
    if ended.code == 0:
        wrong = answer()
        failed = wrong is not None
        return Verdict("failure" if failed else "answer", f"wrong answer: {wrong}" if failed else "", said, ended.err)
    if ended.code != 1:
        return Verdict("failure", f"exit code {ended.code}", said)
    if ended.left:
        return Verdict("failure", "files left behind", f"{', '.join(ended.left)}\n{said}")
    wrong = wrong_with_message(ended.err)
    if wrong is not None:
        return Verdict("failure", f"{wrong} ({ended.error})", said)
    return Verdict("error", ended.error or "?", said, ended.err.partition("error: ")[0])


def wrong_with_message(err: str) -> str | None:
    """None where it is 'error: ' with a line or two, which a terminal shows as they are."""
    lines = [line for line in err.splitlines() if line.strip()]
    if not any(line.startswith("error: ") for line in lines):
        return "exit 1 without a message"
    if len(lines) > MOST_LINES or len(err) > MOST_CHARACTERS:
        return "long message"
    return "control characters in the message" if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", err) else None


def where(trace: str) -> str:
    """The exception and the last frame in onnxcam: one bug has one of these."""
    frames = re.findall(r'File "[^"]*/(onnxcam/[^"]+)", line (\d+), in (\w+)', trace)
    raised = re.findall(r"^([A-Za-z_][\w.]*)(?:: .*)?$", trace, re.MULTILINE)
    kinds = [kind for kind in raised if kind not in ("error", "Traceback")]
    kind = kinds[-1] if kinds else "?"
    return f"{kind} at {frames[-1][0]}:{frames[-1][1]} ({frames[-1][2]})" if frames else kind
