"""Where the process `onnxcam` starts: signals and streams are taken care of before anything large is imported."""

import sys

from onnxcam.cli.stopping import install, quiet_unraisable


def start() -> None:
    """Entry point of the program. It owns its process; run() in main.py is what an embedding program may call."""
    stop, _ = install()
    sys.unraisablehook = quiet_unraisable(sys.unraisablehook)
    try:
        _run()
    finally:
        stop.finish()


def _run() -> None:
    from onnxcam.cli.streams import guard_streams, open_missing_descriptors

    open_missing_descriptors()
    guard_streams()
    from onnxcam.cli.main import run
    from onnxcam.cli.printing import print_traceback

    sys.excepthook = print_traceback
    run()


if __name__ == "__main__":
    start()
