"""Runs the chunks of one graph as fast as the machine allows: ParallelRunner, between the network and a Session.

Threads are chosen here. A RunPlan says how many runs go side by side, how many threads each has, and how many masks a
chunk holds. On a CPU the default is a one-thread run on every core, which needs no barrier after each operator. Other
plans are faster for some models and machines, so an Autotuner times them on the first masks that are to be scored
anyway.
"""

import sys
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
    Samples,
    choose_batch,
    free_memory,
    in_chunks,
    masks_in_memory,
    offset_progress,
    trim_heap,
)
from onnxcam.engine.devices import Chunk, chunk_on
from onnxcam.engine.forking import Lock, renew_in_child
from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec
from onnxcam.engine.session import Session, available_threads, may_leave_the_cpu
from onnxcam.errors import OutOfMemory
from onnxcam.limits import SAFE, Limits
from onnxcam.logs import module_logger
from onnxcam.types import Floats, Progress

ROUNDS = 3
"""Timed trials a plan, after a first one that only warms up."""
TRIAL_MASKS = 2 * PER_THREAD
"""Masks a core in a trial; up to LONGEST times as many, since a trial below MIN_SECONDS is mostly noise."""
MIN_SECONDS, LONGEST = 0.25, 8
MARGIN = 0.95
"""Another plan is taken if it needs less than this share of the default's time; smaller gains are noise."""
OPENING_COPIES = 3
"""A session takes this many times the size of its graph while it opens."""

logger = module_logger(__name__)


@dataclass(frozen=True)
class RunPlan:
    """How chunks are run. threads: of one run. parallel: runs side by side. batch: masks a run."""

    threads: int
    parallel: int
    batch: int

    @property
    def in_flight(self) -> int:
        """Masks in all runs together at one time."""
        return self.parallel * self.batch


@dataclass(frozen=True)
class RunLimits:
    """What restricts the plan. threads, batch: the caller's choice, None for the best.

    fixed: the batch that the graph is fixed to, None if it takes any. bytes_per_image: memory of one image's forward
    pass. engine: how a GPU computes. limits: how long a run may take.
    """

    threads: int | None
    batch: int | None
    fixed: int | None
    bytes_per_image: int
    engine: EngineOptions = PLAIN
    limits: Limits = SAFE

    @property
    def free_choice(self) -> bool:
        """Whether the caller leaves both threads and batch to be chosen."""
        return self.threads is None and self.batch is None


ChunkRunner = Callable[[Session, Samples], Floats]
"""Runs a chunk of samples through a session and returns its scores."""


class ParallelRunner:
    """The session of one graph, and the plan by which chunks run through it. Threads may share it.

    session, plan: the present ones. notes: on how the batch was chosen.
    """

    def __init__(
        self,
        graph: Callable[[], bytes],
        providers: Sequence[ProviderSpec],
        limits: RunLimits,
        known_plan: RunPlan | None = None,
        save_plan: Callable[[RunPlan], None] | None = None,
    ) -> None:
        """graph: returns the model's bytes. known_plan: the result of an earlier measurement.

        save_plan: called with the fastest plan once it was measured; None turns the measurement off. Raises
        ProviderError, InferenceError, OptionError.
        """
        self._graph, self._providers, self._limits = graph, providers, limits
        self._capacity = masks_in_memory(limits.bytes_per_image, free_memory())
        batch_in_memory = choose_batch(limits.bytes_per_image, free_memory(), ON_DEVICE, limits.batch)
        best = default_plan(available_threads(), self._capacity, limits.fixed)
        if known_plan is not None and self._fits(known_plan):
            best = known_plan
        on_cpu = limits.free_choice and not may_leave_the_cpu(providers)
        data = graph()
        threads = best.threads if on_cpu else limits.threads
        self.session = Session(data, providers, threads, engine=limits.engine, limits=limits.limits, again=graph)
        chunk = self._chunk(batch_in_memory, len(data))
        del data
        trim_heap()
        self.notes = chunk.notes
        self.plan = best if on_cpu else RunPlan(self.session.threads, 1, limits.fixed or chunk.batch)
        plans = candidates(self.plan, available_threads(), self._capacity, limits.fixed)
        can_measure = on_cpu and known_plan is None and len(plans) > 1
        self._autotuner = (
            Autotuner(save_plan, {best.threads: self.session}, {plan: [] for plan in plans})
            if save_plan is not None and can_measure
            else None
        )
        self._max_batch = sys.maxsize
        self._trial_size = max(TRIAL_MASKS, limits.fixed or 1) * available_threads()
        self._log_plan(known_plan)
        self._pool = self._new_pool()
        self._measuring, self._total_samples = Lock(), 0
        renew_in_child(self)

    def _log_plan(self, known_plan: RunPlan | None) -> None:
        plan, later = self.plan, ", others are measured on the way" if self._autotuner is not None else ""
        how = "measured before" if plan == known_plan else "by default" if self._limits.free_choice else "as given"
        logger.info(
            "run plan on %s: %d at a time with %d threads and %d images each (%s%s)",
            self.session.provider, plan.parallel, plan.threads, plan.batch, how, later,
        )  # fmt: skip

    def _new_pool(self) -> ThreadPoolExecutor | None:
        """Threads that run chunks side by side; they start with the first chunk. None where none do."""
        return ThreadPoolExecutor(self.plan.parallel, "onnxcam") if self.plan.parallel > 1 else None

    def after_fork(self) -> None:
        """Makes the pool anew in a forked child, which has none of its threads."""
        self._pool = self._new_pool() if self._pool is not None else None

    def _fits(self, plan: RunPlan) -> bool:
        """Whether this process has the memory and the cores for the plan."""
        return plan.in_flight <= self._capacity and plan.threads <= available_threads()

    def _chunk(self, batch_in_memory: int, weights: int) -> Chunk:
        """Masks a run where runs do not go side by side.

        batch_in_memory: by the host's free memory. weights: bytes of the graph.
        """
        limits, session = self._limits, self.session
        if session.device is not None and session.device.kind != "cpu":
            bytes_per_image = limits.bytes_per_image // (2 if limits.engine.half else 1)
            return chunk_on(session.device, bytes_per_image, weights, session.cap, limits.batch)
        if limits.batch is not None or session.provider != "cpu":
            return Chunk(batch_in_memory)
        return Chunk(min(batch_in_memory, PER_THREAD * session.threads))

    def shrink(self, batch: int) -> None:
        """Limits all later runs to this many masks, because more did not fit into memory."""
        self._max_batch = min(self._max_batch, batch)
        self.plan = replace(self.plan, batch=min(self.plan.batch, batch))

    def close(self) -> None:
        """Frees the session. Runs that are under way still end; later ones raise InferenceError."""
        self._autotuner = None
        self.session.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def map(self, run: ChunkRunner, samples: Samples, progress: Progress | None = None) -> Floats:
        """Calls `run` on chunks of the samples and joins the results along the first axis, in order.

        Measures plans on the way when enough samples came in so far. Raises what `run` raises, and OutOfMemory when a
        single sample does not fit.
        """
        results, done, total = [], 0, len(samples)
        # Measuring opens a second session, which does not pay off for few masks.
        self._total_samples += total
        autotuner = self._autotuner  # another thread may end the measurement at any time
        due = autotuner is not None and self._total_samples >= autotuner.trials * self._trial_size
        if due and self._measuring.acquire(blocking=False):
            try:
                while (autotuner := self._autotuner) is not None and total - done >= self._trial_size:
                    trial = samples[done : done + self._trial_size]
                    reported = offset_progress(progress, done, total)
                    results.append(self._timed(autotuner, run, trial, reported, total))
                    done += len(trial)
            finally:
                self._measuring.release()
        if done < total:
            reported = offset_progress(progress, done, total)
            results.append(self._run_plan(self.session, self.plan, run, samples[done:], reported))
        return np.concatenate(results)

    def _run_plan(
        self, session: Session, plan: RunPlan, run: ChunkRunner, samples: Samples, progress: Progress | None
    ) -> Floats:
        fixed = self._limits.fixed
        return in_chunks(
            lambda chunk: run(session, chunk), samples, fixed or plan.batch, progress,
            pool=self._pool, parallel=plan.parallel, split=fixed is None,
        )  # fmt: skip

    def _timed(
        self, autotuner: "Autotuner", run: ChunkRunner, samples: Samples, progress: Progress | None, total: int
    ) -> Floats:
        """Runs one trial by the plan whose turn it is. The last trial makes the fastest plan the present one.

        total: samples of this call of map(), which a trial must not exceed.
        """
        plan = autotuner.next_plan()
        if plan.threads not in autotuner.sessions and not self._open_session(autotuner, plan.threads):
            autotuner.drop(plan.threads)
            plan = autotuner.next_plan()
        start = time.perf_counter()
        result = self._run_plan(autotuner.sessions[plan.threads], plan, run, samples, progress)
        seconds = time.perf_counter() - start
        if not any(autotuner.times.values()):  # the first trial only sets the size of the others
            longer = min(LONGEST, round(MIN_SECONDS / max(seconds, 1e-9)), total // self._trial_size)
            self._trial_size *= max(1, longer)
        autotuner.times[plan].append(seconds)
        if autotuner.finished and self._autotuner is autotuner:
            chosen = fastest(autotuner.times)
            session = autotuner.sessions[chosen.threads]
            chosen = replace(chosen, batch=min(chosen.batch, self._max_batch))
            logger.info("run plan: %s of %s", chosen, autotuner.times)
            # The other session is not closed: another thread may be in the middle of a run, which keeps it alive.
            self.session, self.plan, self._autotuner = session, chosen, None
            autotuner.save_plan(chosen)
        return result

    def _open_session(self, autotuner: "Autotuner", threads: int) -> bool:
        """Opens one more session, with its own copy of the weights. False if there is no memory for it."""
        graph = self._graph()
        if OPENING_COPIES * len(graph) > SHARE * free_memory():
            return False
        try:
            autotuner.sessions[threads] = Session(
                graph, self._providers, threads, limits=self._limits.limits, again=self._graph
            )
        except OutOfMemory as error:
            logger.info("run plan: %d threads are not tried (%s)", threads, error)
            return False
        del graph
        trim_heap()
        return True


@dataclass
class Autotuner:
    """A measurement of plans under way.

    sessions: by number of threads. times: seconds of each plan's trials; the present plan is the first.
    """

    save_plan: Callable[[RunPlan], None]
    sessions: dict[int, Session]
    times: dict[RunPlan, list[float]]

    def next_plan(self) -> RunPlan:
        """The plan with the fewest trials: turns alternate, so that a busy moment of the machine hits all plans."""
        return min(self.times, key=lambda plan: len(self.times[plan]))

    def drop(self, threads: int) -> None:
        """Stops measuring the plans with this number of threads."""
        self.times = {plan: times for plan, times in self.times.items() if plan.threads != threads}

    @property
    def trials(self) -> int:
        """Number of trials that the measurement takes in all."""
        return len(self.times) * (ROUNDS + 1)

    @property
    def finished(self) -> bool:
        return all(len(times) > ROUNDS for times in self.times.values())


def default_plan(cores: int, capacity: int, fixed: int | None = None) -> RunPlan:
    """One-thread runs on every core; fewer runs of more threads where memory does not hold as many.

    capacity: masks that fit into memory at one time. fixed: the batch that the graph is fixed to.
    """
    parallel = max(1, min(cores, capacity // (fixed or 1)))
    return RunPlan(cores // parallel, parallel, fixed or max(1, min(PER_THREAD, capacity // parallel)))


def candidates(present: RunPlan, cores: int, capacity: int, fixed: int | None = None) -> list[RunPlan]:
    """The plans to measure, each once: the present one, the same with larger chunks, and one run at a time."""
    if present.parallel == 1:
        return [present]  # one core, or no memory for more
    larger = RunPlan(present.threads, present.parallel, min(2 * present.batch, capacity // present.parallel))
    single = RunPlan(cores, 1, fixed or max(1, min(PER_THREAD * cores, capacity)))
    return list(dict.fromkeys([present, *([larger] if fixed is None else []), single]))


def fastest(times: dict[RunPlan, list[float]]) -> RunPlan:
    """The first plan, unless another one is faster by more than noise.

    times: seconds of trials with the same number of samples; the first trial of each plan warmed up and is not counted.
    """
    first, *others = times
    ratios = {p: median(a / b for a, b in zip(times[p][1:], times[first][1:], strict=True)) for p in others}
    best = min(others, key=lambda p: ratios[p], default=first)
    return best if best is not first and ratios[best] < MARGIN else first
