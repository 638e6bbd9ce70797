"""How Ctrl-C and SIGTERM stop a long command: between two pictures, never while the files of one are written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Ends the program on a signal, with 128 + its number as exit code, as shells report it."""

    def __init__(self) -> None:
        self._deferred = False
        self._code: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises SystemExit, within a deferred() block from the second signal on."""
        self._code = 128 + number
        if not self._deferred:
            raise SystemExit(self._code)
        self._deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal that comes within the block ends the program behind it."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._code is not None:
            raise SystemExit(self._code)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Handles SIGINT and SIGTERM within the block, unless they are ignored. Only the main thread receives signals."""
    stop = Stop()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    if threading.current_thread() is not threading.main_thread():
        previous = {}
    handled = {number: handler for number, handler in previous.items() if handler is not signal.SIG_IGN}
    try:
        for number in handled:
            signal.signal(number, stop.handle)
        yield stop
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
