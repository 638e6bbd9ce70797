"""Score-CAM: the weight of a feature map is what the model gives the picture seen through it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import (
    Convention,
    Method,
    Probe,
    choose,
    class_score,
    feature_maps,
    four_blocks,
    live_numbers,
    masks_of,
    positive,
    weighted_sum,
    whole,
)
from onnxcam.methods.estimate import links
from onnxcam.methods.estimate.quadrature import LEAST, START, Quadrature, rounds
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import ALIKE, SAME, Outcome, combined, weights
from onnxcam.types import AnyMasks, Features, Note, NoteCode, Score, Scores

FAST = 0.02
"""The tolerance of `--fast`: on photographs its maps agree with the exact ones to a Pearson correlation above 0.999."""
SURE = 24
"""Scored masks from which an error bound is believed: fewer tell too little of how the score varies."""
UNSURE = Note(
    NoteCode.ERROR_UNKNOWN, "too few masks were scored, or all scored alike, to say by how much the map may be off"
)
SHORT = Note(NoteCode.BUDGET_ENDED, "the budget ended before the tolerance was reached")
PARTS = 20
"""Maps that a stream of the exact method shows on the way."""
Stream = Callable[[Probe], Iterator[list[Outcome]]]
Either = TypeVar("Either", Features, AnyMasks)


class Variant(StrEnum):
    OFFICIAL = "official"
    PAPER = "paper"


def score_cam(
    *,
    convention: Convention | str = Convention.CONSTRUCTIVE,
    variant: Variant | str = Variant.OFFICIAL,
    fill: Fill | str = ZERO,
    budget: int | None = None,
    tolerance: float | None = None,
) -> Method:
    """Score-CAM (Wang et al. 2020, arXiv:1910.01279).

    Two methods carry the name. 'official', as in the authors' code: weights are class probabilities. 'paper',
    Algorithm 1: weights are the softmax over channels of the logits; its baseline picture is left out because a
    softmax over channels does not see a constant.

    budget: feature maps that are scored, at most; the other scores are estimated from these by Bayesian quadrature
    (methods/quadrature.py). tolerance: scores no more of them than it takes for the map, in [0,1], to be off by no
    more than this, as a root mean square, in 9 of 10 cases. With neither, all are scored and the map is exact. Raises
    OptionError for an unknown convention or variant, a budget below 1, a tolerance that is not above 0 and below 1.
    """
    convention, variant = choose(Convention, convention, "convention"), choose(Variant, variant, "variant")
    form = _Form(convention, variant)
    limits = _Limits(
        whole(budget, "budget") if budget is not None else None,
        positive(tolerance, "tolerance") if tolerance is not None else None,
    )
    if limits.tolerance is not None and limits.tolerance >= 1:
        raise OptionError(f"tolerance must be below 1, since the map runs from 0 to 1, not {tolerance!r}")
    options = {"convention": str(convention), "variant": str(variant), "budget": "none", "tolerance": "none"}
    method = Method(
        name="score-cam",
        paper="Wang et al. 2020, arXiv:1910.01279",
        cost="one a feature map that varies over space; fewer with a budget or a tolerance",
        perturb=as_fill(fill),
        score=form.score,
        options=options,
    )
    if budget is None and tolerance is None:
        exact = four_blocks(feature_maps(), form.attribute, weighted_sum(softmax=form.softmax))
        return replace(method, explain=exact, stream=_in_parts(form))
    options |= {k: f"{v:g}" for k, v in (("budget", budget), ("tolerance", tolerance)) if v is not None}
    cost = "as many as the budget or the tolerance asks for"
    return replace(method, cost=cost, stream=_estimated(form, limits), asks=LEAST)


@dataclass(frozen=True)
class _Limits:
    budget: int | None
    tolerance: float | None

    def believed(self, scores: npt.NDArray[np.float64], errors: list[float]) -> list[float | None]:
        """The error bound of each target; None while too little was seen of how its score varies: scores (n,T)."""
        differ = np.ptp(scores, axis=0) > SAME * np.abs(scores).max(axis=0)
        enough = len(scores) >= START
        return [error if enough and varied else None for error, varied in zip(errors, differ, strict=True)]

    def reached(self, errors: Sequence[float | None]) -> bool:
        return self.tolerance is not None and all(e is not None and e <= self.tolerance for e in errors)

    def expected(self, count: int, errors: Sequence[float | None], most: int) -> int:
        """Masks in all, for a progress bar: the error falls about as their number grows."""
        known = [e for e in errors if e is not None]
        if self.tolerance is None or len(known) < len(errors):
            return most
        return min(most, max(SURE, round(count * max(known) / self.tolerance)))


@dataclass(frozen=True)
class _Form:
    """What the convention and the variant come to."""

    convention: Convention
    variant: Variant

    @property
    def softmax(self) -> bool:
        return self.variant is Variant.PAPER

    @property
    def score(self) -> Score:
        return Score.LOGIT if self.softmax else Score.PROBABILITY

    @property
    def attribute(self) -> Callable[[Probe, AnyMasks], Scores]:
        return class_score(self.score, self.convention)

    def masks(self, maps: Either) -> Either:
        return -maps if self.convention is Convention.DESTRUCTIVE else maps

    def weights(self, scores: npt.NDArray[np.float64], originals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(K,T) of the maps, where each mask was scored."""
        falls = self.convention is Convention.DESTRUCTIVE
        return weights(originals - scores if falls else scores, softmax=self.softmax)

    def link(self, scores: npt.NDArray[np.float64], original: float) -> links.Link:
        """Between a mask's score and its map's weight."""
        falls = self.convention is Convention.DESTRUCTIVE
        if self.softmax:
            return links.exponential(scores, -1 if falls else 1)
        link = links.link(scores)
        return links.falling(link, original) if falls else link


def _so_far(
    maps: Features,
    form: _Form,
    weights: npt.NDArray[np.float64],
    errors: Sequence[float | None],
    probe: Probe,
) -> list[Outcome]:
    """Of weights (K,T) that are estimated in part; one without an error says why it has none."""
    if form.softmax:
        weights = weights / weights.sum(axis=0)
    found = [replace(o, notes=tuple(n for n in o.notes if n != ALIKE)) for o in combined(maps, weights, probe.size)]
    return [
        replace(outcome, error=error, notes=(*outcome.notes, *([] if error is not None else [UNSURE])))
        for outcome, error in zip(found, errors, strict=True)
    ]


def _in_parts(form: _Form) -> Stream:
    """The exact map, and on the way the sums over the maps that vary most."""

    def stream(probe: Probe) -> Iterator[list[Outcome]]:
        numbers = live_numbers(probe)
        maps, masks = probe.features[numbers], masks_of(probe, numbers)
        probe.expect(len(maps))
        order = np.argsort(-maps.std(axis=tuple(range(1, maps.ndim))), kind="stable")
        scores = np.zeros((len(maps), probe.targets), np.float32)
        seen = np.zeros(len(maps), bool)
        for part in np.array_split(order, min(PARTS, len(maps))):
            scores[part] = form.attribute(probe, masks[part])
            seen[part] = True
            try:
                found = combined(maps[seen], weights(scores[seen], softmax=form.softmax), probe.size)
            except UndefinedSaliency:
                if seen.all():
                    raise
                continue  # the maps to come may make a difference
            if not seen.all():
                note = Note(NoteCode.PARTIAL, f"{seen.sum()} of {len(maps)} feature maps so far")
                found = [replace(outcome, notes=(*outcome.notes, note), left=int((~seen).sum())) for outcome in found]
            yield found

    return stream


def _estimated(form: _Form, limits: _Limits) -> Stream:
    """The map by Bayesian quadrature, one after each round of masks."""

    def stream(probe: Probe) -> Iterator[list[Outcome]]:
        numbers = live_numbers(probe)
        maps, masks = probe.features[numbers], form.masks(masks_of(probe, numbers))
        most = min(len(maps), limits.budget or len(maps))
        probe.expect(most)
        originals = probe.original(form.score).astype(np.float64)
        quadrature = Quadrature.of(maps, form.masks(maps))
        beliefs = [quadrature.prior()] * probe.targets
        seen, scores = np.zeros(0, np.int64), np.zeros((0, probe.targets))
        for count in rounds(len(maps), most):
            chosen = quadrature.choose(beliefs, seen, count - len(seen))
            seen = np.concatenate([seen, chosen])
            scores = np.concatenate([scores, weights(probe.score(masks[chosen], form.score), softmax=False)])
            if count == len(maps):
                yield combined(maps[seen], form.weights(scores, originals), probe.size)
                return
            beliefs = [
                quadrature.belief(seen, own, form.link(own, float(original)))
                for own, original in zip(scores.T, originals, strict=True)
            ]
            told = limits.believed(scores, [quadrature.error(belief) for belief in beliefs])
            try:
                found = _so_far(maps, form, np.stack([belief.weights for belief in beliefs], axis=1), told, probe)
            except UndefinedSaliency:
                if count == most:
                    raise
                continue  # no mask so far has a score: more of them may
            reached = count >= SURE and limits.reached(told)
            short = () if reached or count < most or limits.tolerance is None else (SHORT,)
            yield [
                replace(outcome, channels=count, estimated=len(maps) - count, notes=(*outcome.notes, *short))
                for outcome in found
            ]
            if reached:
                return
            probe.expect(limits.expected(count, told, most))

    return stream
