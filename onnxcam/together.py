"""Several pictures explained at one time: what their methods ask for goes through the network together.

Each method runs in a greenlet, which stops where it asks and goes on with the answer. So a method is written for one
picture, everything happens in one thread, and which rows share a run depends on the pictures alone, not on the clock.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from onnxcam.arrays import Floats, Masks, Score, Scores
from onnxcam.errors import OnnxCamError
from onnxcam.methods.blocks import Method, Rows, run
from onnxcam.methods.outcomes import Outcome
from onnxcam.methods.quadrature import LEAST
from onnxcam.probe import PictureProbe, score_gradients, scores

MOST = 16
"""Pictures that are explained at one time unless gradients are asked for: the feature maps of each are held."""


def company(method: Method, at_once: int) -> int:
    """Pictures that together fill a network which takes `at_once` rows.

    A search with gradients asks for a row a target at a time, a round of Score-CAM's for LEAST or more.
    """
    if method.searches:
        return at_once
    return 1 if at_once == 1 else max(2, min(MOST, -(-at_once // LEAST)))


def run_together(method: Method, probes: Sequence[PictureProbe]) -> list[list[Outcome] | OnnxCamError]:
    """Each picture's outcomes, or what went wrong with it. The probes are of one network."""
    found: list[list[Outcome] | OnnxCamError] = [[] for _ in probes]

    def search(i: int, probe: PictureProbe) -> None:
        try:
            found[i] = run(method, probe)
        except OnnxCamError as error:
            found[i] = error

    if len(probes) == 1:
        search(0, probes[0])
    else:
        _side_by_side(search, probes)
    for probe in probes:
        probe.count.finish()
    return found


@dataclass(frozen=True)
class _Question:
    """answer: gives each of several probes its answer to what it was given."""

    answer: Callable[[Sequence[PictureProbe], Sequence[Any], Score], list[Any]]
    score: Score
    given: Any

    def may_join(self, other: "_Question") -> bool:
        return self.answer is other.answer and self.score is other.score


@dataclass(frozen=True, eq=False)
class _Asking(PictureProbe):
    """A probe that leaves to the hub what can be asked together with others."""

    hub: greenlet = field(kw_only=True)

    def score(self, masks: Masks, score: Score) -> Scores:
        return self.hub.switch(_Question(scores, score, masks))  # type: ignore[no-any-return]

    def score_gradient(
        self, maps: Masks, rows: Rows, score: Score, shift: Sequence[int] | None = None
    ) -> tuple[Floats, Masks]:
        return self.hub.switch(_Question(score_gradients, score, (maps, rows, shift)))  # type: ignore[no-any-return]


def _side_by_side(search: Callable[[int, PictureProbe], None], probes: Sequence[PictureProbe]) -> None:
    hub = getcurrent()
    searches = [greenlet(search) for _ in probes]
    asked: dict[int, Any] = {}
    try:
        for i, probe in enumerate(probes):
            asked[i] = searches[i].switch(i, _Asking(**_fields(probe), hub=hub))
        # What a search returns at its end is no question.
        while asked := {i: question for i, question in sorted(asked.items()) if not searches[i].dead}:
            first, *_ = asked.values()
            joined = [i for i, question in asked.items() if question.may_join(first)]
            try:
                told = first.answer([probes[i] for i in joined], [asked[i].given for i in joined], first.score)
            except OnnxCamError as error:
                asked |= {i: searches[i].throw(error) for i in joined}
            else:
                asked |= {i: searches[i].switch(answer) for i, answer in zip(joined, told, strict=True)}
    finally:
        for left in searches:
            if not left.dead:
                left.throw()  # ends it


def _fields(probe: PictureProbe) -> dict[str, Any]:
    return {name: getattr(probe, name) for name in PictureProbe.__dataclass_fields__}
