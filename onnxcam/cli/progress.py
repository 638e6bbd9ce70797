"""The bar that `onnxcam explain` shows on a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxcam.explainer.prefetch import GroupProgress
    from onnxcam.types import Progress as OnProgress


@contextmanager
def progress_bar(images: Sequence[Path], *, quiet: bool) -> Iterator["GroupProgress"]:
    """A bar with the time left on a terminal's standard error; nothing in a pipe or when quiet.

    Yields what explain_each() calls when a group of pictures begins; the pictures before it are finished. What is
    printed meanwhile on the same terminal stands above the bar.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda group: [None] * len(group)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    # Rich would send standard output to the bar's console, and so records that are piped elsewhere.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as bar:
        task = bar.add_task("opening the model", total=None)

        def begin(group: Sequence[int]) -> "list[OnProgress]":
            shares = dict.fromkeys(group, 0.0)
            finished, last = group[-1] + 1 - len(group), group[-1]
            numbers = f"{last + 1}" if len(group) == 1 else f"{group[0] + 1} to {last + 1}"
            name = images[last].name
            description = name if len(images) == 1 else f"{name} ({numbers} of {len(images)})"
            bar.update(task, description=description, completed=finished, total=len(images))

            def on_progress(i: int, done: int, expected: int) -> None:
                shares[i] = max(shares[i], done / expected)  # what is expected may grow
                bar.update(task, completed=finished + sum(shares.values()))

            return [partial(on_progress, i) for i in group]

        yield begin
