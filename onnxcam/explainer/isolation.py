"""An Explainer whose work is done in a process of its own, with limits: for models and pictures of strangers.

Explainer(isolated=True) makes an Isolated and hands its calls on. A crash, an endless loop or a lack of memory ends
that process and not this one: the call raises ProcessDied, and the next one starts a new process. Requests are pickled;
answers are plain data (plain_data.py). child_process.py is the process as seen from here, isolated_process.py the other
side.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

import onnxcam.errors
from onnxcam.engine.forking import Lock, renew_in_child
from onnxcam.errors import InferenceError, OnnxCamError, OptionError, OutOfMemory, ProcessDied
from onnxcam.explainer.child_process import ChildProcess, Ended, Silent, check_system
from onnxcam.explainer.sending import Part, no_more, packed_request, plain_error, sendable
from onnxcam.limits import Limits
from onnxcam.logs import module_logger
from onnxcam.methods.blocks import Method
from onnxcam.network.plain_data import DamagedData, unpacked
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Progress

if TYPE_CHECKING:
    from onnxcam.explainer.isolated_process import Answer, Explained, Opened
    from onnxcam.explainer.prefetch import GroupProgress, PictureResult

START = 120.0
"""Seconds in which the process starts and imports what it needs, also on a busy machine."""
OPENING = 10.0
"""Seconds that opening a model may take beyond those of a forward pass; then the process is ended."""
MOST_PASSES = 2**53
LONGEST_TEXT = 100_000
"""Characters of an error's message."""
LARGEST_RESULT = 2**32
"""Bytes of the arrays of one answer."""
BEGINNING = ("explain", "measure", "stream", "each")
"""Requests that need nothing of the process but the opened model: any process of this model can answer them."""


logger = module_logger(__name__)


class Untaken(ProcessDied):
    """The process ended before it took the request, which therefore is not the reason."""


class Isolated:
    """One model opened in a process of its own. Threads may share it; their requests take turns.

    opened: what the Explainer there says of itself. After a death the next request starts the process again, and opens
    the model.
    """

    def __init__(self, arguments: Mapping[str, Any], limits: Limits) -> None:
        """arguments: of the Explainer. limits: those of memory and seconds become limits of the process too.

        Raises OptionError where the system has no such limits, or an argument cannot be sent, and what opening raises.
        """
        check_system()
        self._arguments, self._limits = dict(arguments), limits
        self._lock, self._numbers, self._closed = Lock(reentrant=True), count(), False
        self._process: ChildProcess | None = None
        self._busy = False
        self._fingerprint: str | None = None
        renew_in_child(self)
        self.opened = self._start()

    def after_fork(self) -> None:
        """Leaves the process to the parent of a fork; the child starts one of its own."""
        if self._process is not None:
            self._process.leave()
            self._process = None

    def close(self) -> None:
        """Ends the process; a later request raises InferenceError, and so does one that another thread waits for."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def another(self, method: Method) -> dict[str, Any]:
        """The arguments of an Explainer of the same model for another method, in a process of its own.

        Raises InferenceError when this one is closed, and OptionError for a step graph.
        """
        if self._closed:
            raise InferenceError("this explainer is closed")
        if self._arguments["step"] is not None:
            raise OptionError("a step graph serves one method; open another Explainer without step=")
        return {**self._arguments, "method": method}

    def explain(
        self, image: Any, targets: Any, options: Mapping[str, Any], progress: Progress | None
    ) -> list[Saliency]:
        """As Explainer.explain(). options: its further arguments by name."""
        sent = sendable(image, self._limits, options.get("name"))
        request = {"image": sent, "targets": targets, "options": options, "reports": progress is not None}
        answer = self._call("explain", request, [progress])
        return list(self._checked(answer.saliencies or (), len(targets)))

    def measure(
        self, picture: Any, maps: Any, requests: Any, inputs: Any, parts: Sequence[Progress] | None
    ) -> list[dict[str, Any]]:
        """As measure_maps()."""
        request = {
            "picture": sendable(picture, self._limits), "maps": maps, "requests": requests, "inputs": inputs,
            "parts": len(parts) if parts is not None else None,
        }  # fmt: skip
        measured = self._call("measure", request, parts or ()).measurements or ()
        if len(measured) != len(maps) or any(set(each) != set(requests.names) for each in measured):
            raise self._died("sent what was not requested")
        return [dict(each) for each in measured]

    def stream(self, image: Any, target: Any, progress: Progress | None) -> Iterator[Saliency]:
        """As Explainer.stream()."""
        number, reports = next(self._numbers), [progress]
        request = {"number": number, "image": sendable(image, self._limits), "target": target}
        for answer in self._iterated("stream", {**request, "reports": progress is not None}, reports):
            yield from self._checked(answer.saliencies or (), 1)

    def explain_each(
        self, pictures: "Iterable[tuple[Any, Any]]", keep_going: bool, progress: "GroupProgress | None", best: int
    ) -> "Generator[PictureResult, None, None]":
        """As prefetch.explain_each(). A picture on which the process dies has the error in its place.

        best: how many of the model's best classes come along.
        """
        source = enumerate(pictures)
        while True:
            begun: deque[tuple[int, tuple[Any, Any]]] = deque()
            try:
                for result in self._each(source, begun, keep_going, progress, best):
                    yield result
                    if result.error is not None and not keep_going:
                        return
                return
            except ProcessDied:
                if not begun:
                    raise
            for numbered in begun:  # one of these was the reason: each alone
                result = self._alone(numbered, progress, best)
                yield result
                if result.error is not None and not keep_going:
                    return

    def _each(
        self,
        source: Iterator[tuple[int, tuple[Any, Any]]],
        begun: "deque[tuple[int, tuple[Any, Any]]]",
        keep_going: bool,
        progress: "GroupProgress | None",
        best: int,
    ) -> "Iterator[PictureResult]":
        """begun: those that were sent and have no result yet."""
        numbers: list[int] = []

        def picture() -> list[Part]:
            numbered = next(source, None)
            if numbered is None:
                return no_more()
            begun.append(numbered)
            numbers.append(numbered[0])
            image, targets = numbered[1]
            if isinstance(image, OnnxCamError):
                return packed_request("picture", {"picture": (plain_error(image), ())})
            try:
                return packed_request("picture", {"picture": (sendable(image, self._limits), targets)})
            except OnnxCamError as error:  # comes back in its place
                return packed_request("picture", {"picture": (plain_error(error), ())})

        def begin(group: Sequence[int]) -> dict[int, Progress | None]:
            if progress is None or not all(0 <= i < len(numbers) for i in group):
                raise self._died("sent what was not requested")
            return dict(zip(group, progress([numbers[i] for i in group]), strict=True))

        request = {
            "number": next(self._numbers), "keep_going": keep_going, "reports": progress is not None, "best": best,
        }  # fmt: skip
        for answer in self._iterated("each", request, (), picture, begin):
            explained = answer.explained
            if explained is None or not 0 <= explained.number < len(numbers):
                raise self._died("sent what was not requested")
            number = numbers[explained.number]
            one = next((one for one in begun if one[0] == number), None)
            if one is None:  # its result was sent before
                raise self._died("sent what was not requested")
            if explained.error is None:
                self._checked(explained.saliencies, len(one[1][1]))
            begun.remove(one)
            yield result_of(explained, number)

    def _alone(
        self, numbered: tuple[int, tuple[Any, Any]], progress: "GroupProgress | None", best: int
    ) -> "PictureResult":
        from onnxcam.explainer.prefetch import PictureResult

        number = numbered[0]
        try:
            (result,) = self._each(iter([numbered]), deque(), True, progress, best)
            return result
        except ProcessDied as error:
            return PictureResult(number, error=error)

    def _iterated(
        self,
        name: str,
        request: Mapping[str, Any],
        reports: Sequence[Progress | None],
        picture: Callable[[], Sequence[Part]] = no_more,
        begin: Callable[[Sequence[int]], dict[int, Progress | None]] = lambda group: {},
    ) -> "Iterator[Answer]":
        """The answers of a stream or a batch; each is computed when it is asked for."""
        self._call(name, request)
        process, number = self._process, request["number"]
        known: dict[int, Progress | None] = dict(enumerate(reports))
        try:
            while True:
                if self._process is not process:
                    raise ProcessDied("the isolated process that made these maps has ended; begin again")
                answer = self._call("next", {"number": number}, known, picture, begin)
                if answer.saliencies is None and answer.explained is None:
                    return
                yield answer
        finally:
            if self._process is process and process is not None:
                with suppress(OnnxCamError):
                    self._call("end", {"number": number})

    def _call(
        self,
        name: str,
        request: Mapping[str, Any],
        reports: "Sequence[Progress | None] | dict[int, Progress | None]" = (),
        picture: Callable[[], Sequence[Part]] = no_more,
        begin: Callable[[Sequence[int]], dict[int, Progress | None]] = lambda group: {},
    ) -> "Answer":
        """Sends a request and returns its answer; progress goes to the reports, by number. Raises OnnxCamError.

        A callback that raises, or an interrupt, ends the process too, whose work nobody waits for. A process that ended
        while it was idle is started again, once.
        """
        known = reports if isinstance(reports, dict) else dict(enumerate(reports))
        parts = packed_request(name, request)  # what cannot be sent disturbs nothing
        with self._lock:
            if self._busy:
                raise InferenceError("an isolated explainer does one thing at a time; call it after the callback")
            for again in (name in BEGINNING, False):
                if self._process is None:
                    self._start()
                try:
                    answer = self._exchange(parts, known, picture, begin)
                    break
                except Untaken as error:
                    if not again:
                        raise ProcessDied(str(error)) from None
                    logger.warning("the isolated process had ended while it was idle; one more is started")
        if answer.failure is not None:
            raise error_of(answer.failure)
        return answer

    def _exchange(
        self,
        parts: Sequence[Part],
        known: dict[int, Progress | None],
        picture: Callable[[], Sequence[Part]],
        begin: Callable[[Sequence[int]], dict[int, Progress | None]],
    ) -> "Answer":
        """Sends the parts and returns the answer. Raises Untaken where the process ends before its first word."""
        self._busy, taken = True, False
        try:
            self._write(parts)
            while (answer := self._read()).event not in ("done", "failed"):
                taken = True
                self._on_event(answer, known, picture, begin)
        except BaseException as error:
            self._end()
            if isinstance(error, ProcessDied) and not taken:
                raise Untaken(str(error)) from None
            raise
        finally:
            self._busy = False
            if self._closed:  # by another thread, which leaves the pipes to this one
                self._end()
        return answer

    def _on_event(
        self,
        answer: "Answer",
        known: dict[int, Progress | None],
        picture: Callable[[], Sequence[Part]],
        begin: Callable[[Sequence[int]], dict[int, Progress | None]],
    ) -> None:
        """What the process says while it works."""
        if (
            answer.event == "progress"
            and len(answer.numbers) == 3
            and all(0 <= n <= MOST_PASSES for n in answer.numbers)
        ):
            part, done, of = answer.numbers
            report = known.get(part)
            if report is not None:
                report(done, of)
        elif answer.event == "begin":
            known.update(begin(answer.numbers))
        elif answer.event == "picture":
            self._write(picture())
        elif answer.event != "taken":
            raise self._died("sent what was not requested")

    def _checked(self, saliencies: Sequence[Saliency], number: int) -> Sequence[Saliency]:
        """As many maps as were requested, on this model's input. Raises ProcessDied for anything else."""
        for each in saliencies:
            if each.map.shape != self.opened.size or each.map.dtype != np.float32 or each.raw.dtype != np.float32:
                raise self._died("sent a map that does not fit the model's input")
        if len(saliencies) != number:
            raise self._died("sent what was not requested")
        return saliencies

    def _start(self) -> "Opened":
        """Starts the process, which opens the model. Raises what opening raises, and where it is another model now."""
        if self._closed:
            raise InferenceError("this explainer is closed")
        from onnxcam.explainer.isolated_process import budget_of

        budget, seconds = budget_of(self._limits, self._arguments.get("batch") or 0), self._limits.seconds
        process = self._process = ChildProcess(START)
        try:
            if self._read().event != "ready":
                raise self._died("sent what was not requested")
            process.silence = seconds + OPENING if seconds is not None else None
            answer = self._call("open", {"budget": budget, "arguments": self._arguments})
            if answer.opened is None:
                raise self._died("sent what was not requested")
            if self._fingerprint not in (None, answer.opened.model_fingerprint):
                raise InferenceError(
                    "the model's file, or its weights beside it, changed since it was opened; open a new Explainer"
                )
        except BaseException:
            self._end()
            raise
        process.silence, self._fingerprint = budget.seconds, answer.opened.model_fingerprint
        logger.info(
            "isolated process %d has opened %r on %r", process.pid, answer.opened.model_name, answer.opened.provider
        )
        return answer.opened

    def _write(self, parts: Sequence[Part]) -> None:
        try:
            for part in parts:
                self._open_process.write(part)
        except (Ended, Silent) as error:
            raise self._died(str(error)) from None

    def _read(self) -> "Answer":
        from onnxcam.explainer.isolated_process import Answer

        try:
            answer: Answer = unpacked(Answer, self._open_process.read, LARGEST_RESULT)
        except (Ended, Silent) as error:
            raise self._died(str(error)) from None
        except DamagedData as error:
            raise self._died(f"sent damaged data: {error}") from None
        except MemoryError:
            raise OutOfMemory("a result of the isolated process does not fit into memory") from None
        return answer

    @property
    def _open_process(self) -> "ChildProcess":
        if self._process is None:  # closed by another thread
            raise InferenceError("this explainer is closed")
        return self._process

    def _died(self, how: str) -> InferenceError:
        if self._closed:
            return InferenceError("this explainer is closed")
        logger.warning("the isolated process %s", how)
        return ProcessDied(f"the isolated process {how}; this model or picture cannot be explained here")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def is_plausible(numbers: Sequence[int]) -> bool:
    """Whether these may be counts of forward passes."""
    return all(0 <= number <= MOST_PASSES for number in numbers)


def error_of(failure: Any) -> OnnxCamError:
    """The error that the process sent. One of a class that is not known is an InferenceError."""
    kind = getattr(onnxcam.errors, failure.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, OnnxCamError)):
        kind = InferenceError
    return kind(failure.text[:LONGEST_TEXT])


def result_of(explained: "Explained", number: int) -> "PictureResult":
    from onnxcam.explainer.prefetch import PictureResult

    error = error_of(explained.error) if explained.error is not None else None
    return PictureResult(number, explained.saliencies, explained.original, error, explained.answers)
