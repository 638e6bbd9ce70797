"""SingleFlight: a table of values that are made when first needed, each by one thread.

The network's gradients and the explainer's heads open their sessions with it. Making one value blocks neither the other
values nor close(); threads that need the same value wait for the one that makes it.
"""

from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from onnxcam.engine.forking import Lock, renew_in_child
from onnxcam.errors import InferenceError, OnnxCamError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Values by key. Threads may share it."""

    def __init__(self, close_value: Callable[[Value], None]) -> None:
        """close_value: frees a value, which may be in use."""
        self._close_value = close_value
        # The lock guards the table only, and is never held while a value is made.
        self._lock, self._closed = Lock(), False
        self._futures: dict[Key, Future[Value]] = {}
        self._made: dict[Key, Value] = {}
        renew_in_child(self)

    def after_fork(self) -> None:
        """Forgets in a forked child what another thread was making: that thread is not there."""
        self._futures = {key: _done(value) for key, value in self._made.items()}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The key's value, which `make` gives if there is none yet.

        Raises what `make` raises, in the threads that wait too if it is an OnnxCamError; the next call tries again.
        Raises InferenceError when closed.
        """
        while True:
            with self._lock:
                if self._closed:
                    raise InferenceError("this explainer is closed")
                future, is_new = self._futures.get(key), False
                if future is None:
                    future, is_new = Future(), True
                    self._futures[key] = future
            if is_new:
                self._make(key, make, future)
            try:
                return future.result()
            except CancelledError:
                continue  # the thread that was making it was interrupted

    def add(self, key: Key, value: Value) -> None:
        """Puts a value that get() returned under one more key, unless that has one."""
        with self._lock:
            if key not in self._futures:
                self._made[key] = value
                self._futures[key] = _done(value)

    @property
    def values(self) -> tuple[Value, ...]:
        """The values made so far, each once."""
        with self._lock:
            return tuple({id(value): value for value in self._made.values()}.values())

    @property
    def items(self) -> tuple[tuple[Key, Value], ...]:
        """(key, value) of each key whose value is made."""
        with self._lock:
            return tuple(self._made.items())

    def close(self) -> None:
        """Closes every value; one that is being made is closed once it is there. Waits for none."""
        with self._lock:
            self._closed = True
        for value in self.values:
            self._close_value(value)

    def _make(self, key: Key, make: Callable[[], Value], future: "Future[Value]") -> None:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._futures[key]
            if isinstance(error, OnnxCamError):
                future.set_exception(error)
            else:
                future.cancel()  # an interrupt of this thread is none of those that wait
            raise
        with self._lock:
            self._made[key] = value
            future.set_result(value)
            closed = self._closed
        if closed:
            self._close_value(value)


def _done(value: Value) -> "Future[Value]":
    future: Future[Value] = Future()
    future.set_result(value)
    return future
