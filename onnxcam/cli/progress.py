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
        group: list[int] = []
        running = False

        def show() -> None:
            done = max(shares) + 1 - len(shares) + sum(shares.values())
            bar.update(task, completed=max(done, bar.tasks[0].completed), total=images)

        def advance(i: int, image: Path) -> Callable[[int, int], None]:
            nonlocal running
            if running:  # those before have ended, some perhaps too early
                shares.update(dict.fromkeys(shares, 1.0))
                group.clear()
                running = False
            shares[i] = 0.0
            group.append(i)
            several = f"{group[0] + 1} to {i + 1}" if len(group) > 1 else f"{i + 1}"
            bar.update(task, description=image.name if images == 1 else f"{image.name} ({several} of {images})")
            show()

            def told(done: int, all_: int) -> None:
                nonlocal running
                running, shares[i] = True, done / all_
                show()

            return told

        yield advance
