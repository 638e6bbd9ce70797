"""Work on the next thing while the present one is dealt with."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], work: Callable[[Item], Result]) -> Generator[Future[Result], None, None]:
    """One Future an item, in order, whose result() gives what `work` made of it or raises what it raised.

    A thread of its own works, one item beyond the one that was last handed out, so that two results at most are held.
    Close the generator to stop early: nothing more is begun then, and what runs has ended.
    """
    pool = ThreadPoolExecutor(1, "onnxcam-ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 1:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in their order, `size` at a time; the last may be fewer."""
    left = iter(items)
    while group := list(islice(left, size)):
        yield group
