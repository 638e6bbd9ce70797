"""Score-CAM: the weight of a feature map is the class probability of the image seen through it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.blocks import (
    Convention,
    FeatureMaps,
    FourBlocks,
    Method,
    Probe,
    WeightedSum,
    channel_masks,
    live_channels,
)
from onnxcam.methods.estimate.quadrature import LEAST
from onnxcam.methods.estimate.rounding import exact_maps
from onnxcam.methods.estimate.rounds import EstimatedMaps, Limits
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import Outcome, combined, weights_of
from onnxcam.methods.options import choose, positive_integer, positive_number
from onnxcam.methods.weighting import Variant, Weighting
from onnxcam.types import Note, NoteCode

FAST = 0.02
"""The tolerance of `--fast`: on photographs its maps agree with the exact ones to a Pearson correlation above 0.999."""
PARTS = 20
"""Maps that a stream of the exact method shows on the way."""


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
    (methods/estimate). tolerance: scores no more of them than it takes for the map, in [0,1], to be off by no more than
    this, as a root mean square, in 9 of 10 cases. With neither, all are scored and the map is exact. Raises OptionError
    for an unknown convention or variant, a budget below 1, a tolerance that is not above 0 and below 1.
    """
    weighting = Weighting(choose(Convention, convention, "convention"), choose(Variant, variant, "variant"))
    limits = Limits(
        positive_integer(budget, "budget") if budget is not None else None,
        positive_number(tolerance, "tolerance") if tolerance is not None else None,
    )
    if limits.tolerance is not None and limits.tolerance >= 1:
        raise OptionError(f"tolerance must be below 1, since the map runs from 0 to 1, not {tolerance!r}")
    fill = as_fill(fill)
    exact = Method(
        name="score-cam",
        paper="Wang et al. 2020, arXiv:1910.01279",
        cost="one a feature map that varies over space; fewer with a budget or a tolerance",
        explain=FourBlocks(FeatureMaps(), weighting.attribute, WeightedSum(weighting.softmax, weighting.score)),
        stream=PartialSums(weighting),
        score=weighting.score,
        perturb=fill,
        reducible=not (weighting.softmax or weighting.destructive),
        options={
            "convention": str(weighting.convention),
            "variant": str(weighting.variant),
            "fill": fill.name,
            "budget": limits.budget,
            "tolerance": limits.tolerance,
        },
    )
    if limits.budget is None and limits.tolerance is None:
        return exact
    cost = "as many as the budget or the tolerance asks for"
    return replace(exact, cost=cost, explain=None, stream=EstimatedMaps(weighting, limits), smallest_batch=LEAST)


@dataclass(frozen=True)
class PartialSums:
    """Streams the exact map: on the way it shows the sums over the maps that vary most."""

    weighting: Weighting

    def __call__(self, probe: Probe) -> Iterator[list[Outcome]]:
        channels = live_channels(probe)
        maps, masks = probe.features[channels], channel_masks(probe, channels)
        probe.expect(len(maps))
        order = np.argsort(-maps.std(axis=tuple(range(1, maps.ndim))), kind="stable")
        scores = np.zeros((len(maps), probe.targets), np.float32)
        scored = np.zeros(len(maps), bool)
        for part in np.array_split(order, min(PARTS, len(maps))):
            scores[part] = self.weighting.attribute(probe, masks[part])
            scored[part] = True
            if scored.all() and probe.reduced:
                yield exact_maps(probe, maps, masks, scores, self.weighting.score)
                return
            try:
                so_far = weights_of(scores[scored], softmax=self.weighting.softmax)
                outcomes = combined(maps[scored], so_far, probe.size)
            except UndefinedSaliency:
                if scored.all():
                    raise
                continue  # the maps to come may make a difference
            if not scored.all():
                note = Note(NoteCode.PARTIAL, f"{scored.sum()} of {len(maps)} feature maps so far")
                outcomes = [replace(o, notes=(*o.notes, note), left=int((~scored).sum())) for o in outcomes]
            yield outcomes
