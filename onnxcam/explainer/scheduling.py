"""The scheduler of methods that run side by side: it answers what they ask of their probes together.

Each method runs in a greenlet (a function that can pause). Where it asks its probe for scores it pauses, and the
scheduler answers the requests of all pictures together before each method goes on. So all of them run in the caller's
thread. Which masks share a run depends on the pictures and the run plan.
"""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from onnxcam.errors import OnnxCamError
from onnxcam.logs import module_logger
from onnxcam.network.probe import ImageProbe, score_gradients, scores
from onnxcam.types import AnyMasks, Floats, Indices, Masks, Score, Scores

logger = module_logger(__name__)


@dataclass(frozen=True)
class _Request:
    """What one method asks of its probe. answer: answers the requests of several probes together."""

    answer: Callable[[Sequence[ImageProbe], Sequence[Any], Score], list[Any]]
    score: Score
    argument: Any

    def may_join(self, other: "_Request") -> bool:
        """Whether two requests can share a run."""
        return self.answer is other.answer and self.score is other.score


@dataclass(frozen=True, eq=False)
class _ScheduledProbe(ImageProbe):
    """A probe that hands the requests which pictures can share to the scheduler, and waits for the answer."""

    scheduler: greenlet = field(kw_only=True)

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        return self.scheduler.switch(_Request(scores, score, masks))  # type: ignore[no-any-return]

    def score_gradient(
        self, maps: Masks, targets: Indices, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        return self.scheduler.switch(_Request(score_gradients, score, (maps, targets, shift)))  # type: ignore[no-any-return]


def side_by_side(search: Callable[[int, ImageProbe], None], probes: Sequence[ImageProbe]) -> None:
    """Calls search(i, probe) for each probe, all at once. What it raises ends the others, and is raised."""
    scheduler = getcurrent()
    searches = [greenlet(search) for _ in probes]
    requests: dict[int, Any] = {}
    try:
        for i, probe in enumerate(probes):
            searches[i].gr_context = copy_context()
            requests[i] = searches[i].switch(i, _ScheduledProbe(**_fields(probe), scheduler=scheduler))
        # A search that ended returned None, which is no request.
        while requests := {i: request for i, request in sorted(requests.items()) if not searches[i].dead}:
            first, *_ = requests.values()
            joined = [i for i, request in requests.items() if request.may_join(first)]
            answers = _answers([probes[i] for i in joined], [requests[i] for i in joined])
            for i, answer in zip(joined, answers, strict=True):
                failed = isinstance(answer, OnnxCamError)
                requests[i] = searches[i].throw(answer) if failed else searches[i].switch(answer)
    finally:
        for unfinished in searches:
            if not unfinished.dead:
                unfinished.throw()  # ends it


def _answers(probes: Sequence[ImageProbe], requests: Sequence[_Request]) -> list[Any]:
    """The answers to requests that share a run; an error in the place of an answer that failed."""
    counts = [(p.count.forwards, p.count.steps) for p in probes]
    try:
        return requests[0].answer(probes, [request.argument for request in requests], requests[0].score)
    except OnnxCamError as error:
        if len(probes) == 1:
            return [error]
        for probe, before in zip(probes, counts, strict=True):
            probe.count.reset(*before)
        # One of the pictures may be the reason: each is answered alone.
        logger.info("a run that %d pictures share failed: %s", len(probes), error)
        return [answer for p, r in zip(probes, requests, strict=True) for answer in _answers([p], [r])]


def _fields(probe: ImageProbe) -> dict[str, Any]:
    return {name: getattr(probe, name) for name in ImageProbe.__dataclass_fields__}
