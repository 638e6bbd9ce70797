"""The process that an isolated Explainer works in: it opens the model and answers requests until its input ends.

Requests come pickled from the parent, which is trusted; answers go back as plain data (plain_data.py). isolation.py is
the parent's side. Output and errors of the process go nowhere: what libraries print there is a stranger's text.
"""

import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

import numpy.typing as npt

from onnxcam.engine.forking import Lock
from onnxcam.engine.session import available_threads, runtime
from onnxcam.errors import OnnxCamError, OutOfMemory
from onnxcam.explainer.explainer import Explainer
from onnxcam.explainer.measuring import measure_maps
from onnxcam.explainer.prefetch import PictureResult, explain_each
from onnxcam.explainer.sending import Request, plain_error, received
from onnxcam.inputs.presets import Preset
from onnxcam.limits import Limits, amount_of
from onnxcam.metrics.measurement import Measurement
from onnxcam.network.batch_support import BatchSupport
from onnxcam.network.plain_data import packed
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.types import Origin, Progress

COPIES, ROOM = 4, 2**31
"""Address space a byte of the limit on memory, as a session takes three copies while it opens; and for the rest."""
CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""The limit of a container, by version 2 and version 1."""
PATIENCE = 8
"""Without a sign of life for this many times the seconds of a forward pass, the process is ended."""
LIFE = 1.0
"""Seconds between signs of life."""
LARGEST_FILE = 2**26
"""Bytes of a file that the process may write: it writes nothing but records of the cache."""


@dataclass(frozen=True)
class Opened:
    """Attributes of the Explainer in the process."""

    model_name: str
    model_sha256: str
    model_fingerprint: str
    preset: Preset
    preset_origin: Origin
    size: tuple[int, ...]
    size_origin: Origin
    labels: Sequence[str] | None
    labels_origin: Origin
    anatomy: Anatomy
    batching: BatchSupport
    provider: str
    batch_size: int


@dataclass(frozen=True, eq=False)
class Explained:
    """A PictureResult as plain data."""

    number: int
    saliencies: tuple[Saliency, ...]
    original: npt.NDArray[Any] | None
    error: "Failure | None"
    answers: tuple[ScoredTarget, ...] = ()


@dataclass(frozen=True)
class Failure:
    """An error. kind: the name of its class. text: its message."""

    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Answer:
    """One message to the parent.

    event: 'ready' comes once, before any request; 'taken' says that a request has arrived, 'progress', 'begin' and
    'picture' are on the way, 'done' and 'failed' end it. numbers: (part, done, all) of a progress, the pictures that
    begin. One of the others holds what was requested.
    """

    event: str
    numbers: tuple[int, ...] = ()
    failure: Failure | None = None
    opened: Opened | None = None
    saliencies: tuple[Saliency, ...] | None = None
    measurements: tuple[Mapping[str, Measurement], ...] | None = None
    explained: Explained | None = None


@dataclass(frozen=True)
class Budget:
    """What the process may take.

    memory: bytes of address space beyond that of an idle process. seconds: of each core between two answers.
    """

    memory: int | None
    seconds: float | None


def budget_of(limits: Limits, batch: int = 0) -> Budget:
    """What limits of one model and one forward pass leave to a process. batch: masks that are run at once.

    Not more memory than the machine has, or the control group: more would end other processes first.
    """
    memory = min(limits.memory * COPIES + ROOM, machine_memory()) if limits.memory is not None else None
    return Budget(memory, limits.seconds * max(PATIENCE, 2 * batch) if limits.seconds is not None else None)


def machine_memory() -> int:
    """Bytes of memory that the machine has, or those of the control group if that has fewer."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in CONTROL_GROUPS:
        with suppress(OSError, ValueError):  # ValueError: 'max', which is no limit
            sizes.append(int(Path(file).read_text()))
    return min(sizes)


class Worker:
    """Answers requests. explainer: opened by the first one; iterators: streams and batches that go on, by number."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers, self._writing = requests, answers, Lock()
        self._explainer: Explainer | None = None
        self._iterators: dict[int, Iterator[Answer]] = {}
        self._budget, self._sent = Budget(None, None), 0.0

    def serve(self) -> None:
        """Answers until the parent closes its end."""
        self._send(Answer("ready"))
        while (request := received(self._requests)) is not None:
            _enter(request.folder)
            self._send(Answer("taken"))  # which renews the limit of seconds
            self._send(self._answer(request))

    def _answer(self, request: Request) -> Answer:
        """What a request, its name and its arguments, gives; an error as plain data."""
        try:
            name, arguments = request.loaded()
            answer: Answer = getattr(self, f"on_{name}")(**arguments)
        except OnnxCamError as error:
            return Answer("failed", failure=failure_of(error, self._budget.memory))
        except MemoryError:
            return Answer("failed", failure=failure_of(OutOfMemory("out of memory"), self._budget.memory))
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            text = f"the isolated process failed: {type(error).__name__}: {str(error)[:300]}"
            return Answer("failed", failure=Failure("InferenceError", text))
        return answer

    def on_open(self, budget: Budget, arguments: Mapping[str, Any]) -> Answer:
        self._budget = budget
        limit_memory(budget.memory)
        limit_seconds(budget.seconds)
        explainer = self._explainer = Explainer(**arguments)
        values = {name: getattr(explainer, name) for name in Opened.__dataclass_fields__}
        return Answer("done", opened=Opened(**values))

    def on_explain(self, image: Any, targets: Any, options: Mapping[str, Any], reports: bool) -> Answer:
        progress = self._progress(0, reports)
        saliencies = self.explainer.explain(image, targets, **options, progress=progress)
        return Answer("done", saliencies=without_pictures(saliencies))

    def on_measure(self, picture: Any, maps: Any, requests: Any, inputs: Any, parts: int | None) -> Answer:
        reports = [self._progress(i, parts is not None) for i in range(len(maps) * len(requests.names))]
        measured = measure_maps(self.explainer, picture, maps, requests, inputs=inputs, parts=reports)
        return Answer("done", measurements=tuple(measured))

    def on_stream(self, number: int, image: Any, target: Any, reports: bool) -> Answer:
        progress = self._progress(0, reports)
        stream = self.explainer.stream(image, target, progress=progress)
        self._iterators[number] = (Answer("done", saliencies=without_pictures([saliency])) for saliency in stream)
        return Answer("done")

    def on_each(self, number: int, keep_going: bool, reports: bool, best: int) -> Answer:
        begin = partial(self._begin, reports)
        results = explain_each(self.explainer, self._pictures(), keep_going=keep_going, progress=begin, answers=best)
        memory = self._budget.memory
        self._iterators[number] = (Answer("done", explained=plain_result(result, memory)) for result in results)
        return Answer("done")

    def on_next(self, number: int) -> Answer:
        answer = next(self._iterators[number], None)
        if answer is None:
            del self._iterators[number]
        return answer if answer is not None else Answer("done")

    def on_end(self, number: int) -> Answer:
        iterator = self._iterators.pop(number, None)
        if iterator is not None:
            iterator.close()  # type: ignore[attr-defined]
        return Answer("done")

    @property
    def explainer(self) -> Explainer:
        assert self._explainer is not None, "the first request opens it"
        return self._explainer

    def _pictures(self) -> Iterator[Any]:
        """Pictures with their targets, requested one by one."""
        while True:
            self._send(Answer("picture"))
            request = received(self._requests)
            if request is None:
                return
            _enter(request.folder)
            name, arguments = request.loaded()
            if name == "no_picture":
                return
            yield arguments["picture"]

    def _progress(self, part: int, reports: bool) -> Progress:
        """A callback that sends the progress on; where nobody reads it, now and then as a sign of life."""

        def report(done: int, of: int) -> None:
            if reports or time.monotonic() - self._sent > LIFE:
                self._send(Answer("progress", (part, done, of)))

        return report

    def _begin(self, reports: bool, numbers: Sequence[int]) -> list[Progress]:
        if reports:
            self._send(Answer("begin", tuple(numbers)))
        return [self._progress(number, reports) for number in numbers]

    def _send(self, answer: Answer) -> None:
        with self._writing:
            for part in packed(answer):
                self._answers.write(part)
            self._answers.flush()
        self._sent = time.monotonic()
        limit_seconds(self._budget.seconds)


def _enter(folder: str | None) -> None:
    """Makes relative paths those of the parent."""
    if folder is not None:
        with suppress(OSError):
            os.chdir(folder)


def failure_of(error: OnnxCamError, memory: int | None) -> Failure:
    """The error as plain data. memory: what this process may take, for the text of an OutOfMemory."""
    text = str(error)
    if isinstance(error, OutOfMemory) and memory is not None:
        text = (
            f"{text}; the isolated process may take {amount_of(memory)}, which --max-memory or Limits(memory=...) "
            f"raises up to what the machine has"
        )
    return Failure(type(plain_error(error)).__name__, text)


def plain_result(result: PictureResult, memory: int | None) -> Explained:
    error = failure_of(result.error, memory) if result.error is not None else None
    return Explained(result.number, without_pictures(result.saliencies), result.original, error, tuple(result.answers))


def without_pictures(saliencies: Sequence[Saliency]) -> tuple[Saliency, ...]:
    """Maps as they are sent: a stranger's picture is not read in the parent, which has its own reference to it."""
    return tuple(replace(saliency, picture=None) for saliency in saliencies)


def limit_memory(memory: int | None) -> None:
    """Limits the address space to what is taken now and `memory` bytes; no limit for None."""
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def limit_seconds(seconds: float | None) -> None:
    """Has the system end this process when it has computed for `seconds` on every core from now on."""
    if seconds is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds * available_threads()) + 1)


def _lower(limit: int, value: int) -> None:
    """Sets the soft limit, which may rise again, as far as the system allows."""
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def confine(memory: int | None, seconds: float | None) -> None:
    """Limits a process that runs one whole command, as limit_memory() and limit_seconds() do."""
    _expect_a_crash()
    runtime()  # loaded before the memory is limited
    limit_memory(memory)
    limit_seconds(seconds)


def _expect_a_crash() -> None:
    """No core file, and rather this process than the service where the system's memory runs out."""
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("300")


def end_with(answers: int) -> None:
    """Ends this process when nobody holds the other end of the pipe any more: the parent was killed."""
    poll = select.poll()
    poll.register(answers, 0)  # that the reader has gone is always reported
    poll.poll()
    os._exit(0)


def main() -> None:
    """Serves on standard input and output, which other code in this process then finds empty and closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _lower(resource.RLIMIT_FSIZE, LARGEST_FILE)
    _expect_a_crash()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    Thread(target=end_with, args=(answers.fileno(),), name="onnxcam-parent", daemon=True).start()
    runtime()  # loaded before the memory is limited
    with suppress(BrokenPipeError):
        Worker(requests, answers).serve()
    os._exit(0)  # destructors may hang, and the parent has what it needs
