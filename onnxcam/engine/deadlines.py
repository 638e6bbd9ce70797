"""Deadlines: one thread for the whole process stops what is late. It starts with the first deadline and ends by itself.

A timer of its own for every run would cost a start of a thread each time, as much as a small model's forward pass.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from onnxcam.errors import OutOfMemory

LONGEST_WAIT = 86_400.0
"""Seconds after which the thread looks anew: the system cannot wait for any length of time."""


class Deadline:
    """`with Deadline(seconds, stop) as deadline:` calls `stop` from another thread if the block takes longer.

    seconds: None for no deadline. passed: whether it was called. Raises OutOfMemory where no thread can be started.
    """

    __slots__ = ("_stop", "end", "passed", "seconds")

    def __init__(self, seconds: float | None, stop: Callable[[], None]) -> None:
        self.seconds, self._stop, self.end, self.passed = seconds, stop, math.inf, False

    def __enter__(self) -> Self:
        if self.seconds is not None:
            self.end = time.monotonic() + self.seconds
            _of_this_process().add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.seconds is not None:
            _of_this_process().remove(self)

    def stop(self) -> None:
        """Called by the thread that watches."""
        self.passed = True
        self._stop()


class _Watch:
    """The deadlines that are open, and the thread that waits for the earliest one."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._changed = threading.Condition()
        self._open: set[Deadline] = set()
        self._wakes = math.inf  # when the thread looks next; infinity while there is none

    def add(self, deadline: Deadline) -> None:
        with self._changed:
            self._open.add(deadline)
            if deadline.end >= self._wakes:
                return
            waits = self._wakes < math.inf
            self._wakes = deadline.end
            if waits:
                self._changed.notify()
                return
            try:
                threading.Thread(target=self._watch, name="onnxcam-deadlines", daemon=True).start()
            except RuntimeError:
                self._open.discard(deadline)
                self._wakes = math.inf
                raise OutOfMemory("the system starts no further thread, by which a run could be stopped") from None

    def remove(self, deadline: Deadline) -> None:
        # The thread is not told: it looks at the time it waits for, and ends if nothing is open then.
        with self._changed:
            self._open.discard(deadline)

    def stop_all(self) -> None:
        with self._changed:
            for deadline in self._open:
                deadline.stop()
            self._open.clear()

    def _watch(self) -> None:
        with self._changed:
            while self._wakes < math.inf:
                # First: who added a deadline is often gone before this thread runs, and the next one needs it again.
                self._changed.wait(min(max(0.0, self._wakes - time.monotonic()), LONGEST_WAIT))
                now = time.monotonic()
                for late in [deadline for deadline in self._open if deadline.end <= now]:
                    self._open.discard(late)
                    late.stop()
                self._wakes = min((deadline.end for deadline in self._open), default=math.inf)


_watch = _Watch()


def _of_this_process() -> _Watch:
    """The watch of this process: a forked child has none of its parent's threads, and its locks may be taken."""
    global _watch
    if _watch.process != os.getpid():
        _watch = _Watch()
    return _watch


def stop_all() -> None:
    """Stops at once what has a deadline, from another thread than those that run: for a program that ends."""
    _of_this_process().stop_all()
