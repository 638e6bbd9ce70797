"""Runs a function in a forked child, which is ended if it hangs."""

import os
import pickle
import signal
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
SECONDS = 30


def in_fork(function: Callable[[], Result], seconds: int = SECONDS) -> Result:
    """What the function returns or raises in a forked child. Fails if the child takes longer than `seconds` or dies."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            outcome: object = (None, function())
        except BaseException as error:  # noqa: BLE001  (the parent raises it)
            outcome = (error, None)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        sent = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status != signal.SIGALRM, f"the child hung for {seconds} s"
    assert status == 0, f"the child ended with status {status}"
    error, result = pickle.loads(sent)
    if error is not None:
        raise error
    return result
