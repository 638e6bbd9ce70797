"""What is made anew in a forked child, which has only the thread that forked: locks, pools of threads, sessions.

A lock that another thread held is never released there, and work that is given to a pool never begins. Objects join
with `renew_in_child`; their after_fork() runs in the child before anything else does.
"""

import os
import threading
from types import TracebackType
from typing import Any, Protocol, Self
from weakref import WeakSet


class Renewable(Protocol):
    """An object that does not survive a fork as it is."""

    def after_fork(self) -> None:
        """Makes it usable in a forked child, by its only thread. Takes no lock, waits for nothing, raises nothing."""


_renewables: "WeakSet[Renewable]" = WeakSet()


def renew_in_child(value: Renewable) -> None:
    """Has value.after_fork() called in every child that this process forks from now on."""
    _renewables.add(value)


def _after_fork() -> None:
    for value in list(_renewables):
        value.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


class Lock:
    """A lock that is free again in a forked child, unless the thread that forked holds it.

    reentrant: the thread that holds it may take it again, as threading.RLock has it.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._make = threading.RLock if reentrant else threading.Lock
        self._lock: Any = self._make()
        self._depth, self._holder = 0, 0
        renew_in_child(self)

    def acquire(self, *, blocking: bool = True) -> bool:
        """Whether the lock was taken; waits for it if blocking."""
        if not self._lock.acquire(blocking):
            return False
        self._depth, self._holder = self._depth + 1, threading.get_ident()
        return True

    def release(self) -> None:
        self._depth -= 1
        self._lock.release()

    def after_fork(self) -> None:
        if self._depth == 0 or self._holder != threading.get_ident():
            self._lock, self._depth = self._make(), 0

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
