"""The parts parity and quality."""

import argparse
import sys

import numpy as np
from benchmark import Rows, row

from gradient_parts.searches import MAIN, PAIRS, STEPS, all_runs, asked, cosine, probe_of
from gradient_parts.subjects import explainer
from onnxcam import methods as ours
from onnxcam import score_cam
from onnxcam.inputs.bundled import model
from onnxcam.methods.blocks import live
from onnxcam.types import Score

MOST_PICTURES = 36


def parity(given: argparse.Namespace) -> Rows:
    """Against PyTorch's autograd in float32. A channel that is constant over space has no say in the mask, so that its
    gradient is rounding noise, which Adam turns into steps of full length: without those is what compares."""
    cosines: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    notes = []
    with explainer(ours.opti_cam()) as explain:
        for picture in asked(explain, given.pictures, 5):
            runs, chosen = all_runs(explain, picture, 1e-8), live(probe_of(explain, picture).features)
            for a, b in (MAIN, *PAIRS):
                x, y = runs[a], runs[b]
                cosines.setdefault(f"{a} / {b}, all", []).append(cosine(x[5].u, y[5].u))
                cosines.setdefault(f"{a} / {b}", []).append(cosine(x[5].u[chosen], y[5].u[chosen]))
                scores.setdefault(f"{a} / {b}", []).append(abs(x[STEPS].score / y[STEPS].score - 1))
            finals = (f"{r[STEPS].score:.4g}" for r in runs.values())
            notes.append(f"{picture.name} {'/'.join(finals)}")
            print(f"  {notes[-1]}", file=sys.stderr)
    ours_, what = " / ".join(MAIN), f"{len(notes)} pictures, the worst"
    all_ = "; ".join(f"{name} {min(c):.5f}" for name, c in cosines.items())
    others = "; ".join(f"{name} {max(s):.3f}" for name, s in scores.items())
    return [
        row("coefficients after 5 steps, all channels: cosine", min(cosines[f"{ours_}, all"]), ">= 0.9999", what),
        row("the same, channels that vary over space", min(cosines[ours_]), ">= 0.9999", f"{what}; {all_}"),
        row(
            f"score after {STEPS} steps: relative difference", max(scores[ours_]), "<= 0.02",
            f"{what}; {others}; {', '.join(runs)}: {'; '.join(notes)}",
        ),
    ]  # fmt: skip


def quality(given: argparse.Namespace) -> Rows:
    """Both masks are scored in the same way, as n(up(raw))."""
    higher: dict[Score, list[bool]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    means: dict[Score, list[tuple[float, float, float]]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    missed: dict[Score, list[str]] = {Score.LOGIT: [], Score.PROBABILITY: []}
    with explainer(ours.opti_cam(), model()) as search_, explainer(score_cam(), model()) as scoring:
        found = asked(search_, given.pictures, MOST_PICTURES)
        for picture in found:
            probe = probe_of(search_, picture)
            raw = [e(picture.image, picture.target).raw for e in (search_, scoring)]
            for score in higher:
                opti, cam = (float(probe.score(r[None, None], score)[0, 0]) for r in raw)
                higher[score].append(opti > cam)
                means[score].append((opti, cam, float(probe.original(score)[0])))
                missed[score] += [] if opti > cam else [f"{picture.name} ({opti:.4g} against {cam:.4g})"]
    rows: Rows = []
    for score, values in higher.items():
        opti, cam, plain = np.mean(means[score], axis=0)
        note = (
            f"{sum(values)} of {len(found)} pictures; mean {opti:.4g}, Score-CAM {cam:.4g}, unmasked {plain:.4g}; "
            f"missed: {', '.join(missed[score]) or 'none'}"
        )
        rows.append(row(f"Opti-CAM's {score} above Score-CAM's", float(np.mean(values)), ">= 0.90", note))
    return rows
