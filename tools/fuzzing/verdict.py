"""Judges the end of a case: a right answer and an error of onnxcam's own are good, anything else is a failure."""

import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnxcam.errors import OnnxCamError

MOST_LINES, MOST_CHARACTERS = 3, 2000
"""Limits of an error message, a little above the one or two lines that it should have."""


@dataclass(frozen=True)
class Verdict:
    """outcome: answer, error or failure. kind: the error's class, or what is wrong; detail: what was printed.

    seconds: on the wall. peak: bytes that the case added. Both are 0 where they were not measured.
    """

    outcome: str
    kind: str = ""
    detail: str = ""
    seconds: float = 0.0
    peak: int = 0


ANSWER = Verdict("answer")


class Wrong(Exception):
    """Raised by a check for an answer that is not right."""


def wrong(reason: str, detail: object = "") -> Verdict:
    return Verdict("failure", f"wrong answer: {reason}", str(detail)[:2000])


def judged(check: Callable[[dict[str, bytes], Path], Verdict], files: dict[str, bytes], folder: Path) -> Verdict:
    """The check's own verdict, or that on what it raised."""
    try:
        return check(files, folder)
    except Wrong as error:
        return wrong(str(error.args[0]), "; ".join(map(str, error.args[1:])))
    except OnnxCamError as error:
        return judged_error(type(error).__name__, str(error))
    except BaseException as error:  # noqa: BLE001 - this judges what must not happen
        trace = "".join(traceback.format_exception(error, limit=-30))
        return Verdict("failure", f"traceback: {where(trace)}", trace[-6000:])


def judged_error(kind: str, message: str) -> Verdict:
    reason = fault_of_message(message)
    return (
        Verdict("error", kind, message[:300]) if reason is None else Verdict("failure", f"{reason} ({kind})", message)
    )


def fault_of_message(message: str) -> str | None:
    """What is wrong with the text of an error, or None. Control characters are the printer's business."""
    if not message.strip():
        return "an error without a message"
    if len(message.splitlines()) > MOST_LINES or len(message) > MOST_CHARACTERS:
        return "long message"
    return None


def fault_of_output(err: str) -> str | None:
    """What is wrong with how the command line printed an error: 'error: ', a line or two, no control characters."""
    lines = [line for line in err.splitlines() if line.strip()]
    if not any(line.startswith("error: ") for line in lines):
        return "exit 1 without a message"
    if len(lines) > MOST_LINES or len(err) > MOST_CHARACTERS:
        return "long message"
    return "control characters in the message" if re.search(r"[\x00-\x08\x0b-\x1f\x7f\x9b]", err) else None


def where(trace: str) -> str:
    """The exception and the last frame in onnxcam, which are the same for every case of one bug."""
    frames = re.findall(r'File "[^"]*/(onnxcam/[^"]+)", line (\d+), in (\w+)', trace)
    raised = re.findall(r"^([A-Za-z_][\w.]*)(?:: .*)?$", trace, re.MULTILINE)
    kinds = [kind for kind in raised if kind not in ("error", "Traceback")]
    kind = kinds[-1] if kinds else "?"
    return f"{kind} at {frames[-1][0]}:{frames[-1][1]} ({frames[-1][2]})" if frames else kind
