"""Where the process `onnxcam` starts: signals and streams are taken care of before anything large is imported."""

import os
import sys

from onnxcam.cli.stopping import install, quiet_unraisable


def start() -> None:
    """Entry point of the program. It owns its process; run() in main.py is what an embedding program may call."""
    stop, _ = install()
    sys.unraisablehook = quiet_unraisable(sys.unraisablehook)
    try:
        _run()
    except SystemExit:
        if stop.code:  # all is cleaned up: threads that still compute are not waited for
            _end(stop.code)
        raise
    finally:
        stop.finish()


def _end(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _run() -> None:
    from onnxcam.cli.streams import guard_streams, open_missing_descriptors

    open_missing_descriptors()
    guard_streams()
    from onnxcam.cli.main import run
    from onnxcam.cli.printing import print_everything_else

    print_everything_else()
    run()


if __name__ == "__main__":
    start()
