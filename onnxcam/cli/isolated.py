"""`--isolated` of the commands that open a model and make no maps, or those of several methods: all of it runs apart.

`onnxcam explain` isolates its Explainer instead, so that the other pictures go on when one ends the process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from onnxcam.cli.options import LimitArgs
from onnxcam.cli.parsing import parse_limits
from onnxcam.cli.stopping import SIGNALS
from onnxcam.errors import InferenceError, ProcessDied

PROGRAM = """
import json, os, signal, sys, threading
words = sys.argv[1:]
sys.path[:] = json.loads(words[0])
sys.argv = ["onnxcam", *words[3:]]
signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # it may write to the terminal of its parent
parent = int(words[2])
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while modules are loaded
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def end_with_parent():
    os.read(parent, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_with_parent, daemon=True).start()
from onnxcam.explainer.isolated_process import confine
confine(*json.loads(words[1]))
from onnxcam.cli.start import start
start()
"""
FLAG = "--isolated"
PATIENCE = 2.0
"""Seconds that the process has to end after the first signal; then it is killed, wherever it is."""


def ran_isolated(isolated: bool, limits: LimitArgs, *, short: bool = False) -> bool:
    """Runs this command, without the flag, in a process with limits, and returns True; False where it is not isolated.

    short: whether the command makes no maps, so that its computing time is limited as a whole. Raises SystemExit with
    the exit code of that process, and ProcessDied where a signal ended it.
    """
    if not isolated:
        return False
    from onnxcam.explainer.child_process import check_system, how_it_ended, python_command

    check_system()
    from onnxcam.explainer.isolated_process import budget_of  # of systems that have such limits

    budget = budget_of(parse_limits(limits))
    confined = json.dumps([budget.memory, budget.seconds if short else None])
    words = sys.argv[1:]
    words.remove(FLAG)
    code = _run(lambda pipe: python_command(PROGRAM, confined, str(pipe), *words))
    if code < 0 and -code not in SIGNALS:
        raise ProcessDied(f"the isolated process {how_it_ended(code)}; this model or picture cannot be explained here")
    if code:
        raise SystemExit(code if code > 0 else 128 - code)
    return True


def _run(command: Callable[[int], list[str]]) -> int:
    """The exit code of the process, as subprocess gives it; where it did not end at a signal in time, of that signal.

    command: by the pipe that closes with this process.

    The process is in a group of its own, so that a signal that a terminal or a manager sends to all reaches it once:
    from here. It ends when this process does, whose end of a pipe closes then.
    """
    signals: list[int] = []
    reader, writer = os.pipe()
    old = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal that comes now is handed on below
    try:
        process = subprocess.Popen(command(reader), pass_fds=[reader], process_group=0)
        handlers = _hand_on(process, signals)
    except OSError as error:
        raise InferenceError(f"the isolated process cannot be started ({error.strerror or error})") from None
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
    try:
        code = process.wait()
        return -signals[0] if signals and code == -signal.SIGKILL else code
    finally:
        process.kill()
        os.close(writer)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _hand_on(process: "subprocess.Popen[bytes]", signals: list[int]) -> dict[int, Any]:
    """Sends the signals that this process gets to the other one, and kills that if it does not end.

    signals: gets their numbers. Returns the handlers that were replaced.
    """

    def hand_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)
        signals.append(number)
        if len(signals) == 1:
            timer = threading.Timer(PATIENCE, process.kill)
            timer.daemon = True
            with suppress(RuntimeError):  # the system starts no further thread
                timer.start()

    def pause(number: int, frame: FrameType | None) -> None:
        process.send_signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        process.send_signal(signal.SIGCONT)

    handlers: dict[int, Any] = {}
    for number, handler in (*((number, hand_on) for number in SIGNALS), (signal.SIGTSTP, pause)):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as SIGHUP is ignored under nohup
            handlers[number] = signal.signal(number, handler)
    return handlers
