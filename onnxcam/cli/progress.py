"""The bar that `onnxcam explain` shows on a terminal."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

Advance = Callable[[Mapping[int, Path]], Sequence[Callable[[int, int], None] | None]]
"""Told which pictures begin, by their numbers: those before are done with. Gives what the progress of each is told."""


@contextmanager
def progress_bar(images: int, *, quiet: bool) -> Iterator[Advance]:
    """A bar with the time left on a terminal's standard error; nothing in a pipe or when quiet."""
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("opening the model", total=None)

        def advance(group: Mapping[int, Path]) -> list[Callable[[int, int], None]]:
            shares = dict.fromkeys(group, 0.0)
            ended, last = max(group) + 1 - len(group), max(group)
            number = f"{last + 1}" if len(group) == 1 else f"{min(group) + 1} to {last + 1}"
            shown = group[last].name if images == 1 else f"{group[last].name} ({number} of {images})"
            bar.update(task, description=shown, completed=ended, total=images)

            def told(i: int, done: int, all_: int) -> None:
                shares[i] = max(shares[i], done / all_)  # what is expected may grow
                bar.update(task, completed=ended + sum(shares.values()))

            return [partial(told, i) for i in group]

        yield advance
