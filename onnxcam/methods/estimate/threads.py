"""Small matrices on one thread: BLAS's own threads cost more than they bring, and fight with the runtime's."""

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@cache
def _controller() -> "ThreadpoolController":
    """Imported when it is first needed: not every call of the command line does."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


class one_thread(ContextDecorator):  # noqa: N801, a function to those who use it
    """While any thread of the process is inside, BLAS runs on one thread; then it runs as it did before.

    OpenBLAS 0.3.31 heeds this from the thread that set it first only; elsewhere it costs time, never a result.
    """

    _lock = threading.Lock()
    _inside = 0
    _undo: Callable[[], object] | None = None

    def __enter__(self) -> None:
        kind = type(self)
        with kind._lock:
            if kind._inside == 0:
                kind._undo = _controller().limit(limits=1, user_api="blas").restore_original_limits
            kind._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = type(self)
        with own._lock:
            own._inside -= 1
            if own._inside == 0 and own._undo is not None:
                own._undo()
                own._undo = None
