"""How far an evaluation is, and how long it takes: `EvaluationProgress`, and `Pace`, which measures it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

LAST = 32
"""Pictures by whose times the rate is measured, so that it follows what the machine does now."""


@dataclass(frozen=True)
class EvaluationProgress:
    """How far an evaluation is. A picture counts once for each model.

    done, total: pictures; kept: those of them that the journal had already, as far as the data was walked. failed:
    pictures of this run that have an error. rate: pictures a second that are computed, None before the first one.
    seconds_left: at this rate, if nothing of what is left is in the journal. model: the name of the model; picture: the
    key of the picture that was done last, empty before the first one.
    """

    done: int
    total: int
    kept: int
    failed: int
    rate: float | None
    seconds_left: float | None
    model: str
    picture: str = ""


@dataclass
class Pace:
    """Counts the pictures of a run. clock: seconds that pass, from any moment."""

    total: int
    clock: Callable[[], float] = time.monotonic
    kept: int = 0
    computed: int = 0
    failed: int = 0
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=LAST + 1))

    def start(self) -> None:
        """Called when a model is open, which is no part of the rate."""
        self._times.clear()
        self._times.append(self.clock())

    def count(self, *, failed: bool) -> None:
        """Counts a picture that was computed."""
        self.computed += 1
        self.failed += failed
        self._times.append(self.clock())

    def progress(self, model: str, picture: str = "") -> EvaluationProgress:
        done, rate = self.kept + self.computed, None
        if self.computed and self._times[-1] > self._times[0]:
            rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        left = (self.total - done) / rate if rate else None
        return EvaluationProgress(done, self.total, self.kept, self.failed, rate, left, model, picture)
