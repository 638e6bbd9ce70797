"""Runs a graph over many masks in chunks: how many masks a chunk has, and what happens when memory runs out.

`choose_batch` derives the size of a chunk from the free memory. `in_chunks` cuts the samples into chunks, runs them one
after another or side by side, halves the chunk when memory runs out, and joins the results in order.
"""

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
from onnxcam.logs import module_logger
from onnxcam.types import Floats, Progress

Samples = npt.NDArray[Any]
"""What is cut into chunks along its first axis: masks, or the numbers of the samples to run."""

PER_THREAD = 2
"""Masks a thread on a CPU: throughput is flat from here on, and more costs memory and cache, as the benchmarks show."""
ON_DEVICE = 64
"""Masks a chunk on anything but a CPU, where small chunks leave the device idle."""
SHARE = 0.25
"""Of the free memory, what one chunk's activations may take."""
logger = module_logger(__name__)


def choose_batch(bytes_per_image: int, free: int, most: int, requested: int | None) -> int:
    """Masks a chunk: `requested`, else as many as SHARE of the `free` bytes holds, between 1 and `most`.

    Raises OptionError for a request below 1.
    """
    if requested is not None:
        if requested < 1:
            raise OptionError(f"the batch must be 1 or more, not {requested}")
        return requested
    return min(most, masks_in_memory(bytes_per_image, free))


def free_memory() -> int:
    """Bytes that this process can still take: the machine's available memory, or its control group's if less."""
    limits = [limit for limit in (_proc_available(), _cgroup_available()) if limit is not None]
    return min(limits) if limits else _half_of_physical()


def masks_in_memory(bytes_per_image: int, free: int) -> int:
    """Masks that all runs together may have in flight: what SHARE of the `free` bytes holds, at least one."""
    return max(1, int(free * SHARE) // max(1, bytes_per_image))


def trim_heap() -> None:
    """Returns freed memory to the system. Opening a session frees more than it keeps, and glibc holds on to that."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # a C library without malloc_trim
        return


def in_chunks(
    run: Callable[[Samples], Floats],
    samples: Samples,
    batch: int,
    progress: Progress | None = None,
    *,
    pool: Executor | None = None,
    parallel: int = 1,
    split: bool = True,
) -> Floats:
    """Calls `run` on chunks of `batch` samples and joins the results along the first axis, in order.

    pool: runs `parallel` chunks at a time, one a thread. split: the last chunks are made smaller, so that every thread
    gets one; False for a graph with a fixed batch. When a chunk does not fit into memory, it and all that follow are
    run with half the batch, and at last alone. Raises OutOfMemory when a single sample does not fit.
    """
    if pool is not None and parallel > 1 and len(samples) > (1 if split else batch):
        return _side_by_side(run, samples, batch, progress, pool, parallel if split else 1, 2 * parallel)
    results: list[Floats] = []
    done = 0
    while done < len(samples):
        chunk = samples[done : done + batch]
        try:
            results.append(run(chunk))
        except OutOfMemory as error:
            if len(chunk) == 1:
                raise OutOfMemory(f"one picture alone does not fit into memory: {error}") from None
            batch = halved(len(chunk))
            continue
        done += len(chunk)
        if progress is not None:
            progress(done, len(samples))
    return np.concatenate(results)


def halved(size: int) -> int:
    """The size of the chunks after one of `size` samples that did not fit into memory; at least 1."""
    half = max(1, size // 2)
    logger.warning("a run of %d samples does not fit into memory; the next ones hold %d", size, half)
    return half


def offset_progress(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Wraps `progress` so that a part of the work, begun after `before` samples, reports its share of `total`."""
    return None if progress is None else lambda done, _: progress(before + done, total)


def chunk_sizes(count: int, batch: int, workers: int) -> deque[int]:
    """Sizes of the chunks of `count` samples: `batch` while there is one for every worker, then equal parts."""
    full, rest = divmod(count, batch * workers)
    last = -(-rest // workers)
    return deque([batch] * (full * workers) + [min(last, rest - i) for i in range(0, rest, max(1, last))])


def _side_by_side(
    run: Callable[[Samples], Floats],
    samples: Samples,
    batch: int,
    progress: Progress | None,
    pool: Executor,
    workers: int,
    ahead: int,
) -> Floats:
    """in_chunks() on a pool. workers: as chunk_sizes() takes them.

    ahead: chunks that may be submitted and not collected; more than can run, so that no thread waits.
    """
    results: list[Floats] = []
    pending: deque[tuple[int, Future[Floats]]] = deque()
    done = submitted = 0
    sizes = chunk_sizes(len(samples), batch, workers)
    try:
        while done < len(samples):
            while sizes and len(pending) < ahead:
                size = sizes.popleft()
                pending.append((size, _submit(pool, run, samples[submitted : submitted + size])))
                submitted += size
            size, oldest = pending[0]
            try:
                results.append(oldest.result())
            except OutOfMemory:
                _settle(pending)
                if size == 1:
                    logger.warning("samples side by side do not fit into memory; the next ones go one after another")
                    results.append(in_chunks(run, samples[done:], 1, offset_progress(progress, done, len(samples))))
                    break
                submitted, sizes = done, chunk_sizes(len(samples) - done, halved(size), workers)
                continue
            pending.popleft()
            done += size
            if progress is not None:
                progress(done, len(samples))
    finally:
        _settle(pending)
    return np.concatenate(results)


def _submit(pool: Executor, run: Callable[[Samples], Floats], chunk: Samples) -> Future[Floats]:
    try:
        return pool.submit(run, chunk)
    except RuntimeError:  # raised by a pool that was shut down
        raise InferenceError("this session is closed") from None


def _settle(pending: "deque[tuple[int, Future[Floats]]]") -> None:
    """Cancels the chunks that have not begun, and waits for those that run."""
    for _, future in pending:
        future.cancel()
    wait([future for _, future in pending])
    pending.clear()


def _proc_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_available() -> int | None:
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
        return 2**30  # the system does not say; every machine has this much
