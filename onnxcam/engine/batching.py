"""One policy for how many masks go through the network at once, and what happens when memory runs out."""

import ctypes
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import InferenceError, OptionError, OutOfMemory
from onnxcam.types import Floats, Progress

Work = npt.NDArray[Any]
"""What is cut into chunks along its first axis: masks, or the numbers of what is to be run."""

PER_THREAD = 2
"""Masks a thread on a CPU: throughput is flat from here on, and more costs memory and cache (docs/benchmarks.md)."""
ON_DEVICE = 64
"""Masks a chunk on anything but a CPU, where small chunks leave the device idle."""
SHARE = 0.25
"""Of the free memory, what one chunk's activations may take."""


def choose_batch(bytes_per_picture: int, free: int, most: int, asked: int | None) -> int:
    """Masks a chunk: what was asked for, else as many as the memory share holds, between 1 and most."""
    if asked is not None:
        if asked < 1:
            raise OptionError(f"the batch must be 1 or more, not {asked}")
        return asked
    return max(1, min(most, int(free * SHARE) // max(1, bytes_per_picture)))


def free_memory() -> int:
    """Bytes that this process can still take: the machine's available memory, or its control group's if less."""
    found = [_proc_available(), _cgroup_left()]
    known = [f for f in found if f is not None]
    return min(known) if known else _half_of_physical()


def room(bytes_per_picture: int, free: int) -> int:
    """Masks that may be on their way at once, in all runs together: what the memory share holds, at least one."""
    return max(1, int(free * SHARE) // max(1, bytes_per_picture))


def give_back() -> None:
    """Hands freed memory back to the system: a session that opens frees more than it keeps, and glibc keeps that."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, which does as it likes
        return


def in_chunks(
    run: Callable[[Work], Floats],
    rows: Work,
    batch: int,
    progress: Progress | None = None,
    *,
    pool: Executor | None = None,
    parallel: int = 1,
    split: bool = True,
) -> Floats:
    """`run` over the rows, `batch` at a time, results concatenated along the first axis.

    pool: runs `parallel` chunks beside each other, on as many threads; the last ones are smaller, so that no thread is
    left without (split=False: not, for a graph of a fixed batch). A chunk that does not fit into memory is tried
    again at half the batch, as is all that follows, and at last alone; raises OutOfMemory when a single mask does not
    fit.
    """
    if pool is not None and parallel > 1 and len(rows) > (1 if split else batch):
        return _side_by_side(run, rows, batch, progress, pool, parallel if split else 1, 2 * parallel)
    results: list[Floats] = []
    done = 0
    while done < len(rows):
        chunk = rows[done : done + batch]
        try:
            results.append(run(chunk))
        except OutOfMemory as error:
            if len(chunk) == 1:
                raise OutOfMemory(f"one picture alone does not fit into memory: {error}") from None
            batch = max(1, len(chunk) // 2)
            continue
        done += len(chunk)
        if progress is not None:
            progress(done, len(rows))
    return np.concatenate(results)


def offset_progress(progress: Progress | None, before: int, every: int) -> Progress | None:
    """Tells of a part what has been done of the whole, `before` the part began."""
    return None if progress is None else lambda done, _: progress(before + done, every)


def shared_out(count: int, batch: int, sharers: int) -> deque[int]:
    """Sizes of chunks: `batch` as long as there are enough for all sharers, then the rest in equal parts."""
    full, rest = divmod(count, batch * sharers)
    last = -(-rest // sharers)
    return deque([batch] * (full * sharers) + [min(last, rest - i) for i in range(0, rest, max(1, last))])


def _side_by_side(
    run: Callable[[Work], Floats],
    rows: Work,
    batch: int,
    progress: Progress | None,
    pool: Executor,
    sharers: int,
    most: int,
) -> Floats:
    """sharers: among whom the last masks are shared out. most: chunks that are sent ahead of the oldest one's answer,
    more than can run, so that no thread waits for it.
    """
    results: list[Floats] = []
    waiting: deque[tuple[int, Future[Floats]]] = deque()
    done = sent = 0
    sizes = shared_out(len(rows), batch, sharers)
    try:
        while done < len(rows):
            while sizes and len(waiting) < most:
                size = sizes.popleft()
                waiting.append((size, _sent(pool, run, rows[sent : sent + size])))
                sent += size
            size, oldest = waiting[0]
            try:
                results.append(oldest.result())
            except OutOfMemory:
                _settle(waiting)
                sent, sizes = done, shared_out(len(rows) - done, max(1, size // 2), sharers)
                if size == 1:
                    results.append(in_chunks(run, rows[done:], 1, offset_progress(progress, done, len(rows))))
                    break
                continue
            waiting.popleft()
            done += size
            if progress is not None:
                progress(done, len(rows))
    finally:
        _settle(waiting)
    return np.concatenate(results)


def _sent(pool: Executor, run: Callable[[Work], Floats], chunk: Work) -> Future[Floats]:
    try:
        return pool.submit(run, chunk)
    except RuntimeError:  # what a pool says after its end
        raise InferenceError("this session is closed") from None


def _settle(waiting: "deque[tuple[int, Future[Floats]]]") -> None:
    """Nothing more is begun, and what runs has ended."""
    for _, future in waiting:
        future.cancel()
    wait([future for _, future in waiting])
    waiting.clear()


def _proc_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_left() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / f).read_text().strip() for f in ("memory.max", "memory.current"))
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None


def _half_of_physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 2**30  # a system that does not tell: assume what any machine has
