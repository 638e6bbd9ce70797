"""Where the process `onnxcam` starts: signals and streams are taken care of before anything large is imported."""

import os
import sys

from onnxcam.cli.stopping import Stop, install, quiet_unraisable, watch


def start() -> None:
    """Entry point of the program. It owns its process; run() in main.py is what an embedding program may call."""
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


def _run(stop: Stop) -> None:
    from onnxcam.cli.streams import guard_streams, open_missing_descriptors

    open_missing_descriptors()
    guard_streams()
    watch(stop, _stop_runs)
    from onnxcam.cli.main import run
    from onnxcam.cli.printing import print_everything_else

    print_everything_else()
    run()


if __name__ == "__main__":
    start()
