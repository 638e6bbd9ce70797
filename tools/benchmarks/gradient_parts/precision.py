"""The part precision: how far correct runs of the search drift apart, for values of Adam's epsilon."""

import argparse
import statistics
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from table import Rows, row
from torch_models import Step, coefficient_gradient

import onnxcam
from gradient_parts.searches import (
    PAIRS,
    STEPS,
    TargetedImage,
    all_searches,
    cosine,
    map_difference,
    probe_of,
    targeted_images,
)
from gradient_parts.subjects import explainer, lite0
from onnxcam.methods.blocks import live

COMPARED_STEPS = (5, 20, 60, 100)
"""Steps at which the searches are compared."""
ABSOLUTE = (1e-8, 1e-5, 1e-3)
RELATIVE = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Epsilons as multiples of the first gradient's root mean square."""


def precision(arguments: argparse.Namespace) -> Rows:
    """Rows without a bound: how far the searches drift apart and what they score, for each epsilon."""
    rows: Rows = []
    with explainer(onnxcam.opti_cam()) as explain:
        subjects = targeted_images(explain, arguments.pictures, arguments.precision_pictures)
        size = {s.name: first_gradient(s) for s in subjects}
        varying = [live(probe_of(explain, s).features) for s in subjects]
        exact: dict[str, float] = {}
        for unit, epsilons in (("absolute", ABSOLUTE), ("relative", RELATIVE)):
            for epsilon in epsilons:
                factors = size if unit == "relative" else dict.fromkeys(size, 1.0)
                runs = {s.name: all_searches(explain, s, epsilon * factors[s.name]) for s in subjects}
                exact = exact or {name: r["float64"][STEPS].score for name, r in runs.items()}
                rows += spread(list(runs.values()), varying, unit, epsilon)
                shares = [r["float64"][STEPS].score / exact[name] for name, r in runs.items()]
                note = f"worst {min(shares):.4g}; best of all steps {best(runs, exact):.4g}"
                what = f"{unit} {epsilon:g}: final score of float64 / that at 1e-8"
                rows.append({**row(what, [float(np.mean(shares))], "", note), "unit": unit, "epsilon": epsilon})
                print(f"  {unit} {epsilon:g} done", file=sys.stderr)
    note = ", ".join(f"{name} {s:.3g}" for name, s in size.items())
    return [*rows, row("root mean square of the first gradient", [statistics.median(size.values())], "", note)]


def first_gradient(subject: TargetedImage) -> float:
    """The root mean square of the coefficients' gradient at the start of the search."""
    network, image = lite0(torch.float64), subject.tensor(torch.float64)
    with torch.no_grad():
        features = network.features(image)[0]
    gradient = coefficient_gradient(network, image, features, subject.target)
    return float(gradient.pow(2).mean().sqrt())


def best(runs: dict[str, dict[str, list[Step]]], exact: dict[str, float]) -> float:
    """The best score of all steps, as a share of the exact search's last score; the mean over pictures."""
    return float(np.mean([max(s.score for s in r["onnxcam"]) / exact[name] for name, r in runs.items()]))


def spread(
    runs: Sequence[dict[str, list[Step]]], varying: Sequence[npt.NDArray[np.bool_]], unit: str, epsilon: float
) -> Rows:
    """Rows of each pair of searches at each compared step. varying: each picture's channels that vary over space."""
    rows: Rows = []
    for a, b in PAIRS:
        for step in COMPARED_STEPS:
            maps = [map_difference(r[a][step], r[b][step]) for r in runs]
            cosines = [cosine(r[a][step].u[c], r[b][step].u[c]) for r, c in zip(runs, varying, strict=True)]
            scores = [abs(r[a][step].score / r[b][step].score - 1) for r in runs]
            note = (
                f"worst {max(maps):.2g}; cosine {np.mean(cosines):.5f}, worst {min(cosines):.5f}; "
                f"score {max(scores):.2g}"
            )
            what = f"{unit} {epsilon:g}: {a} / {b}, {step} steps: map"
            detail = {
                "unit": unit, "epsilon": epsilon, "pair": [a, b], "step": step, "map_mean": float(np.mean(maps)),
                "map_worst": max(maps), "cosine_mean": float(np.mean(cosines)), "cosine_worst": min(cosines),
                "score_worst": max(scores),
            }  # fmt: skip
            rows.append({**row(what, [float(np.mean(maps))], "", note), **detail})
    return rows
