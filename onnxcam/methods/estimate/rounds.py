"""Score-CAM with a budget or a tolerance: masks are scored in rounds, and the scores of all others are estimated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Probe, channel_masks, live_channels
from onnxcam.methods.estimate.quadrature import START, Posterior, Quadrature, rounds
from onnxcam.methods.estimate.rounding import widened
from onnxcam.methods.maps import ALIKE, SAME, Outcome, combined, weights_of
from onnxcam.methods.weighting import Weighting
from onnxcam.types import Doubles, Features, Indices, Note, NoteCode

SURE = 24
"""Scored masks from which an error bound is believed: fewer tell too little of how the score varies."""
UNSURE = Note(
    NoteCode.ERROR_UNKNOWN, "too few masks were scored, or all scored alike, to say by how much the map may be off"
)
EXACT = Note(
    NoteCode.ALL_SCORED,
    "half of the masks did not reach the tolerance, so all were scored: the map is exact",
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
        originals = probe.original(weighting.score).astype(np.float64)
        quadrature = Quadrature.of(maps, weighting.masks(maps))
        posteriors = [quadrature.prior()] * probe.targets
        scored: Indices = np.zeros(0, np.int64)
        scores = np.zeros((0, probe.targets))
        for count in rounds(len(maps), most):
            chosen = quadrature.choose(posteriors, scored, count - len(scored))
            scored = np.concatenate([scored, chosen])
            scores = np.concatenate([scores, weights_of(probe.score(masks[chosen], weighting.score), softmax=False)])
            if count == len(maps):
                yield self._exact(probe, maps[scored], scores)
                return
            posteriors = [
                quadrature.posterior(scored, of_target, weighting.link(of_target, float(original)))
                for of_target, original in zip(scores.T, originals, strict=True)
            ]
            errors = _believed(scores, [quadrature.error(posterior) for posterior in posteriors])
            reached = limits.reached(count, errors)
            try:
                outcomes = self._outcomes(maps, posteriors, errors, probe)
            except UndefinedSaliency:
                if count == most:
                    raise
                continue  # no mask so far has a score: more of them may
            short = (SHORT,) if count == most and not reached and limits.tolerance is not None else ()
            counted = [
                replace(o, channels=count, estimated=len(maps) - count, notes=(*o.notes, *short)) for o in outcomes
            ]
            expected = np.stack([posterior.weights for posterior in posteriors], axis=1)
            yield widened(counted, maps, expected, probe.score_deviation)
            if reached:
                return
            if limits.ends_exact(count, len(maps)):
                rest = np.setdiff1d(np.arange(len(maps)), scored)
                probe.expect(len(maps))
                others = weights_of(probe.score(masks[rest], weighting.score), softmax=False)
                exact = self._exact(probe, maps[np.concatenate([scored, rest])], np.concatenate([scores, others]))
                yield [replace(o, notes=(*o.notes, EXACT)) for o in exact]
                return
            probe.expect(limits.expected(count, errors, most))

    def _exact(self, probe: Probe, maps: Features, scores: Doubles) -> list[Outcome]:
        """The maps of all masks, whose scores (K,T) are in the order of maps (K,*grid)."""
        weights = self.weighting.weights(scores, probe.original(self.weighting.score).astype(np.float64))
        return widened(combined(maps, weights, probe.size), maps, weights, probe.score_deviation)

    def _outcomes(
        self, maps: Features, posteriors: Sequence[Posterior], errors: Sequence[float | None], probe: Probe
    ) -> list[Outcome]:
        """The maps of the expected weights. An outcome without an error bound has a note that says why."""
        expected = np.stack([posterior.weights for posterior in posteriors], axis=1)
        if self.weighting.softmax:
            expected = expected / expected.sum(axis=0)
        outcomes = []
        for outcome, error in zip(combined(maps, expected, probe.size), errors, strict=True):
            notes = [note for note in outcome.notes if note != ALIKE]
            outcomes.append(replace(outcome, error=error, notes=(*notes, *([UNSURE] if error is None else []))))
        return outcomes


def _believed(scores: Doubles, errors: list[float]) -> list[float | None]:
    """The error bound of each target; None while too little was seen of how its score varies. scores (n,T)."""
    differ = np.ptp(scores, axis=0) > SAME * np.abs(scores).max(axis=0)
    enough = len(scores) >= START
    return [error if enough and varied else None for error, varied in zip(errors, differ, strict=True)]
