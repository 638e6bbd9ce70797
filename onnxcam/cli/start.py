"""Where the process `onnxcam` starts: signals and streams are taken care of before anything large is imported."""

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxcam.cli.stopping import Stop


SELDOM = (500_000, 20, 20)
"""Thresholds of the garbage collector. Imports and graphs make many objects that stay: at Python's own thresholds a
first start spends a fifth of its time looking at them."""


def start() -> None:
    """Entry point of the program. It owns its process; run() in main.py is what an embedding program may call."""
    _end_at_ctrl_c()
    gc.set_threshold(*SELDOM)
    from onnxcam.cli.stopping import install, quiet_unraisable

    stop, _ = install()
    sys.unraisablehook = quiet_unraisable(sys.unraisablehook)
    try:
        _run(stop)
    except SystemExit:
        if stop.code:  # all is cleaned up: threads that still compute are not waited for
            _end(stop.code)
        raise
    finally:
        stop.finish()
        gc.freeze()  # the last look, for what nothing refers to, would find what ends with the process anyway


def _end_at_ctrl_c() -> None:
    """Until the handlers are there, there is nothing to clean up, and Python's own would print a traceback."""
    with suppress(ValueError):  # not the main thread, which alone gets signals
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _stop_runs() -> None:
    """Ends the forward passes that are under way, if the engine is loaded by now."""
    deadlines = sys.modules.get("onnxcam.engine.deadlines")
    if deadlines is not None and hasattr(deadlines, "stop_all"):
        deadlines.stop_all()


def _end(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _run(stop: "Stop") -> None:
    from onnxcam.cli.late_imports import import_late
    from onnxcam.cli.stopping import watch
    from onnxcam.cli.streams import guard_streams, open_missing_descriptors

    import_late()
    open_missing_descriptors()
    guard_streams()
    watch(stop, _stop_runs)
    from onnxcam.cli.main import run
    from onnxcam.cli.printing import print_everything_else

    print_everything_else()
    run()


if __name__ == "__main__":
    start()
