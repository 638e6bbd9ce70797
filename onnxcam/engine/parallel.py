"""How the chunks of one graph are run on a CPU: how many beside each other, on how many threads, of how many masks.

One-thread runs beside each other need no barrier after every operator, and a session without a pool has none that could
spin. Where a machine and a model do better otherwise, a measurement finds out; what it runs is the work itself.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from onnxcam.engine.batching import (
    ON_DEVICE,
    PER_THREAD,
    SHARE,
    Work,
    choose_batch,
    free_memory,
    give_back,
    in_chunks,
    offset_progress,
)
from onnxcam.engine.batching import room as room_in
from onnxcam.engine.devices import Chunk, chunk_on
from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.session import Session, available_threads, may_leave_the_cpu
from onnxcam.errors import OutOfMemory
from onnxcam.types import Floats, Progress

ROUNDS = 3
"""Timed slots a candidate, after one that is thrown away."""
SLOT = 2 * PER_THREAD
"""Masks a core in each of them, or up to LONGER times as many while these take less than SECONDS, which noise fills."""
SECONDS, LONGER = 0.25, 8
MARGIN = 0.95
"""Of the default's time: what another pace must stay below to be taken; less is noise."""
COPIES = 3
"""Times the size of its graph that a session takes while it opens."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPlan:
    """threads: of one run. parallel: runs beside each other. batch: masks a run."""

    threads: int
    parallel: int
    batch: int

    @property
    def in_flight(self) -> int:
        """Masks on their way at one time."""
        return self.parallel * self.batch


@dataclass(frozen=True)
class RunLimits:
    """What a person wants (None: what is best), the batch a graph is bound to, and the bytes that a picture takes.

    engine: how providers compute.
    """

    threads: int | None
    batch: int | None
    fixed: int | None
    bytes_per_picture: int
    engine: EngineOptions = PLAIN

    @property
    def open(self) -> bool:
        return self.threads is None and self.batch is None


ChunkRunner = Callable[[Session, Work], Floats]
"""A chunk's scores through a session."""


class ParallelRunner:
    """The session of one graph, and the pace of chunks through it; safe to share between threads."""

    def __init__(
        self,
        graph: Callable[[], bytes],
        providers: Sequence[str],
        asked: RunLimits,
        known: RunPlan | None = None,
        keep: Callable[[RunPlan], None] | None = None,
    ) -> None:
        """graph: the model's bytes. known: a pace that was measured before. keep: told of one that was measured; None
        if none is to be. Raises ProviderError, InferenceError, OptionError.
        """
        self._graph, self._providers, self._asked = graph, providers, asked
        self._room = room_in(asked.bytes_per_picture, free_memory())
        plain = choose_batch(asked.bytes_per_picture, free_memory(), ON_DEVICE, asked.batch)
        best = default_plan(available_threads(), self._room, asked.fixed)
        if known is not None and known.in_flight <= self._room and known.threads <= available_threads():
            best = known
        on_cpu = asked.open and not may_leave_the_cpu(providers)
        data = graph()
        self.session = Session(data, providers, best.threads if on_cpu else asked.threads, engine=asked.engine)
        chunk = self._chunk(plain, len(data))
        del data
        give_back()
        self.notes = chunk.notes
        self.plan = best if on_cpu else RunPlan(self.session.threads, 1, asked.fixed or chunk.batch)
        compared = candidates(self.plan, available_threads(), self._room, asked.fixed)
        measured = on_cpu and known is None and len(compared) > 1
        self._trial = (
            Autotuner(keep, {best.threads: self.session}, {p: [] for p in compared})
            if keep is not None and measured
            else None
        )
        self._most = sys.maxsize
        self._slot = max(SLOT, asked.fixed or 1) * available_threads()
        self._pool = ThreadPoolExecutor(self.plan.parallel, "onnxcam") if self.plan.parallel > 1 else None
        self._measuring, self._asked_for = threading.Lock(), 0

    def _chunk(self, plain: int, weights: int) -> Chunk:
        """How many masks a single run takes. plain: by the host's memory; weights: bytes of the graph."""
        asked, session = self._asked, self.session
        if session.device is not None and session.device.kind != "cpu":
            held = asked.bytes_per_picture // (2 if asked.engine.half else 1)
            return chunk_on(session.device, held, weights, session.cap, asked.batch)
        if asked.batch is not None or session.provider != "cpu":
            return Chunk(plain)
        return Chunk(min(plain, PER_THREAD * session.threads))

    def shrink(self, batch: int) -> None:
        """No more masks a run than these from now on: more did not fit into memory."""
        self._most = min(self._most, batch)
        self.plan = replace(self.plan, batch=min(self.plan.batch, batch))

    def close(self) -> None:
        self._trial = None
        self.session.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def map(self, run: ChunkRunner, rows: Work, progress: Progress | None = None) -> Floats:
        """(K,...) what `run` gives for the rows, in their order."""
        found, done, every = [], 0, len(rows)
        # A measurement opens a second session, which few masks would not pay for.
        self._asked_for += every
        trial = self._trial  # another thread may end it at any time
        due = trial is not None and self._asked_for >= trial.slots * self._slot
        if due and self._measuring.acquire(blocking=False):
            try:
                while (trial := self._trial) is not None and every - done >= self._slot:
                    told = offset_progress(progress, done, every)
                    slot = rows[done : done + self._slot]
                    found.append(self._timed(trial, run, slot, told, every))
                    done += len(slot)
            finally:
                self._measuring.release()
        if done < every:
            rest, told = rows[done:], offset_progress(progress, done, every)
            found.append(self._at(self.session, self.plan, run, rest, told))
        return np.concatenate(found)

    def _at(self, session: Session, plan: RunPlan, run: ChunkRunner, rows: Work, progress: Progress | None) -> Floats:
        fixed = self._asked.fixed
        return in_chunks(
            lambda chunk: run(session, chunk), rows, fixed or plan.batch, progress,
            pool=self._pool, parallel=plan.parallel, split=fixed is None,
        )  # fmt: skip

    def _timed(
        self, trial: "Autotuner", run: ChunkRunner, rows: Work, progress: Progress | None, offered: int
    ) -> Floats:
        """A slot of the work at the pace whose turn it is; after the last one the best is the present pace.

        offered: rows that are asked about at one time, which a slot must not exceed.
        """
        plan = trial.turn()
        if plan.threads not in trial.sessions and not self._opened(trial, plan.threads):
            trial.drop(plan.threads)
            plan = trial.turn()
        start = time.perf_counter()
        found = self._at(trial.sessions[plan.threads], plan, run, rows, progress)
        seconds = time.perf_counter() - start
        if not any(trial.times.values()):  # the first slot counts for nothing else
            longer = min(LONGER, round(SECONDS / max(seconds, 1e-9)), offered // self._slot)
            self._slot *= max(1, longer)
        trial.times[plan].append(seconds)
        if trial.finished and self._trial is trial:
            chosen = fastest(trial.times)
            session, chosen = trial.sessions[chosen.threads], replace(chosen, batch=min(chosen.batch, self._most))
            logger.info("pace: %s of %s", chosen, trial.times)
            # The other session is not closed: another thread may be in the middle of a run, which keeps it.
            self.session, self.plan, self._trial = session, chosen, None
            trial.keep(chosen)
        return found

    def _opened(self, trial: "Autotuner", threads: int) -> bool:
        """Whether there is memory for one more copy of the weights, and now a session with it."""
        graph = self._graph()
        if COPIES * len(graph) > SHARE * free_memory():
            return False
        try:
            trial.sessions[threads] = Session(graph, self._providers, threads)
        except OutOfMemory as error:
            logger.info("pace: %d threads are not tried (%s)", threads, error)
            return False
        del graph
        give_back()
        return True


@dataclass
class Autotuner:
    """A measurement under way. times: seconds of each pace's slots, the present pace first."""

    keep: Callable[[RunPlan], None]
    sessions: dict[int, Session]
    times: dict[RunPlan, list[float]]

    def turn(self) -> RunPlan:
        """The pace with the fewest slots, so that all meet the same moments of a busy machine."""
        return min(self.times, key=lambda p: len(self.times[p]))

    def drop(self, threads: int) -> None:
        self.times = {p: t for p, t in self.times.items() if p.threads != threads}

    @property
    def slots(self) -> int:
        """That a whole measurement takes."""
        return len(self.times) * (ROUNDS + 1)

    @property
    def finished(self) -> bool:
        return all(len(t) > ROUNDS for t in self.times.values())


def default_plan(cores: int, room: int, fixed: int | None = None) -> RunPlan:
    """One-thread runs on every core; where memory does not hold as many, fewer runs of more threads."""
    parallel = max(1, min(cores, room // (fixed or 1)))
    return RunPlan(cores // parallel, parallel, fixed or max(1, min(PER_THREAD, room // parallel)))


def candidates(present: RunPlan, cores: int, room: int, fixed: int | None = None) -> list[RunPlan]:
    """What a measurement compares, each once: the present pace, the same with larger chunks, one run at a time."""
    if present.parallel == 1:
        return [present]  # one core, or no memory for more
    larger = RunPlan(present.threads, present.parallel, min(2 * present.batch, room // present.parallel))
    single = RunPlan(cores, 1, fixed or max(1, min(PER_THREAD * cores, room)))
    return list(dict.fromkeys([present, *([larger] if fixed is None else []), single]))


def fastest(times: dict[RunPlan, list[float]]) -> RunPlan:
    """The first unless another is faster by more than noise; times: seconds a round, of the same work, the first for
    warming up.
    """
    first, *others = times
    ratios = {p: median(a / b for a, b in zip(times[p][1:], times[first][1:], strict=True)) for p in others}
    best = min(others, key=lambda p: ratios[p], default=first)
    return best if best is not first and ratios[best] < MARGIN else first
