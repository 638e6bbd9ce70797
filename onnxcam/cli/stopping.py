"""How signals stop a command: as soon as nothing is half done, with what was begun cleaned up, and no traceback."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
"""What a keyboard, a service manager or a terminal that is closed sends. No system has all of them."""
REMIND = 0.3
"""Seconds after which a program that has not begun to end is reminded."""
DEEPEST = 1000
"""Errors in a chain of contexts that are looked at."""
MOST = 4
"""Signals that a process gets which does not come to an end."""


class Stop:
    """Ends the program on a signal, with 128 + its number as exit code, as shells report it.

    The first signal waits for the end of a deferred() block; the second one does not. Then `finally` blocks clean up,
    and one more signal does not disturb them. The one after it ends the process at once: the next run sweeps what it
    leaves.
    """

    def __init__(self) -> None:
        self._deferred = False
        self._raised = False
        self._over = False
        self._ignored = 0
        self._code = 0
        self._exit: SystemExit | None = None
        self._reminder = False

    @property
    def code(self) -> int:
        """The exit code of the first signal; 0 before it."""
        return self._code

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises SystemExit once, within a deferred() block at the second signal."""
        reminder, self._reminder = self._reminder and self._raised, False
        if reminder:
            if not self._over and not _is_handled(self._exit):
                self._end()
            return
        waits = self._deferred and not self._code
        self._code = self._code or 128 + number
        if self._over or self._ignored:
            os._exit(self._code)
        if self._raised:
            self._ignored += 1
        elif not waits:
            self._end()

    def remind(self) -> bool:
        """Raises SystemExit once more where it was lost: in a destructor, a callback, or C code that drops errors.

        Called from another thread, again and again. It does not disturb a `finally` block that cleans up. Returns
        whether a signal was sent.
        """
        if not self._raised or self._over:
            return False
        self._reminder = True
        os.kill(os.getpid(), self._code - 128)
        return True

    def _end(self) -> NoReturn:
        self._raised = True
        self._exit = SystemExit(self._code)
        raise self._exit

    def raise_again(self) -> None:
        """Raises the SystemExit of a signal that came, where other code made something else of it."""
        if self._exit is not None:
            raise self._exit

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A signal that comes within the block ends the program behind it."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._code and not self._raised:
            self._end()

    def finish(self) -> None:
        """From here on a signal ends the process at once: there is nothing left to clean up."""
        self._over = True


def install() -> tuple[Stop, dict[int, Any]]:
    """Handles the signals that are not ignored, as SIGHUP is under nohup. Returns the handlers that were replaced too.

    Only the main thread receives signals; elsewhere nothing is installed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        return stop, {}
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    # A handler is None if it was not installed from Python, as that of an embedding program.
    handled = {number: old for number, old in previous.items() if old is not signal.SIG_IGN and old is not None}
    for number in handled:
        signal.signal(number, stop.handle)
    return stop, handled


def watch(stop: Stop, stop_runs: Callable[[], None]) -> None:
    """Starts a thread that calls stop_runs at each signal, reminds Stop, and ends the process at the fifth signal.

    A handler runs in the main thread once that is back from a forward pass, which may take minutes. Call it after
    install(), in the main thread, once the descriptors 0 to 2 are open.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        count = reminders = 0
        while True:
            if select.select([reader], [], [], REMIND if count else None)[0]:
                numbers = os.read(reader, 64)
                count += sum(number in SIGNALS for number in numbers)
                if count - reminders > MOST:
                    os._exit(stop.code or 128 + numbers[-1])
            elif stop.remind():
                reminders += 1
            if count:
                stop_runs()

    with suppress(RuntimeError):  # the system starts no further thread
        threading.Thread(target=wait, name="onnxcam-signals", daemon=True).start()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Handles the signals within the block, or uses what install() has put there for the whole process."""
    installed = _installed()
    if installed is not None:
        yield installed
        return
    stop, previous = install()
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def quiet_unraisable(show: Callable[[Any], object]) -> Callable[[Any], None]:
    """A sys.unraisablehook: a signal that came within a destructor or a callback is not printed as a fault."""

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, SystemExit):
            show(unraisable)

    return hook


def _is_handled(error: BaseException | None) -> bool:
    """Whether the code that runs is a `finally` or `except` block of this error, or is called from one."""
    handled = sys.exc_info()[1]
    for _ in range(DEEPEST):
        if handled is None or handled is error:
            break
        handled = handled.__context__
    return handled is not None


def _installed() -> Stop | None:
    if threading.current_thread() is not threading.main_thread():
        return None
    owners = (getattr(signal.getsignal(number), "__self__", None) for number in SIGNALS)
    return next((owner for owner in owners if isinstance(owner, Stop)), None)
