"""Makes operating-system calls fail in turn, before or after they did their work, and counts them.

`Machine(folder)` watches the calls that concern what lies below a folder. A first run without a fault lists them; then
there is one run for each fault. Calls of libraries are watched as well: shutil, pathlib and open() end in these.
"""

import builtins
import errno
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

CALLS = (
    "open", "close", "read", "write", "fsync", "replace", "rename", "link", "symlink", "readlink", "unlink", "remove", "mkdir", "rmdir", "stat", "lstat", "fstat", "access", "chmod", "fchmod", "utime", "truncate", "ftruncate", "lseek", "scandir", "listdir", "sendfile", "copy_file_range", "listxattr", "getxattr", "setxattr", "set_blocking",
)  # fmt: skip
METHODS = ("read", "readinto", "write", "flush", "truncate", "seek", "close")
"""Of an open file."""


def _error(number: int) -> Callable[[], OSError]:
    return lambda: OSError(number, os.strerror(number))


ERRORS: dict[str, Callable[[], BaseException]] = {
    "full": _error(errno.ENOSPC), "denied": _error(errno.EACCES), "broken": _error(errno.EIO), "memory": MemoryError, "interrupt": KeyboardInterrupt,
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """The at-th watched call, from 0, raises an error. when: 'before' its work, 'after' it, or in the 'middle' of it."""

    at: int
    call: str
    when: str
    error: str

    def __str__(self) -> str:
        return f"{self.error} {self.when} call {self.at}, {self.call}"


def faults_of(calls: Sequence[str], errors: Sequence[str] = tuple(ERRORS)) -> list[Fault]:
    """Every fault of these calls; a write may also fail in the middle."""
    return [
        Fault(at, call, when, error)
        for at, call in enumerate(calls)
        for when in ("before", "after", "middle")
        if when != "middle" or call.endswith("write")
        for error in errors
    ]


class Machine:
    """calls: names of the watched calls of the last run, in order."""

    def __init__(self, folder: Path) -> None:
        self._root = os.path.join(os.path.abspath(folder), "")
        self._faults: dict[int, Fault] = {}
        self._descriptors: set[int] = set()
        self._thread = threading.get_ident()
        self.calls: list[str] = []

    def run(self, action: Callable[[], object], *faults: Fault) -> BaseException | None:
        """Runs the action with these faults; returns what it raised."""
        self._faults, self.calls = {fault.at: fault for fault in faults}, []
        with self._patched():
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - it is what the caller asks for
                return error
        return None

    @contextmanager
    def _patched(self) -> Iterator[None]:
        opening = self._wrapped("fopen", io.open)
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                if hasattr(os, name):
                    patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            patch.setattr(builtins, "open", opening)
            patch.setattr(io, "open", opening)
            yield

    def _watches(self, arguments: Sequence[object]) -> bool:
        if threading.get_ident() != self._thread:
            return False
        return any(self._is_below(argument) for argument in arguments[:2])

    def _is_below(self, argument: object) -> bool:
        if isinstance(argument, int):
            return argument in self._descriptors
        if isinstance(argument, str | os.PathLike):
            return os.path.join(os.path.abspath(argument), "").startswith(self._root)
        return False

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not self._watches(arguments):
                return real(*arguments, **options)
            return self.point(name, real, *arguments, **options)

        return call

    def point(self, name: str, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """One watched call."""
        fault = self._faults.get(len(self.calls))
        self.calls.append(name)
        if fault is None:
            return self._kept(name, arguments, real(*arguments, **options))
        closes = name.endswith("close")  # the system gives the descriptor back, whatever it says
        if fault.when == "middle" and name.endswith("write"):
            *first, data = arguments
            real(*first, data[: len(data) // 2])
        elif fault.when == "after" or closes:
            with suppress(OSError):  # the call itself fails, and then the fault comes
                result = real(*arguments, **options)
                if name == "open":
                    os.close(result)
                elif name in ("fopen", "scandir"):
                    result.close()
        if closes:
            self._descriptors.difference_update(arguments)
        raise ERRORS[fault.error]()

    def _kept(self, name: str, arguments: Sequence[Any], result: Any) -> Any:
        if name == "open":
            self._descriptors.add(result)
        elif name == "close":
            self._descriptors.difference_update(arguments)
        elif name == "fopen":
            self._descriptors.add(result.fileno())
            return _File(self, result)
        return result


class _File:
    """An open file whose methods are watched calls."""

    def __init__(self, machine: Machine, file: Any) -> None:
        self._machine, self._file = machine, file

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._file, name)
        if name not in METHODS:
            return method
        return lambda *arguments: self._machine.point(f"file.{name}", method, *arguments)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __del__(self) -> None:
        self._file.close()


def interrupted(action: Callable[[], object], module: str, at: int | None) -> tuple[BaseException | None, int]:
    """Runs the action with KeyboardInterrupt before the at-th line that it runs in a module's file, counted from 0.

    Returns what was raised, and the number of lines that were run there.
    """
    count = 0
    raised: list[BaseException] = []

    def local(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count - 1 == at:
                raise KeyboardInterrupt
        return local

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        return local if frame.f_code.co_filename == module else None

    def run() -> None:
        sys.settrace(enter)
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - it is what the caller asks for
            raised.append(error)
        finally:
            sys.settrace(None)

    # In a thread of its own: an exception between the lines of a handler leaves that exception behind as the context of
    # all that this thread raises later.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return next(iter(raised), None), count


def open_files() -> int:
    """Descriptors of this process; 0 where the system does not list them."""
    folder = "/proc/self/fd"
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0
