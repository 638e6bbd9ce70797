"""An Explainer whose work is done in a process of its own, with limits: for models and pictures of strangers.

Explainer(isolated=True) makes an Isolated and hands its calls on. A crash, an endless loop or a lack of memory ends
that process and not this one: the call raises ProcessDied, and the next one starts a new process. Requests are pickled;
answers are plain data (plain_data.py). isolated_process.py is the other side.
"""

import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import onnxcam.errors
from onnxcam.engine.forking import Lock, renew_in_child
from onnxcam.errors import InferenceError, OnnxCamError, OptionError, ProcessDied
from onnxcam.explainer.plain_data import DamagedData, unpacked
from onnxcam.limits import Limits
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import Progress

if TYPE_CHECKING:
    from onnxcam.explainer.isolated_process import Answer, Explained, Opened
    from onnxcam.explainer.prefetch import GroupProgress, PictureResult

LENGTH = struct.Struct("<Q")
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from onnxcam.explainer.isolated_process import main
main()
"""
CHUNK = 2**20
"""Bytes that are read or written at a time."""
LARGEST_RESULT = 2**32
"""Bytes of the arrays of one answer."""
CRASHES = {
    "SIGFPE": "a division that the processor refuses",
    "SIGSEGV": "a wrong address",
    "SIGBUS": "a wrong address",
    "SIGABRT": "an abort of a library",
    "SIGILL": "an unknown instruction",
    "SIGKILL": "killed by the system, which may have run out of memory",
    "SIGXCPU": "it computed for longer than the limit",
    "SIGXFSZ": "it wrote a file larger than the limit",
}


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
        self._process: _Process | None = None
        self._busy = False
        renew_in_child(self)
        self.opened = self._start()

    def after_fork(self) -> None:
        """Leaves the process to the parent of a fork; the child starts one of its own."""
        if self._process is not None:
            self._process.leave()
            self._process = None

    def close(self) -> None:
        """Ends the process; a later request raises InferenceError."""
        self._closed = True
        self._end()

    def explain(
        self, image: Any, targets: Any, options: Mapping[str, Any], progress: Progress | None
    ) -> list[Saliency]:
        """As Explainer.explain(). options: its further arguments by name."""
        request = {"image": sendable(image), "targets": targets, "options": options, "reports": progress is not None}
        return list(self._call("explain", request, [progress]).saliencies or ())

    def measure(
        self, picture: Any, maps: Any, requests: Any, inputs: Any, parts: Sequence[Progress] | None
    ) -> list[dict[str, Any]]:
        """As measure_maps()."""
        request = {
            "picture": sendable(picture), "maps": maps, "requests": requests, "inputs": inputs,
            "parts": len(parts) if parts is not None else None,
        }  # fmt: skip
        return [dict(each) for each in self._call("measure", request, parts or ()).measurements or ()]

    def stream(self, image: Any, target: Any, progress: Progress | None) -> Iterator[Saliency]:
        """As Explainer.stream()."""
        number, reports = next(self._numbers), [progress]
        request = {"number": number, "image": sendable(image), "target": target, "reports": progress is not None}
        for answer in self._iterated("stream", request, reports):
            yield from answer.saliencies or ()

    def explain_each(
        self, pictures: "Iterable[tuple[Any, Any]]", keep_going: bool, progress: "GroupProgress | None"
    ) -> "Generator[PictureResult, None, None]":
        """As prefetch.explain_each(). A picture on which the process dies has the error in its place."""
        source = enumerate(pictures)
        while True:
            begun: deque[tuple[int, tuple[Any, Any]]] = deque()
            try:
                for result in self._each(source, begun, keep_going, progress):
                    yield result
                    if result.error is not None and not keep_going:
                        return
                return
            except ProcessDied:
                if not begun:
                    raise
            for numbered in begun:  # one of these was the reason: each alone
                result = self._alone(numbered, progress)
                yield result
                if result.error is not None and not keep_going:
                    return

    def _each(
        self,
        source: Iterator[tuple[int, tuple[Any, Any]]],
        begun: "deque[tuple[int, tuple[Any, Any]]]",
        keep_going: bool,
        progress: "GroupProgress | None",
    ) -> "Iterator[PictureResult]":
        """begun: those that were sent and have no result yet."""
        numbers: list[int] = []

        def picture() -> Any:
            numbered = next(source, None)
            if numbered is None:
                return None
            begun.append(numbered)
            numbers.append(numbered[0])
            return sendable(numbered[1][0]), numbered[1][1]

        def begin(group: Sequence[int]) -> dict[int, Progress | None]:
            assert progress is not None
            return dict(zip(group, progress([numbers[i] for i in group]), strict=True))

        request = {"number": next(self._numbers), "keep_going": keep_going, "reports": progress is not None}
        for answer in self._iterated("each", request, (), picture, begin):
            explained = answer.explained
            if explained is None or not 0 <= explained.number < len(numbers):
                raise self._died("sent what was not asked for")
            begun.remove(next(one for one in begun if one[0] == numbers[explained.number]))
            yield result_of(explained, numbers[explained.number])

    def _alone(self, numbered: tuple[int, tuple[Any, Any]], progress: "GroupProgress | None") -> "PictureResult":
        from onnxcam.explainer.prefetch import PictureResult

        number = numbered[0]
        try:
            (result,) = self._each(iter([numbered]), deque(), True, progress)
            return result
        except ProcessDied as error:
            return PictureResult(number, error=error)

    def _iterated(
        self,
        name: str,
        request: Mapping[str, Any],
        reports: Sequence[Progress | None],
        picture: Callable[[], Any] = lambda: None,
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
        picture: Callable[[], Any] = lambda: None,
        begin: Callable[[Sequence[int]], dict[int, Progress | None]] = lambda group: {},
    ) -> "Answer":
        """Sends a request and returns its answer; progress goes to the reports, by number. Raises OnnxCamError.

        A callback that raises, or an interrupt, ends the process too, whose work nobody waits for.
        """
        known = reports if isinstance(reports, dict) else dict(enumerate(reports))
        with self._lock:
            if self._busy:
                raise InferenceError("an isolated explainer does one thing at a time; call it after the callback")
            if self._process is None:
                self._start()
            self._busy = True
            try:
                self._write((name, request))
                while (answer := self._read()).event not in ("done", "failed"):
                    self._on_event(answer, known, picture, begin)
            except BaseException:
                self._end()
                raise
            finally:
                self._busy = False
        if answer.failure is not None:
            raise error_of(answer.failure)
        return answer

    def _on_event(
        self,
        answer: "Answer",
        known: dict[int, Progress | None],
        picture: Callable[[], Any],
        begin: Callable[[Sequence[int]], dict[int, Progress | None]],
    ) -> None:
        """What the process says while it works."""
        if answer.event == "progress" and len(answer.numbers) == 3:
            part, done, of = answer.numbers
            report = known.get(part)
            if report is not None:
                report(done, of)
        elif answer.event == "begin":
            known.update(begin(answer.numbers))
        elif answer.event == "picture":
            pair = picture()
            self._write(("no_picture", {}) if pair is None else ("picture", {"picture": pair}))
        else:
            raise self._died("sent what was not asked for")

    def _start(self) -> "Opened":
        """Starts the process, which opens the model. Raises what opening raises."""
        if self._closed:
            raise InferenceError("this explainer is closed")
        from onnxcam.explainer.isolated_process import budget_of

        budget = budget_of(self._limits, self._arguments.get("batch") or 0)
        self._process = _Process(budget.seconds)
        try:
            answer = self._call("open", {"budget": budget, "arguments": self._arguments})
            if answer.opened is None:
                raise self._died("sent what was not asked for")
        except BaseException:
            self._end()
            raise
        return answer.opened

    def _write(self, message: object) -> None:
        try:
            data = pickle.dumps((os.getcwd(), message), protocol=5)
        except (pickle.PicklingError, AttributeError, TypeError, OSError) as error:
            raise OptionError(
                f"an argument cannot be sent to the isolated process ({error}); give paths, bytes, arrays and named "
                f"functions of modules"
            ) from None
        try:
            self._open_process.write(LENGTH.pack(len(data)) + data)
        except (_Ended, _Silent) as error:
            raise self._died(str(error)) from None

    def _read(self) -> "Answer":
        from onnxcam.explainer.isolated_process import Answer

        try:
            answer: Answer = unpacked(Answer, self._open_process.read, LARGEST_RESULT)
        except (_Ended, _Silent) as error:
            raise self._died(str(error)) from None
        except DamagedData as error:
            raise self._died(f"sent damaged data: {error}") from None
        return answer

    @property
    def _open_process(self) -> "_Process":
        if self._process is None:  # closed by another thread
            raise InferenceError("this explainer is closed")
        return self._process

    def _died(self, how: str) -> InferenceError:
        if self._closed:
            return InferenceError("this explainer is closed")
        return ProcessDied(f"the isolated process {how}; this model or picture cannot be explained here")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


class _Ended(Exception):
    """The process is there no more."""


class _Silent(Exception):
    """The process says nothing."""


class _Process:
    """The process and the two pipes to it. silence: seconds after which it is given up, None for any."""

    def __init__(self, silence: float | None) -> None:
        self._silence = silence
        command = [sys.executable, "-c", PROGRAM, json.dumps(sys.path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        for pipe in (self._to, self._from):
            os.set_blocking(pipe.fileno(), False)
        # Also where nobody calls close(), and at the end of the program.
        self._finalizer = weakref.finalize(self, _kill, self._process)

    def write(self, data: bytes) -> None:
        """Raises _Ended, or _Silent where the process takes nothing."""
        rest = memoryview(data)
        while rest:
            self._wait(self._to.fileno(), select.POLLOUT)
            try:
                rest = rest[os.write(self._to.fileno(), rest[:CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _Ended(self._end_text()) from None

    def read(self, size: int) -> bytearray:
        """The next bytes. Raises _Ended, or _Silent where none come."""
        data = bytearray()
        while len(data) < size:
            self._wait(self._from.fileno(), select.POLLIN)
            try:
                part = os.read(self._from.fileno(), min(CHUNK, size - len(data)))
            except BlockingIOError:
                continue
            except OSError:  # closed by another thread
                part = b""
            if not part:
                raise _Ended(self._end_text())
            data += part
        return data

    def end(self) -> None:
        """Ends the process at once and closes the pipes."""
        self._finalizer()
        self.leave()

    def leave(self) -> None:
        """Closes the pipes of this process only, as a forked child does."""
        self._finalizer.detach()
        for pipe in (self._to, self._from):
            with suppress(OSError):
                pipe.close()

    def _wait(self, descriptor: int, events: int) -> None:
        end = time.monotonic() + self._silence if self._silence is not None else None
        poll = select.poll()
        try:
            poll.register(descriptor, events)
        except (OSError, ValueError):
            raise _Ended(self._end_text()) from None
        left = None if end is None else 1000 * max(0.0, end - time.monotonic())
        if not poll.poll(left):
            raise _Silent(f"gave no sign of life for {self._silence:g} s")

    def _end_text(self) -> str:
        """How the process ended."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its output"
        return how_it_ended(code)


def check_system() -> None:
    """Raises OptionError where processes have no limits."""
    if sys.platform == "win32":
        raise OptionError("an isolated process needs Linux or macOS; leave out --isolated, or use a container")


def how_it_ended(code: int) -> str:
    """In words. code: as subprocess gives it, below 0 for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"died of {name}{f' ({CRASHES[name]})' if name in CRASHES else ''}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)


def sendable(image: Any) -> Any:
    """The image as it can be sent: of an open file the bytes."""
    if not callable(getattr(image, "read", None)):
        return image
    from onnxcam.inputs.sources import name_of, opened

    with opened(image, name_of(image)) as file:
        return file.read()


def error_of(failure: Any) -> OnnxCamError:
    """The error that the process sent. One of a class that is not known is an InferenceError."""
    kind = getattr(onnxcam.errors, failure.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, OnnxCamError)):
        kind = InferenceError
    return kind(failure.text)


def result_of(explained: "Explained", number: int) -> "PictureResult":
    from onnxcam.explainer.prefetch import PictureResult

    error = error_of(explained.error) if explained.error is not None else None
    return PictureResult(number, explained.saliencies, explained.original, error)
