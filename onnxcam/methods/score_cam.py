"""Score-CAM: the weight of a feature map is what the model gives the picture seen through it."""

from enum import StrEnum

from onnxcam.arrays import Score
from onnxcam.fills import ZERO, Fill, named
from onnxcam.methods.blocks import (
    Convention,
    Method,
    choose,
    class_score,
    feature_maps,
    four_blocks,
    weighted_sum,
)


class Variant(StrEnum):
    OFFICIAL = "official"
    PAPER = "paper"


def score_cam(
    *,
    convention: Convention | str = Convention.CONSTRUCTIVE,
    variant: Variant | str = Variant.OFFICIAL,
    fill: Fill | str = ZERO,
) -> Method:
    """Score-CAM (Wang et al. 2020, arXiv:1910.01279).

    Two methods carry the name. 'official', as in the authors' code: weights are class probabilities. 'paper',
    Algorithm 1: weights are the softmax over channels of the logits; its baseline picture is left out because a
    softmax over channels does not see a constant.
    """
    convention, variant = choose(Convention, convention, "convention"), choose(Variant, variant, "variant")
    paper = variant is Variant.PAPER
    score = Score.LOGIT if paper else Score.PROBABILITY
    return Method(
        name="score-cam",
        paper="Wang et al. 2020, arXiv:1910.01279",
        cost="one a feature map that varies over space",
        explain=four_blocks(feature_maps(), class_score(score, convention), weighted_sum(softmax=paper)),
        perturb=named(fill),
        score=score,
        options={"convention": str(convention), "variant": str(variant)},
    )
