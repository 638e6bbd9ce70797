"""The bar that `onnxcam explain` shows on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Advance = Callable[[int, Path], Callable[[int, int], None] | None]
"""Told which picture begins, gives what its progress is told to; several may be on their way."""


@contextmanager
def progress_bar(images: int, *, quiet: bool) -> Iterator[Advance]:
    """A bar with the time left on a terminal's standard error; nothing in a pipe or when quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda i, image: None
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
        shares: dict[int, float] = {}

        def advance(i: int, image: Path) -> Callable[[int, int], None]:
            name = image.name if images == 1 else f"{image.name} ({i + 1} of {images})"
            bar.update(task, description=name)

            shares[i] = 0.0

            def told(done: int, all_: int) -> None:
                shares[i] = done / all_
                left_out = max(shares) + 1 - len(shares)
                bar.update(task, completed=left_out + sum(shares.values()), total=images)

            return told

        yield advance
