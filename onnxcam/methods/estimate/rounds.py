"""Score-CAM with a budget or a tolerance: masks are scored in rounds, and the scores of all others are estimated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Probe, channel_masks, live_channels
from onnxcam.methods.estimate.quadrature import START, Posterior, Quadrature, rounds
from onnxcam.methods.estimate.rounded_scores import RoundedScores, first_scores
from onnxcam.methods.estimate.rounding import LIMIT_OF_ESTIMATES, deviations, maps_within_limit, widened
from onnxcam.methods.maps import ALIKE, SAME, Outcome, combined, weights_of
from onnxcam.methods.weighting import Weighting
from onnxcam.types import AnyMasks, Doubles, Features, Indices, Note, NoteCode, Scores

SURE = 24
"""Scored masks from which an error bound is believed: fewer tell too little of how the score varies."""
UNSURE = Note(
    NoteCode.ERROR_UNKNOWN, "too few masks were scored, or all scored alike, to say by how much the map may be off"
)
EXACT = Note(
    NoteCode.ALL_SCORED,
    "half of the masks did not reach the tolerance, so all were scored: nothing is estimated",
)
MENDED = Note(
    NoteCode.IN_FLOAT32,
    f"rounding alone would move this map by more than {LIMIT_OF_ESTIMATES:g}, so all its masks were scored in float32",
)
SHORT = Note(NoteCode.BUDGET_ENDED, "the budget ended before the tolerance was reached")


@dataclass(frozen=True)
class Limits:
    """Where scoring ends. budget: scored masks at most. tolerance: the error bound of every target's map."""

    budget: int | None
    tolerance: float | None

    def reached(self, count: int, errors: Sequence[float | None]) -> bool:
        """Whether the bounds after `count` masks are within the tolerance and can be believed."""
        within = self.tolerance is not None and all(e is not None and e <= self.tolerance for e in errors)
        return within and count >= SURE

    def ends_exact(self, count: int, masks: int) -> bool:
        """Whether to score the rest at once: from half of the masks on, another fit costs about what the rest costs.

        An earlier forecast from the bound is wrong too often: it fell to a tolerance at a third of the masks where it
        seemed to need all. Nothing here depends on time, so maps are the same every time. False where a budget may end
        before.
        """
        return self.tolerance is not None and 2 * count >= masks and (self.budget is None or self.budget >= masks)

    def expected(self, count: int, errors: Sequence[float | None], most: int) -> int:
        """Masks in all, for a progress bar: the error falls about as their number grows."""
        known = [e for e in errors if e is not None]
        if self.tolerance is None or len(known) < len(errors):
            return most
        product = count * max(known)
        if product >= most * self.tolerance:
            return most
        return min(most, max(SURE, round(product / self.tolerance)))


@dataclass(frozen=True)
class EstimatedMaps:
    """Streams the map by Bayesian quadrature, one after each round of masks, until a limit is reached."""

    weighting: Weighting
    limits: Limits

    def __call__(self, probe: Probe) -> Iterator[list[Outcome]]:
        weighting, limits = self.weighting, self.limits
        channels = live_channels(probe)
        maps, masks = probe.features[channels], weighting.masks(channel_masks(probe, channels))
        most = min(len(maps), limits.budget or len(maps))
        probe.expect(most)
        quadrature = Quadrature.of(maps, weighting.masks(maps))
        posteriors = [quadrature.prior()] * probe.targets
        scored: Indices = np.zeros(0, np.int64)
        rounded: RoundedScores | None = None
        notes: tuple[Note, ...] = ()
        for count in rounds(len(maps), most):
            chosen = quadrature.choose(posteriors, scored, count - len(scored))
            scored = np.concatenate([scored, chosen])
            if rounded is None:
                rounded = first_scores(probe, masks[chosen], weighting.score)
            else:
                rounded = rounded.with_more(probe, masks[chosen], weighting.score)
            if count == len(maps):
                yield with_notes(self._exact(probe, maps[scored], masks[scored], rounded), *notes)
                return
            posteriors = self._posteriors(probe, quadrature, scored, rounded)
            if count >= SURE and self._is_too_far(maps, scored, posteriors, rounded):
                rounded = rounded.in_float32(probe, masks[scored], np.arange(count), weighting.score)
                posteriors, notes = self._posteriors(probe, quadrature, scored, rounded), (MENDED,)
            errors = _believed(rounded.scores, [quadrature.error(posterior) for posterior in posteriors])
            reached = limits.reached(count, errors)
            try:
                outcomes = self._outcomes(maps, posteriors, errors, probe)
            except UndefinedSaliency:
                if count == most:
                    raise
                continue  # no mask so far has a score: more of them may
            short = (SHORT,) if count == most and not reached and limits.tolerance is not None else ()
            counted = [
                replace(o, channels=count, estimated=len(maps) - count) for o in with_notes(outcomes, *notes, *short)
            ]
            rounding = rounded.rounding.of_all(len(maps), scored)
            yield widened(counted, maps, expected_weights(posteriors), rounding)
            if reached:
                return
            if limits.ends_exact(count, len(maps)):
                yield with_notes(self._rest(probe, maps, masks, scored, rounded), *notes, EXACT)
                return
            probe.expect(limits.expected(count, errors, most))

    def _posteriors(
        self, probe: Probe, quadrature: Quadrature, scored: Indices, rounded: RoundedScores
    ) -> list[Posterior]:
        """What is known of each target's scores."""
        originals = probe.original(self.weighting.score).astype(np.float64)
        return [
            quadrature.posterior(scored, of_target, self.weighting.link(of_target, float(original)))
            for of_target, original in zip(weights_of(rounded.scores, softmax=False).T, originals, strict=True)
        ]

    def _is_too_far(
        self, maps: Features, scored: Indices, posteriors: Sequence[Posterior], rounded: RoundedScores
    ) -> bool:
        """Whether rounding moves a target's map by more than an estimate may be off for it."""
        rounding = rounded.rounding.of_all(len(maps), scored)
        return max(deviations(maps, expected_weights(posteriors), rounding)) > LIMIT_OF_ESTIMATES

    def _rest(
        self, probe: Probe, maps: Features, masks: AnyMasks, scored: Indices, rounded: RoundedScores
    ) -> list[Outcome]:
        """The maps of all masks, of which those `scored` are scored already."""
        rest = np.setdiff1d(np.arange(len(maps)), scored)
        probe.expect(len(maps))
        every = np.concatenate([scored, rest])
        rounded = rounded.with_more(probe, masks[rest], self.weighting.score)
        return self._exact(probe, maps[every], masks[every], rounded)

    def _exact(self, probe: Probe, maps: Features, masks: AnyMasks, rounded: RoundedScores) -> list[Outcome]:
        """The maps of all masks, whose scores are in the order of maps (K,*grid)."""
        if probe.reduced:
            return maps_within_limit(probe, maps, masks, rounded, self.weighting.score)
        originals = probe.original(self.weighting.score).astype(np.float64)
        weights = self.weighting.weights(weights_of(rounded.scores, softmax=False), originals)
        return combined(maps, weights, probe.size)

    def _outcomes(
        self, maps: Features, posteriors: Sequence[Posterior], errors: Sequence[float | None], probe: Probe
    ) -> list[Outcome]:
        """The maps of the expected weights. An outcome without an error bound has a note that says why."""
        expected = expected_weights(posteriors)
        if self.weighting.softmax:
            expected = expected / expected.sum(axis=0)
        outcomes = []
        for outcome, error in zip(combined(maps, expected, probe.size), errors, strict=True):
            notes = [note for note in outcome.notes if note != ALIKE]
            outcomes.append(replace(outcome, error=error, notes=(*notes, *([UNSURE] if error is None else []))))
        return outcomes


def with_notes(outcomes: Sequence[Outcome], *notes: Note) -> list[Outcome]:
    """The outcomes with these notes behind their own."""
    return [replace(outcome, notes=(*outcome.notes, *notes)) for outcome in outcomes]


def expected_weights(posteriors: Sequence[Posterior]) -> Doubles:
    """(K,T) the expected weight of each map for each target."""
    return np.stack([posterior.weights for posterior in posteriors], axis=1)


def _believed(scores: Scores, errors: list[float]) -> list[float | None]:
    """The error bound of each target; None while too little was seen of how its score varies. scores (n,T)."""
    differ = np.ptp(scores, axis=0) > SAME * np.abs(scores).max(axis=0)
    enough = len(scores) >= START
    return [error if enough and varied else None for error, varied in zip(errors, differ, strict=True)]
