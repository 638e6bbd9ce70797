"""The one place through which the command line prints: nothing that a file says reaches the terminal as it is.

Names of tensors, labels, metadata and files come from strangers: `printable` escapes what steers a terminal or misleads
its reader, and what is endless is cut. Pages are printed line by line, so that a line break within a name cannot pass
for one of the page. JSON keeps the true names, in its own escapes.
"""

import json as json_format
import logging
import re
import shutil
import sys
import textwrap
import threading
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from onnxcam.cli.failures import Reported, error_record
from onnxcam.errors import OnnxCamError
from onnxcam.outputs.printable import escaped, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LONGEST_WORD, LONGEST_LINE = 600, 4000
"""Characters that are printed of what has no blanks, and of a line. The rest is cut out of the middle."""
NOT_ASCII_NOR_BREAK = re.compile(r"[^\n -~]+")


def one_line(text: str) -> str:
    """printable(), without the middle of what is too long: names of a megabyte."""
    return _cut(printable(_cut(text)))


def wrapped(start: str, text: str, *, margin: int = 0) -> list[str]:
    """The text behind its start, broken to the width of a terminal, with its further lines below its first.

    margin: columns that are printed before each line.
    """
    if not sys.stdout.isatty():
        return [start + text]
    room = shutil.get_terminal_size().columns - margin - len(start)
    first, *rest = textwrap.wrap(one_line(text), max(room, 20), break_on_hyphens=False) or [""]
    return [start + first, *(" " * len(start) + line for line in rest)]


def wrapped_lines(lines: Iterable[str], column: int) -> list[str]:
    """The lines, those that are indented broken to the width of a terminal: what does not fit goes on at the column."""
    return [
        part for line in lines for part in (wrapped(line[:column], line[column:]) if line.startswith(" ") else [line])
    ]


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines on standard output. A line break within one of them is escaped."""
    _write(sys.stdout, "".join(f"{one_line(line)}\n" for line in lines))


def print_note(text: str, details: Iterable[str] = ()) -> None:
    """Prints a line on standard error, and the details below it."""
    _write(sys.stderr, "".join(f"{one_line(line)}\n" for line in (text, *(f"  {detail}" for detail in details))))


def print_json(value: object) -> None:
    """Prints the value as indented JSON on standard output."""
    _write(sys.stdout, f"{json_text(value)}\n")


def write_bytes(data: bytes) -> None:
    """Writes a file's bytes on standard output, as they are."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def json_list() -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """Prints a JSON list record by record. It is closed however the run ends; one that fails at once prints nothing.

    An OnnxCamError is its last record, and is raised as Reported then.
    """
    started = False

    def add(records: Sequence[Mapping[str, Any]]) -> None:
        nonlocal started
        for record in records:
            text = json_text(record).replace("\n", "\n  ")
            _write(sys.stdout, f"{',' if started else '['}\n  {text}")
            started = True

    try:
        yield add
    except OnnxCamError as error:
        if not started:
            raise
        add([error_record(error)])
        _write(sys.stdout, "\n]\n")
        raise Reported(error) from None
    except BaseException:
        if started:
            _write(sys.stdout, "\n]\n")
        raise
    _write(sys.stdout, "\n]\n" if started else "[]\n")


@contextmanager
def json_lines() -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """Prints one record a line, for readers of a run that has no end. Each line is written at once.

    An OnnxCamError is the last line, and is raised as Reported then.
    """

    def add(records: Sequence[Mapping[str, Any]]) -> None:
        for record in records:
            _write(sys.stdout, f"{json_text(record, indent=None)}\n")

    try:
        yield add
    except OnnxCamError as error:
        add([error_record(error)])
        raise Reported(error) from None


def json_text(value: object, *, indent: int | None = 2) -> str:
    """The value as JSON: in UTF-8 where standard output is, else in ASCII, which every encoding has.

    indent: None for one line.

    The names are the true ones. What printable() escapes stands in JSON's own escapes.
    """
    encoding = (sys.stdout.encoding or "").lower().replace("_", "-")
    text = json_format.dumps(value, indent=indent, ensure_ascii=encoding not in ("utf-8", "utf8"))
    return NOT_ASCII_NOR_BREAK.sub(lambda run: escaped(run[0], lambda c: json_format.dumps(c)[1:-1]), text)


class _Lines(logging.Handler):
    """Prints each record as a line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(f"{record.levelname.lower()}: {record.name.removeprefix('onnxcam.')}: {record.getMessage()}")


def show_logs(verbosity: int) -> None:
    """Prints what the library logs: nothing at 0, its choices (INFO) at 1, each session and picture (DEBUG) from 2."""
    logger = logging.getLogger("onnxcam")
    for handler in [one for one in logger.handlers if isinstance(one, _Lines)]:
        logger.removeHandler(handler)
    if verbosity:
        logger.addHandler(_Lines())
        logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)


def shows_logs() -> bool:
    """Whether -v asks for more than what is printed by default."""
    return any(isinstance(one, _Lines) for one in logging.getLogger("onnxcam").handlers)


def print_drawn(parts: "Iterable[RenderableType]") -> None:
    """Prints what rich draws on standard output, in the width of the terminal, in colours where it takes them.

    For texts of the program alone: names from files go through print_lines().
    """
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
        console.print(part)


def bar_console() -> "Console":
    """Where progress bars are drawn: standard error."""
    from rich.console import Console

    return Console(stderr=True)


def bar_text(text: str, columns: int) -> str:
    """The words of a bar in so many columns of a terminal at most, of which the end is cut."""
    line, taken = one_line(text), 0
    for i, character in enumerate(line):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return f"{line[: max(i - 3, 0)]}..."
    return line


def print_traceback(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Prints the traceback of a bug, as sys.excepthook does, with the names in it escaped."""
    lines: list[str] = []
    for part in traceback.format_exception(kind, error, trace):
        text = part.strip("\n")  # a frame has lines of its own, any other line break is of a message
        lines += text.split("\n") if text.startswith("  File ") else [text]
    _write(sys.stderr, "".join(f"{one_line(line)}\n" for line in lines))


def print_everything_else() -> None:
    """Lets Python print through this module too: tracebacks of bugs, in threads also, and warnings."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print_note(f"warning: {message} ({category.__name__}, {filename}:{lineno})")

    sys.excepthook = print_traceback
    threading.excepthook = lambda fault: print_traceback(fault.exc_type, fault.exc_value, fault.exc_traceback)
    warnings.showwarning = show


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # Python has none where the descriptor was closed
        stream.write(text)
        stream.flush()


def _cut(text: str) -> str:
    if len(text) > LONGEST_WORD:
        text = re.sub(f"[^ ]{{{LONGEST_WORD + 1},}}", lambda word: _without_middle(word[0], LONGEST_WORD), text)
    return _without_middle(text, LONGEST_LINE) if len(text) > LONGEST_LINE else text


def _without_middle(text: str, most: int) -> str:
    gap = f"[...{len(text) - most + 40:,} characters...]"
    return f"{text[: (most - 40) * 2 // 3]}{gap}{text[len(text) - (most - 40) // 3 :]}"
