"""Standard output and error of a process, whatever they are: absent, closed, full, or without some characters.

`guard_streams` puts streams in place on which the rest of the command line can print without a thought:

- absent (a daemon, pythonw, `>&-`): what is printed is dropped;
- standard output whose reader has gone (`| head -1`): the command ends, with the exit code of SIGPIPE;
- standard output that cannot be written (a full disk): OutputError;
- standard error that cannot be written: what is printed is dropped, since nobody can be told.

After the first failure a stream drops everything, so that Python has nothing to complain of when it ends.
"""

import errno
import io
import os
import select
import sys
from typing import IO, Any, TextIO

from onnxcam.errors import OutputError

CLOSED = 128 + 13
"""Exit code of a program that SIGPIPE ends, as shells report it."""


class _Guarded(io.RawIOBase):
    """The raw stream below standard output or error. needed: whether a failed write ends the command."""

    def __init__(self, raw: Any, *, needed: bool) -> None:
        self._raw = raw
        self._needed = needed
        self._lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return not self._lost and bool(self._raw.isatty())

    def write(self, data: Any) -> int:
        if self._lost:
            return len(data)
        try:
            while (written := self._raw.write(data)) is None:  # a pipe that does not block, and is full
                select.select([], [self._raw], [])
            return int(written)
        except (OSError, ValueError) as error:  # ValueError: closed
            self._lost = True
            if self._needed:
                self._refuse(error)
            return len(data)

    def _refuse(self, error: OSError | ValueError) -> None:
        if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
            raise SystemExit(CLOSED) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(f"standard output cannot be written: {reason}; make room there, or add --quiet") from None


def open_missing_descriptors() -> None:
    """Opens the null device as each of 0, 1 and 2 that is closed: a file opened later must not become one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(opened, True)


def guard_streams() -> None:
    """Replaces sys.stdout and sys.stderr."""
    sys.stdout = _guarded(sys.stdout, needed=True)
    sys.stderr = _guarded(sys.stderr, needed=False)


def _guarded(stream: TextIO | None, *, needed: bool) -> TextIO:
    if stream is None:  # a daemon, pythonw
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    buffer: IO[bytes] | None = getattr(stream, "buffer", None)
    if buffer is None:
        return stream
    raw = _Guarded(getattr(buffer, "raw", buffer), needed=needed)
    # Characters that the encoding lacks, and halves of surrogate pairs in files' names, become escapes.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=not needed or stream.isatty()
    )


def flush(stream: TextIO | None) -> None:
    """Writes what is buffered. Raises as write() does."""
    if stream is not None:
        stream.flush()
