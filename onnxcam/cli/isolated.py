"""`--isolated` of the commands that open a model and make no maps, or those of several methods: all of it runs apart.

`onnxcam explain` isolates its Explainer instead, so that the other pictures go on when one ends the process.
"""

import json
import signal
import subprocess
import sys
from types import FrameType

from onnxcam.cli.options import LimitArgs
from onnxcam.cli.parsing import parse_limits

PROGRAM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while modules are loaded
words = sys.argv[1:]
sys.path[:] = json.loads(words[0])
sys.argv = ["onnxcam", *words[2:]]
from onnxcam.explainer.isolated_process import confine
confine(*json.loads(words[1]))
from onnxcam.cli.start import start
start()
"""
FLAG = "--isolated"


def ran_isolated(isolated: bool, limits: LimitArgs, *, short: bool = False) -> bool:
    """Runs this command, without the flag, in a process with limits, and returns True; False where it is not isolated.

    short: whether the command makes no maps, so that its computing time is limited as a whole. Raises SystemExit with
    the exit code of that process, and ProcessDied where a signal ended it.
    """
    if not isolated:
        return False
    from onnxcam.errors import ProcessDied
    from onnxcam.explainer.child_process import check_system, how_it_ended

    check_system()
    from onnxcam.explainer.isolated_process import budget_of  # of systems that have such limits

    budget = budget_of(parse_limits(limits))
    confined = json.dumps([budget.memory, budget.seconds if short else None])
    words = sys.argv[1:]
    words.remove(FLAG)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, json.dumps(sys.path), confined, *words])

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    previous = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to that process too
    try:
        code = process.wait()
    finally:
        process.kill()
        for number, handler in {**previous, signal.SIGINT: interrupt}.items():
            signal.signal(number, handler)
    if code < 0 and -code not in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        raise ProcessDied(f"the isolated process {how_it_ended(code)}; this model or picture cannot be explained here")
    if code:
        raise SystemExit(code if code > 0 else 128 - code)
    return True
