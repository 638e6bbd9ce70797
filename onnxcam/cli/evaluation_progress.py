"""How far `onnxcam evaluate` is: a bar on a terminal, and elsewhere a line now and then, for the log of a night."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnxcam.cli.printing import bar_console, bar_text, print_note

if TYPE_CHECKING:
    from onnxcam.evaluation.pace import EvaluationProgress

FIRST, EVERY = 10.0, 300.0
"""Seconds until the first line of a log, and from one to the next."""


@dataclass
class EvaluationBar:
    """report: what evaluate() calls after each picture. note: says what is done that is no picture. last: the last
    progress, None before the first."""

    show: "Callable[[EvaluationProgress], None]"
    note: Callable[[str], None] = lambda text: None
    last: "EvaluationProgress | None" = None

    def report(self, progress: "EvaluationProgress") -> None:
        self.last = progress
        self.show(progress)


def duration(seconds: float) -> str:
    """3.1 s, 4 min 12 s, 2 h 5 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def pace_text(progress: "EvaluationProgress") -> str:
    """The rate and the time left, once they are known: 2.4 pictures/s, 12 min 3 s left."""
    if progress.rate is None:
        return ""
    rate = f"{progress.rate:.1f} pictures/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s a picture"
    left = f", {duration(progress.seconds_left)} left" if progress.seconds_left else ""
    return f"{rate}{left}"


@contextmanager
def evaluation_bar(*, quiet: bool) -> Iterator[EvaluationBar]:
    """A bar with rate and time left on a terminal's standard error; lines in a pipe; nothing when quiet."""
    if quiet:
        yield EvaluationBar(lambda progress: None)
    elif not sys.stderr.isatty():
        yield EvaluationBar(_Log().show)
    else:
        with _drawn() as bar:
            yield bar


@dataclass
class _Log:
    """Prints a line where the last one is long ago."""

    next: float = field(default_factory=lambda: time.monotonic() + FIRST)

    def show(self, progress: "EvaluationProgress") -> None:
        if progress.rate is None or time.monotonic() < self.next or progress.done == progress.total:
            return
        self.next = time.monotonic() + EVERY
        print_note(f"{progress.done:,} of {progress.total:,} pictures, {pace_text(progress)}")


@contextmanager
def _drawn() -> Iterator[EvaluationBar]:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[pace]}", markup=False),
    )
    with Progress(*columns, console=bar_console(), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("opening the model", total=None, pace="")

        def show(progress: "EvaluationProgress") -> None:
            numbers = f"{progress.done:,} of {progress.total:,}"
            room = max(10, shutil.get_terminal_size().columns - len(numbers) - 55)
            name = bar_text(progress.picture.rpartition("/")[2], room)
            description = f"{name} {numbers}" if progress.picture else numbers
            bar.update(
                task, description=description, completed=progress.done, total=progress.total, pace=pace_text(progress)
            )

        yield EvaluationBar(show, lambda text: bar.update(task, description=text, pace=""))
