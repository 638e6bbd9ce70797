"""The part muppet: muppet-xai."""

import argparse
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from benchmark import Rows, _stand_in_for_torchvision, row

from gradient_parts.searches import RATE, STEPS, asked, own_search
from gradient_parts.subjects import explainer, lite0
from onnxcam import methods as ours
from onnxcam import score_cam
from onnxcam.types import Score


def muppet(given: argparse.Namespace) -> Rows:
    """Its own explainers on the same weights; the layer is the one that onnxcam chooses."""
    try:
        _stand_in_for_torchvision()
        if not hasattr(sys.modules.get("torchvision.transforms"), "GaussianBlur"):
            sys.modules["torchvision.transforms"].GaussianBlur = None  # type: ignore[attr-defined]
        from muppet.explainers.opti_cam import OptiCAMExplainer
        from muppet.explainers.score_cam import ScoreCAMExplainer
    except (ImportError, RuntimeError) as error:
        print(f"muppet-xai is left out: {error}", file=sys.stderr)
        return []
    rows: Rows = []
    network = lite0()
    bounded = {"score": Score.PROBABILITY, "bounds": (0.0, 1.0)}
    with explainer(ours.opti_cam(max_iter=STEPS, lr=RATE, **bounded)) as search_, explainer(score_cam()) as scoring:
        for picture in asked(search_, given.pictures, 5):
            image = picture.tensor(torch.float32)
            mine = own_search(search_, picture, **bounded)
            theirs = OptiCAMExplainer(network, max_iter=STEPS, lr=RATE)
            map_ = theirs(image)[0, 0].numpy()
            score = -float(theirs.memory.get_premises()[0].attribution)
            difference = abs(mine[-1].score / score - 1)
            found = search_(picture.image, picture.target).map
            note = (
                f"{picture.name}: {mine[-1].score:.5g} against {score:.5g}; best of all steps "
                f"{max(s.score for s in mine):.5g}; Pearson of the maps {pearson(found, map_):.4f}"
            )
            rows.append(row("muppet-xai's Opti-CAM: relative difference of the score", difference, "<= 0.02", note))
        for picture in asked(scoring, given.pictures, 2):
            with torch.no_grad():
                map_ = ScoreCAMExplainer(network)(picture.tensor(torch.float32))[0, 0].numpy()
            found = scoring(picture.image, picture.target).map
            rows.append(row("muppet-xai's Score-CAM: Pearson", pearson(found, map_), ">= 0.999", picture.name))
    return rows


def pearson(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])
