"""The parts parity (the search against PyTorch's) and quality (Opti-CAM's score against Score-CAM's)."""

import argparse
import sys

import numpy as np
from table import Rows, row

import onnxcam
from gradient_parts.searches import MAIN, PAIRS, STEPS, all_searches, cosine, probe_of, targeted_images
from gradient_parts.subjects import explainer
from onnxcam import score_cam
from onnxcam.inputs.bundled import model
from onnxcam.methods.blocks import live
from onnxcam.types import Score

MOST_PICTURES = 36


def parity(arguments: argparse.Namespace) -> Rows:
    """The search against PyTorch's in float32, with all channels and with those that vary over space.

    A channel that is constant over space does not change the mask. Its gradient is rounding noise, which Adam turns
    into steps of full length, so only the second figure compares the two sides.
    """
    cosines: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    notes = []
    with explainer(onnxcam.opti_cam()) as explain:
        for subject in targeted_images(explain, arguments.pictures, 5):
            searches, varying = all_searches(explain, subject, 1e-8), live(probe_of(explain, subject).features)
            for a, b in (MAIN, *PAIRS):
                x, y = searches[a], searches[b]
                cosines.setdefault(f"{a} / {b}, all", []).append(cosine(x[5].u, y[5].u))
                cosines.setdefault(f"{a} / {b}", []).append(cosine(x[5].u[varying], y[5].u[varying]))
                scores.setdefault(f"{a} / {b}", []).append(abs(x[STEPS].score / y[STEPS].score - 1))
            finals = (f"{steps[STEPS].score:.4g}" for steps in searches.values())
            notes.append(f"{subject.name} {'/'.join(finals)}")
            print(f"  {notes[-1]}", file=sys.stderr)
    main, worst = " / ".join(MAIN), f"{len(notes)} pictures, the worst"
    all_pairs = "; ".join(f"{name} {min(c):.5f}" for name, c in cosines.items())
    others = "; ".join(f"{name} {max(s):.3f}" for name, s in scores.items())
    return [
        row("coefficients after 5 steps, all channels: cosine", [min(cosines[f"{main}, all"])], ">= 0.9999", worst),
        row("the same, channels that vary over space", [min(cosines[main])], ">= 0.9999", f"{worst}; {all_pairs}"),
        row(
            f"score after {STEPS} steps: relative difference", [max(scores[main])], "<= 0.02",
            f"{worst}; {others}; {', '.join(searches)}: {'; '.join(notes)}",
        ),
    ]  # fmt: skip


def quality(arguments: argparse.Namespace) -> Rows:
    """How often Opti-CAM's mask scores higher than Score-CAM's. Both are scored as n(up(raw))."""
    higher: dict[Score, list[bool]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    means: dict[Score, list[tuple[float, float, float]]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    missed: dict[Score, list[str]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    with explainer(onnxcam.opti_cam(), model()) as search_, explainer(score_cam(), model()) as scoring:
        subjects = targeted_images(search_, arguments.pictures, MOST_PICTURES)
        for subject in subjects:
            probe = probe_of(search_, subject)
            raw = [e(subject.image, subject.target).raw for e in (search_, scoring)]
            for score in higher:
                opti, cam = (float(probe.score(r[None, None], score)[0, 0]) for r in raw)
                higher[score].append(opti > cam)
                means[score].append((opti, cam, float(probe.original(score)[0])))
                missed[score] += [] if opti > cam else [f"{subject.name} ({opti:.4g} against {cam:.4g})"]
    rows: Rows = []
    for score, values in higher.items():
        opti, cam, plain = np.mean(means[score], axis=0)
        note = (
            f"{sum(values)} of {len(subjects)} pictures; mean {opti:.4g}, Score-CAM {cam:.4g}, unmasked {plain:.4g}; "
            f"missed: {', '.join(missed[score]) or 'none'}"
        )
        rows.append(row(f"Opti-CAM's {score} above Score-CAM's", [float(np.mean(values))], ">= 0.90", note))
    return rows
