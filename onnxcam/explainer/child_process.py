"""A process of its own, as the parent sees it: how it is started, the pipes to it, and how it ended.

isolation.py says what goes through the pipes, isolated_process.py is what runs at their other end.
"""

import json
import os
import select
import signal
import subprocess
import sys
import weakref
from contextlib import suppress
from typing import IO

from onnxcam.errors import InferenceError, OptionError

PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from onnxcam.explainer.isolated_process import main
main()
"""
CHUNK = 2**20
"""Bytes that are read or written at a time."""
LONGEST_POLL = 2**31 - 1
"""Milliseconds that the system waits at most: 24 days."""
CRASHES = {
    "SIGFPE": "a division that the processor refuses",
    "SIGSEGV": "a wrong address",
    "SIGBUS": "a wrong address",
    "SIGABRT": "an abort of a library, as when it gets no memory",
    "SIGILL": "an unknown instruction",
    "SIGKILL": "killed by the system, which may have run out of memory",
    "SIGXCPU": "it computed for longer than the limit",
    "SIGXFSZ": "it wrote a file larger than the limit",
}


def python_command(program: str, *words: str) -> list[str]:
    """The command that runs this program in a new process, with our sys.path as sys.argv[1] and the words after it.

    Without -P, Python would import what the program needs first from the current folder, which may be a stranger's.
    """
    return [sys.executable, "-P", "-c", program, json.dumps([one for one in sys.path if isinstance(one, str)]), *words]


class Ended(Exception):
    """The process is there no more."""


class Silent(Exception):
    """The process says nothing."""


class ChildProcess:
    """The process and the two pipes to it. silence: seconds after which it is given up, None for any.

    program: what runs there, as python_command() takes it. errors: where its standard error goes. way_out: what to do
    where the system starts no process, which raises InferenceError. A terminal's signals, such as Ctrl-C, do not reach
    the process: the parent decides.
    """

    def __init__(
        self,
        silence: float | None,
        program: str = PROGRAM,
        errors: int | IO[bytes] = subprocess.DEVNULL,
        way_out: str = "end other processes or close other explainers, or leave out isolated=True",
    ) -> None:
        self.silence = silence
        try:
            self._process = subprocess.Popen(
                python_command(program),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                process_group=0,
            )
        except OSError as error:
            raise InferenceError(
                f"a process of its own cannot be started ({error.strerror or error}); {way_out}"
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        for pipe in (self._to, self._from):
            os.set_blocking(pipe.fileno(), False)
        # Also where nobody calls close(), and at the end of the program.
        self._finalizer = weakref.finalize(self, _kill, self._process)

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return self._process.pid

    def write(self, data: bytes | memoryview) -> None:
        """Raises Ended, or Silent where the process takes nothing."""
        rest = memoryview(data)
        while rest:
            self._wait(self._to, select.POLLOUT)
            try:
                rest = rest[os.write(self._to.fileno(), rest[:CHUNK]) :]
            except BlockingIOError:
                continue
            except (OSError, ValueError):  # ValueError: closed
                raise Ended(self._end_text()) from None

    def read(self, size: int) -> bytearray:
        """The next bytes. Raises Ended, or Silent where none come."""
        data = bytearray()
        while len(data) < size:
            self._wait(self._from, select.POLLIN)
            try:
                part = os.read(self._from.fileno(), min(CHUNK, size - len(data)))
            except BlockingIOError:
                continue
            except (OSError, ValueError):  # ValueError: closed
                part = b""
            if not part:
                raise Ended(self._end_text())
            data += part
        return data

    def kill(self) -> None:
        """Ends the process at once. A thread that reads or writes then finds that it has ended."""
        self._process.kill()

    def end(self) -> None:
        """Ends the process at once and closes the pipes, which no other thread may be using."""
        self._finalizer()
        self.leave()

    def finish(self, seconds: float) -> None:
        """Closes the pipes, which tells the process to end, and waits; after these seconds it is ended."""
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._finalizer()

    def leave(self) -> None:
        """Closes the pipes of this process only, as a forked child does."""
        self._finalizer.detach()
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()

    def _wait(self, pipe: IO[bytes], events: int) -> None:
        poll = select.poll()
        try:
            poll.register(pipe.fileno(), events)
        except (OSError, ValueError):
            raise Ended(self._end_text()) from None
        if not poll.poll(None if self.silence is None else min(1000 * self.silence, LONGEST_POLL)):
            raise Silent(f"gave no sign of life for {self.silence:g} s")

    def _end_text(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its output"
        return how_it_ended(code)


def check_system() -> None:
    """Raises OptionError where processes have no limits."""
    if sys.platform == "win32":
        raise OptionError("an isolated process needs Linux or macOS; leave out --isolated, or use a container")


def how_it_ended(code: int) -> str:
    """In words. code: as subprocess gives it, below 0 for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"died of {name}{f' ({CRASHES[name]})' if name in CRASHES else ''}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
