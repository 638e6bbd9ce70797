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
                all_weights = weighting.weights(scores, originals)
                exact = combined(maps[scored], all_weights, probe.size)
                yield widened(exact, maps[scored], all_weights, probe.score_deviation)
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
            probe.expect(limits.expected(count, errors, most))

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
