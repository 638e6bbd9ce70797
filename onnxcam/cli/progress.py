"""The bars that commands show on a terminal: of the pictures that are explained, or of the maps of a check."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.printing import bar_console, bar_text

if TYPE_CHECKING:
    from onnxcam.explainer.prefetch import GroupProgress
    from onnxcam.types import Progress as OnProgress


@dataclass(frozen=True)
class ProgressBar:
    """begin: what explain_each() calls when a group of pictures begins; the pictures before it are finished then.

    hidden: a block in which the bar is not on the terminal, so that something else can be printed there.
    """

    begin: "GroupProgress"
    hidden: Callable[[], AbstractContextManager[None]] = nullcontext


def _room() -> int:
    """Columns that the words of a bar may take: half of the terminal."""
    return max(20, shutil.get_terminal_size().columns // 2)


@contextmanager
def progress_bar(images: Sequence[Path], *, quiet: bool, text: str = "opening the model") -> Iterator[ProgressBar]:
    """A bar with the time left on a terminal's standard error; nothing in a pipe or when quiet.

    text: what stands before it until the first picture begins.
    """
    if quiet or not sys.stderr.isatty():
        yield ProgressBar(lambda group: [None] * len(group))
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    # Rich would send what is printed meanwhile to the bar's console: records, too, that are piped elsewhere.
    with Progress(*columns, console=bar_console(), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(text, total=None)

        def begin(group: Sequence[int]) -> "list[OnProgress]":
            shares = dict.fromkeys(group, 0.0)
            finished, last = group[-1] + 1 - len(group), group[-1]
            numbers = f"{last + 1}" if len(group) == 1 else f"{group[0] + 1} to {last + 1}"
            name = bar_text(images[last].name, _room())
            description = name if len(images) == 1 else f"{name} ({numbers} of {len(images)})"
            bar.update(task, description=description, completed=finished, total=len(images))

            def on_progress(i: int, done: int, expected: int) -> None:
                shares[i] = max(shares[i], done / expected)  # what is expected may grow
                bar.update(task, completed=finished + sum(shares.values()))

            return [partial(on_progress, i) for i in group]

        @contextmanager
        def hidden() -> Iterator[None]:
            bar.stop()
            try:
                yield
            finally:
                bar.start()

        yield ProgressBar(begin, hidden if sys.stdout.isatty() else nullcontext)


@contextmanager
def share_bar(
    text: str, *, quiet: bool, part: Callable[[float, float], str] | None = None
) -> "Iterator[Callable[[float, float], None] | None]":
    """A bar with the time left, moved by calls with (done, all); None in a pipe or when quiet.

    part: what stands before the bar instead of `text` from the first call on, of (done, all).
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=bar_console(), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(bar_text(text, _room()), total=None)

        def move(done: float, expected: float) -> None:
            now = part(done, expected) if part is not None else text
            bar.update(task, completed=done, total=expected, description=bar_text(now, _room()))

        yield move
