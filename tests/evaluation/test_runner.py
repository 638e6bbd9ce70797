"""Engines of this process: each task once, no more pictures at a time than there are workers, and an end on close()."""

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest

from onnxcam.errors import ModelError, OptionError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.rows import ItemResult, RowKey
from onnxcam.evaluation.runner import LocalEngine, Task, Work, run_local


class Recording:
    """An evaluator that waits, and counts who is in it."""

    def __init__(self, seconds: float = 0.0, fails_at: str = "") -> None:
        self.seconds, self.fails_at = seconds, fails_at
        self.begun: list[str] = []
        self.only: list[Collection[RowKey] | None] = []
        self.inside = self.most = 0
        self.closed = False
        self._lock = threading.Lock()

    def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
        with self._lock:
            self.begun.append(item.key)
            self.only.append(only)
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(self.seconds)
        with self._lock:
            self.inside -= 1
        if item.key == self.fails_at:
            raise ModelError(f"{item.key} cannot be computed")
        return ItemResult(item.key, (), seconds=self.seconds)

    def close(self) -> None:
        self.closed = True


def tasks(count: int, taken: list[int] | None = None) -> Iterator[Task]:
    for i in range(count):
        if taken is not None:
            taken.append(i)
        yield Task(DataItem(Path(f"{i}.png"), f"{i}.png"), f"{i:064}")


def work(evaluator: Recording, opened: list[int] | None = None) -> Work:
    def open_evaluator() -> Recording:
        if opened is not None:
            opened.append(1)
        return evaluator

    return Work(None, None, None, lambda item, sha256: (), open_evaluator)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_is_computed_once(workers: int) -> None:
    evaluator = Recording()
    results = [result.item for result in LocalEngine(workers)(tasks(20), work(evaluator))]
    assert sorted(results) == sorted(f"{i}.png" for i in range(20))
    assert sorted(evaluator.begun) == sorted(results)


def test_workers_compute_at_the_same_time_and_no_more_than_there_are() -> None:
    evaluator = Recording(0.03)
    assert len(list(run_local(tasks(9), evaluator, 3))) == 9
    assert evaluator.most == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_result_that_is_not_taken_holds_its_worker(workers: int) -> None:
    """So a kill costs a picture for each worker, and memory is constant however slow the consumer is."""
    evaluator, taken = Recording(), list[int]()
    results = run_local(tasks(50, taken), evaluator, workers)
    for count in range(1, 6):
        next(results)
        time.sleep(0.02)
        assert len(evaluator.begun) <= count - 1 + workers
        assert len(taken) <= count - 1 + workers
    results.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_close_ends_the_work_and_leaves_no_thread(workers: int) -> None:
    evaluator = Recording(0.02)
    results = run_local(tasks(50), evaluator, workers)
    next(results)
    results.close()
    begun = len(evaluator.begun)
    assert evaluator.inside == 0
    time.sleep(0.05)
    assert len(evaluator.begun) == begun
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxcam-evaluate")]


def test_pictures_in_work_are_ended_by_close_and_not_waited_for() -> None:
    class UntilClosed(Recording):
        def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
            if item.key != "0.png":
                while not self.closed:
                    time.sleep(0.005)
            return super().evaluate(item, picture_sha256, only)

    evaluator = UntilClosed()
    results = run_local(tasks(1), evaluator, 2)
    assert next(results).item == "0.png"
    results.close()
    assert not evaluator.closed  # nothing was in work
    results = run_local(tasks(2), evaluator, 2)
    assert next(results).item == "0.png"
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10
    assert evaluator.closed


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_evaluator_ends_the_run(workers: int) -> None:
    evaluator = Recording(0.01, fails_at="3.png")
    with pytest.raises(ModelError, match=r"3\.png cannot be computed"):
        list(run_local(tasks(50), evaluator, workers))
    assert len(evaluator.begun) <= 3 + 2 * workers
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxcam-evaluate")]


def test_an_error_of_the_tasks_ends_the_run_without_a_thread_left() -> None:
    def broken() -> Iterator[Task]:
        yield from tasks(1)
        raise ModelError("no more")

    with pytest.raises(ModelError, match="no more"):
        list(run_local(broken(), Recording(), 2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("onnxcam-evaluate")]


def test_a_task_says_which_rows_are_missing() -> None:
    key = RowKey("m", "o", "0.png", "s", "grad-cam", "prediction", "deletion", "", "{}")
    evaluator = Recording()
    list(run_local([Task(DataItem(Path("0.png"), "0.png"), "s", (key,))], evaluator))
    assert evaluator.only == [(key,)]


@pytest.mark.parametrize(("given", "times"), [([], 0), (list(tasks(3)), 1)])
def test_the_model_is_opened_once_and_only_where_there_is_a_task(given: Iterable[Task], times: int) -> None:
    opened = list[int]()
    evaluator = Recording()
    work_here = work(evaluator, opened)
    list(LocalEngine()(given, work_here))
    work_here.close()
    assert len(opened) == times
    assert evaluator.closed == bool(times)


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
def test_workers_that_are_no_number_from_1_are_refused(workers: object) -> None:
    with pytest.raises(OptionError, match="workers is how many pictures"):
        LocalEngine(workers)  # type: ignore[arg-type]
