"""An error that ends a command, for programs: with --json it is JSON on standard output, beside the line for people."""

from collections.abc import Sequence
from typing import Any

from onnxcam.errors import OnnxCamError

USAGE = "UsageError"
"""The type of a command line that cannot be parsed."""
FLAG, END = "--json", "--"


class Reported(OnnxCamError):
    """An error that standard output holds already, in the JSON that the command printed. error: the error itself."""

    def __init__(self, error: OnnxCamError) -> None:
        self.error = error
        super().__init__(str(error))


def wants_json(words: Sequence[str]) -> bool:
    """Whether the words of a command line hold --json; they may be wrong otherwise."""
    options = words[: words.index(END)] if END in words else words
    return FLAG in options


def error_lines(error: OnnxCamError) -> list[str]:
    """What is printed of an error: a sentence, and the lines below it."""
    return [*getattr(error, "lines", [str(error)])]


def error_record(error: OnnxCamError) -> dict[str, Any]:
    """{"error": {"type", "message"}} of an error, with "details", a list of sentences, if it has some."""
    message, *details = error_lines(error)
    return failure_record(type(error).__name__, message, details)


def failure_record(kind: str, message: str, details: Sequence[str] = ()) -> dict[str, Any]:
    """As error_record(), of its parts."""
    return {"error": {"type": kind, "message": message, **({"details": [*details]} if details else {})}}
