"""Several pictures explained at one time: what their methods ask for goes through the network together.

Each method runs in a greenlet, which stops where it asks and goes on with the answer. So a method is written for one
picture, everything happens in one thread, and which rows share a run depends on the pictures and the pace, not on which
thread was first.
"""

import logging
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from onnxcam.errors import OnnxCamError
from onnxcam.methods.blocks import Method, Need, run
from onnxcam.methods.maps import Outcome
from onnxcam.network.probe import ImageProbe, score_gradients, scores
from onnxcam.network.scorer import Network
from onnxcam.types import AnyMasks, Floats, Masks, Rows, Score, Scores

logger = logging.getLogger(__name__)
MOST = 8
"""Pictures that are explained at one time: the feature maps of each are held, and of as many that come next."""


def group_size(method: Method, network: Network) -> int:
    """Pictures that together fill the network, as far as the method asks anything that they can share."""
    in_flight = network.in_flight
    if method.searches:
        return 1 if network.fixed is not None else max(1, min(MOST, in_flight // (method.smallest_batch or in_flight)))
    if in_flight == 1 or not network.can_pack or method.needs & {Need.TAIL, Need.GRADIENT}:
        return 1
    # Also of many masks the last ones do not fill a run.
    return max(2, min(MOST, -(-in_flight // (method.smallest_batch or in_flight))))


def run_lockstep(method: Method, probes: Sequence[ImageProbe]) -> list[list[Outcome] | OnnxCamError]:
    """Each picture's outcomes, or what went wrong with it. The probes are of one network."""
    found: list[list[Outcome] | OnnxCamError] = [[] for _ in probes]

    def search(i: int, probe: ImageProbe) -> None:
        try:
            found[i] = run(method, probe)
            probe.count.finish()
        except OnnxCamError as error:
            found[i] = error

    if len(probes) == 1:
        search(0, probes[0])
    else:
        _side_by_side(search, probes)
    return found


@dataclass(frozen=True)
class _Question:
    """answer: gives each of several probes its answer to what it was given."""

    answer: Callable[[Sequence[ImageProbe], Sequence[Any], Score], list[Any]]
    score: Score
    given: Any

    def may_join(self, other: "_Question") -> bool:
        return self.answer is other.answer and self.score is other.score


@dataclass(frozen=True, eq=False)
class _Asking(ImageProbe):
    """A probe that leaves to the hub what can be asked together with others."""

    scheduler: greenlet = field(kw_only=True)

    def score(self, masks: AnyMasks, score: Score) -> Scores:
        return self.scheduler.switch(_Question(scores, score, masks))  # type: ignore[no-any-return]

    def score_gradient(
        self, maps: Masks, rows: Rows, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        return self.scheduler.switch(_Question(score_gradients, score, (maps, rows, shift)))  # type: ignore[no-any-return]


def _side_by_side(search: Callable[[int, ImageProbe], None], probes: Sequence[ImageProbe]) -> None:
    scheduler = getcurrent()
    searches = [greenlet(search) for _ in probes]
    asked: dict[int, Any] = {}
    try:
        for i, probe in enumerate(probes):
            searches[i].gr_context = copy_context()
            asked[i] = searches[i].switch(i, _Asking(**_fields(probe), scheduler=scheduler))
        # What a search returns at its end is no question.
        while asked := {i: question for i, question in sorted(asked.items()) if not searches[i].dead}:
            first, *_ = asked.values()
            joined = [i for i, question in asked.items() if question.may_join(first)]
            told = _answers([probes[i] for i in joined], [asked[i] for i in joined])
            for i, answer in zip(joined, told, strict=True):
                failed = isinstance(answer, OnnxCamError)
                asked[i] = searches[i].throw(answer) if failed else searches[i].switch(answer)
    finally:
        for left in searches:
            if not left.dead:
                left.throw()  # ends it


def _answers(probes: Sequence[ImageProbe], questions: Sequence[_Question]) -> list[Any]:
    """To questions that may be asked together; an error in the place of an answer that there is none to."""
    counted = [(p.count.forwards, p.count.steps) for p in probes]
    try:
        return questions[0].answer(probes, [q.given for q in questions], questions[0].score)
    except OnnxCamError as error:
        if len(probes) == 1:
            return [error]
        for probe, before in zip(probes, counted, strict=True):
            probe.count.reset(*before)
        # One of them may be the reason: each is asked alone.
        logger.info("a run that %d pictures share failed: %s", len(probes), error)
        return [found for p, q in zip(probes, questions, strict=True) for found in _answers([p], [q])]


def _fields(probe: ImageProbe) -> dict[str, Any]:
    return {name: getattr(probe, name) for name in ImageProbe.__dataclass_fields__}
