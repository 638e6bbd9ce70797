"""Engines: they compute the pictures of an evaluation. Here are their protocol, `Engine`, and `LocalEngine`.

The driver (evaluate.py) walks the data, leaves out what the journal has, and gives an engine the tasks that are left.
The engine gives back one ItemResult for each task; the driver writes it to the journal. What an engine has to keep:

- `engine(tasks, work)` returns an iterator of ItemResult, one for each task, in whatever order they are completed.
  ItemResult.item is the key of the task's item, by which the driver knows it.
- `tasks` is lazy: to take one stats the picture's file, and hashes it where that is new. An engine takes tasks in the
  driver's thread alone, when it has room for one. One that needs them all at first may make a list of them.
- The driver commits a result when it is yielded, before it takes the next. What is yielded is therefore never lost, and
  what is not is computed again by a rerun. An engine holds one picture for each worker, in work or waiting to be taken,
  so that a kill costs no more than these; it starts no further one while a result waits to be taken.
- What goes wrong with a picture is a row of its result. An engine raises what concerns all of them: a model that cannot
  be opened, no workers, an error of the program.
- close() of the iterator ends the work: nothing new begins, what runs is ended, and no thread, process or actor of the
  engine remains. The driver calls it in every case, also when a signal or an error ends the loop.
- An engine in other processes opens Evaluator(work.request, work.options, work.identity) there, all of which pickle, as
  Task and ItemResult do. One in this process uses work.evaluator, which the first use opens and the driver closes; its
  evaluate() may be called from several threads. Where there is no task, neither is needed.
- Each task is computed by evaluate(task.item, task.picture_sha256, task.only).
- A task that was lost with its worker is computed again by the engine; a result that comes twice is yielded once.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

from onnxcam.errors import OnnxCamError, OptionError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.rows import ItemResult, RowKey
from onnxcam.explainer.arguments import shown
from onnxcam.limits import is_whole


@dataclass(frozen=True)
class Task:
    """One picture to compute.

    picture_sha256: of its file; empty where that cannot be read, which its rows then say. only: the keys of the rows to
    compute, where some of the picture's are there; None for all.
    """

    item: DataItem
    picture_sha256: str
    only: tuple[RowKey, ...] | None = None


class ItemEvaluator(Protocol):
    """What computes a picture: evaluator.Evaluator."""

    def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
        """For each key its row, or for a method without a map one row without a metric that has the error."""

    def close(self) -> None:
        """Frees the model. An evaluate() that is under way ends early, and raises."""


@dataclass(eq=False)
class Work:
    """What an engine computes with.

    request, options, identity: arguments of Evaluator(), which pickle. keys: of a picture by its item and SHA-256, the
    keys of the rows that it gives where nothing goes wrong; runs no model. open_evaluator: opens the model here.
    failure: why the model cannot be opened, here or in another process; the engine raises it too, and the driver goes
    on with the next model.
    """

    request: Any
    options: Any
    identity: Any
    keys: Callable[[DataItem, str], tuple[RowKey, ...]]
    open_evaluator: Callable[[], ItemEvaluator]
    failure: OnnxCamError | None = None
    _opened: ItemEvaluator | None = None

    @property
    def evaluator(self) -> ItemEvaluator:
        """The model in this process, opened at the first use. For one thread; what it returns is for several."""
        if self._opened is None:
            try:
                self._opened = self.open_evaluator()
            except OnnxCamError as error:
                self.failure = error
                raise
        return self._opened

    def close(self) -> None:
        """Closes the model if it was opened."""
        if self._opened is not None:
            self._opened.close()


class Engine(Protocol):
    """Computes tasks, as the text above says. str() says which engine it is and how many workers it has."""

    def __call__(self, tasks: Iterable[Task], work: Work) -> Iterator[ItemResult]:
        """One result for each task, in order of completion."""


@dataclass(frozen=True)
class LocalEngine:
    """Threads over the driver's session. workers: pictures at a time; 1 computes in the thread that takes results."""

    workers: int = 1

    def __post_init__(self) -> None:
        if not is_whole(self.workers, 1):
            raise OptionError(
                f"workers is how many pictures are computed at a time, from 1 on, not {shown(self.workers)}"
            )

    def __str__(self) -> str:
        return f"local, {self.workers} worker{'s' if self.workers > 1 else ''}"

    def __call__(self, tasks: Iterable[Task], work: Work) -> Generator[ItemResult, None, None]:
        remaining = iter(tasks)
        for first in islice(remaining, 1):
            yield from run_local(chain([first], remaining), work.evaluator, self.workers)


def run_local(tasks: Iterable[Task], evaluator: ItemEvaluator, workers: int = 1) -> Generator[ItemResult, None, None]:
    """Computes tasks with one evaluator. workers: pictures that are computed at a time.

    While a result is with whoever takes it, its worker waits. Memory is therefore constant, and a process that is
    killed loses no more than a picture for each worker. Where this is closed, or an error ends it, while others are in
    work, it closes the evaluator, which ends these. Raises what the evaluator raises.
    """
    return _in_threads(iter(tasks), evaluator, workers) if workers > 1 else _here(tasks, evaluator)


def _here(tasks: Iterable[Task], evaluator: ItemEvaluator) -> Generator[ItemResult, None, None]:
    """In the caller's thread, where a signal ends a picture between two forward passes."""
    for task in tasks:
        yield evaluator.evaluate(task.item, task.picture_sha256, task.only)


def _in_threads(tasks: Iterator[Task], evaluator: ItemEvaluator, workers: int) -> Generator[ItemResult, None, None]:
    pool = ThreadPoolExecutor(workers, "onnxcam-evaluate")
    running: set[Future[ItemResult]] = set()
    try:
        while True:
            for task in islice(tasks, workers - len(running)):
                running.add(pool.submit(evaluator.evaluate, task.item, task.picture_sha256, task.only))
            if not running:
                return
            done = wait(running, return_when=FIRST_COMPLETED).done
            future = done.pop()
            running.remove(future)
            yield future.result()
    finally:
        if running:  # nobody takes their results any more
            evaluator.close()
        pool.shutdown(wait=True, cancel_futures=True)
