"""Runs the chunks of one graph as fast as the machine allows: ParallelRunner, between the network and a Session.

Threads are chosen here. A RunPlan says how many runs go side by side, how many threads each has, and how many masks a
chunk holds. On a CPU it is a one-thread run on every core, which needs no barrier after each operator: never slower
than other plans by more than noise, as the benchmarks show.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from onnxcam.engine.batching import (
    ON_DEVICE,
    PER_THREAD,
    Samples,
    choose_batch,
    free_memory,
    in_chunks,
    masks_in_memory,
    trim_heap,
)
from onnxcam.engine.devices import Chunk, chunk_on
from onnxcam.engine.forking import renew_in_child
from onnxcam.engine.options import PLAIN, EngineOptions
from onnxcam.engine.providers import ProviderSpec
from onnxcam.engine.session import Session, available_threads, may_leave_the_cpu
from onnxcam.limits import SAFE, Limits
from onnxcam.logs import module_logger
from onnxcam.types import Floats, Progress

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
        plan: RunPlan | None = None,
    ) -> None:
        """graph: returns the model's bytes. plan: of another runner, by which this one runs too where it may.

        Raises ProviderError, InferenceError, OptionError.
        """
        self._limits = limits
        self._capacity = masks_in_memory(limits.bytes_per_image, free_memory())
        batch_in_memory = choose_batch(limits.bytes_per_image, free_memory(), ON_DEVICE, limits.batch)
        best = default_plan(available_threads(), self._capacity, limits.fixed)
        if plan is not None and self._fits(plan):
            best = plan
        on_cpu = limits.free_choice and not may_leave_the_cpu(providers)
        data = graph()
        trim_heap()
        threads = best.threads if on_cpu else limits.threads
        self.session = Session(data, providers, threads, engine=limits.engine, limits=limits.limits, again=graph)
        chunk = self._chunk(batch_in_memory, len(data))
        del data
        trim_heap()
        self.notes = chunk.notes
        self.plan = best if on_cpu else RunPlan(self.session.threads, 1, limits.fixed or chunk.batch)
        self._log_plan()
        self._pool = self._new_pool()
        renew_in_child(self)

    def _log_plan(self) -> None:
        plan, how = self.plan, "by default" if self._limits.free_choice else "as given"
        logger.info(
            "run plan on %s: %d at a time with %d threads and %d images each (%s)",
            self.session.provider, plan.parallel, plan.threads, plan.batch, how,
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
        self.plan = replace(self.plan, batch=min(self.plan.batch, batch))

    def close(self) -> None:
        """Frees the session. Runs that are under way still end; later ones raise InferenceError."""
        self.session.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def map(self, run: ChunkRunner, samples: Samples, progress: Progress | None = None) -> Floats:
        """Calls `run` on chunks of the samples and joins the results along the first axis, in order.

        Raises what `run` raises, and OutOfMemory when a single sample does not fit.
        """
        plan, fixed = self.plan, self._limits.fixed
        return in_chunks(
            lambda chunk: run(self.session, chunk), samples, fixed or plan.batch, progress,
            pool=self._pool, parallel=plan.parallel, split=fixed is None,
        )  # fmt: skip


def default_plan(cores: int, capacity: int, fixed: int | None = None) -> RunPlan:
    """One-thread runs on every core; fewer runs of more threads where memory does not hold as many.

    capacity: masks that fit into memory at one time. fixed: the batch that the graph is fixed to.
    """
    parallel = max(1, min(cores, capacity // (fixed or 1)))
    return RunPlan(cores // parallel, parallel, fixed or max(1, min(PER_THREAD, capacity // parallel)))
