"""The part muppet: Score-CAM and Opti-CAM of muppet-xai against the library's."""

import argparse
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from interleaving import stand_in_for_torchvision
from table import Rows, row

import onnxcam
from gradient_parts.searches import RATE, STEPS, library_search, targeted_images
from gradient_parts.subjects import explainer, lite0
from onnxcam import score_cam
from onnxcam.types import Score


def muppet(arguments: argparse.Namespace) -> Rows:
    """Rows of muppet-xai's explainers on the same weights and the layer that onnxcam chooses."""
    try:
        stand_in_for_torchvision()
        if not hasattr(sys.modules.get("torchvision.transforms"), "GaussianBlur"):
            sys.modules["torchvision.transforms"].GaussianBlur = None  # type: ignore[attr-defined]
        from muppet.explainers.opti_cam import OptiCAMExplainer
        from muppet.explainers.score_cam import ScoreCAMExplainer
    except (ImportError, RuntimeError) as error:
        return [row("muppet-xai's Score-CAM and Opti-CAM", [], "", f"muppet-xai is not installed: {error}")]
    rows: Rows = []
    network = lite0()
    bounded: dict[str, Any] = {"score": Score.PROBABILITY, "bounds": (0.0, 1.0)}
    with explainer(onnxcam.opti_cam(max_iter=STEPS, lr=RATE, **bounded)) as search_, explainer(score_cam()) as scoring:
        for subject in targeted_images(search_, arguments.pictures, 5):
            steps = library_search(search_, subject, **bounded)
            peer = OptiCAMExplainer(network, max_iter=STEPS, lr=RATE)
            peer_map = peer(subject.tensor(torch.float32))[0, 0].numpy()
            peer_score = -float(peer.memory.get_premises()[0].attribution)
            difference = abs(steps[-1].score / peer_score - 1)
            likeness = pearson(search_(subject.image, subject.target).map, peer_map)
            note = (
                f"{subject.name}: {steps[-1].score:.5g} against {peer_score:.5g}; best of all steps "
                f"{max(s.score for s in steps):.5g}; Pearson of the maps {likeness:.4f}"
            )
            rows.append(row("muppet-xai's Opti-CAM: relative difference of the score", [difference], "<= 0.02", note))
        for subject in targeted_images(scoring, arguments.pictures, 2):
            with torch.no_grad():
                peer_map = ScoreCAMExplainer(network)(subject.tensor(torch.float32))[0, 0].numpy()
            likeness = pearson(scoring(subject.image, subject.target).map, peer_map)
            rows.append(row("muppet-xai's Score-CAM: Pearson", [likeness], ">= 0.999", subject.name))
    return rows


def pearson(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])
