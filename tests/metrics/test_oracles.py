"""Every metric, under each of its protocols, on a model whose answers are known: of a perfect map and of the worst one.

The model is a weighted sum. An object of 30 of 600 pixels shines with 0.8 on a dark ground, and the model gives the
mean of the object, p = 0.8. For gains it also takes the ground's mean away, half of it: the ground shines with 0.8, so
p = 0.4. The perfect map is 1 on the object and 0 elsewhere, the worst one is its opposite. To add a metric, add its
numbers to ORACLES.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from known_scores import sum_scorer

from onnxcam import METRICS
from onnxcam.metrics.registry import measure
from onnxcam.metrics.replacements import REPLACEMENTS

SIDES = (20, 30)
INSIDE = np.zeros(SIDES)
INSIDE[4:10, 6:11] = 1
BOX = (6.0, 4.0, 11.0, 10.0)
SHARE, P = 0.05, 0.8
PERFECT, WORST = INSIDE, 1 - INSIDE

Pair = tuple[float | None, float | None]
"""The values of the perfect and of the worst map; None where the metric is undefined."""


def near_the_box(pixels: float) -> float:
    """The part of the ground's pixels that lie within this distance of the object, by a loop."""
    ground = [(y, x) for y in range(SIDES[0]) for x in range(SIDES[1]) if not INSIDE[y, x]]
    near = [min(np.hypot(y - j, x - i) for j in range(4, 10) for i in range(6, 11)) <= pixels for y, x in ground]
    return sum(near) / len(ground)


def removed(f: float) -> Pair:
    """Deletion in steps of 30 pixels: the object goes in the first step, or in the last. f: what is left of it."""
    step = SHARE * (P + f) / 2
    return step + (1 - SHARE) * f, step + (1 - SHARE) * P


def put_back(f: float) -> Pair:
    """Insertion: the object comes in the first step, or in the last."""
    step = SHARE * (P + f) / 2
    return step + (1 - SHARE) * P, step + (1 - SHARE) * f


GROUND_KEPT = 0.4 * 270 / 570
"""What the ground takes from the score where the map's upper half, 300 pixels, holds the object and 270 others."""

ORACLES: Mapping[str, Callable[[float], Pair]] = {
    "average_drop:mult": lambda f: (0, 100),
    "average_drop:half": lambda f: (0, 100),
    "average_drop:half-soft": lambda f: (0, 100),
    "average_increase:mult": lambda f: (100, 0),
    "average_increase:half": lambda f: (100, 0),
    "average_increase:half-soft": lambda f: (100, 0),
    "average_gain:mult": lambda f: (100 * 0.4 / 0.6, None),  # the worst map's score is below 0: no probability
    "average_gain:half": lambda f: (100 * (0.4 - GROUND_KEPT) / 0.6, None),
    "average_gain:half-soft": lambda f: (100 * 0.4 / 0.6, None),
    "deletion:zero": removed,
    "deletion:mean": removed,
    "deletion:blur-rise": removed,
    "deletion:blur-gaussian": removed,
    "insertion:blur-rise": put_back,
    "insertion:blur-gaussian": put_back,
    "insertion:zero": put_back,
    "insertion:mean": put_back,
    "energy_pointing_game": lambda f: (1, 0),
    "pointing_game:15px": lambda f: (1, near_the_box(15)),
    "pointing_game:exact": lambda f: (1, 0),
    "road": lambda f: (0.4, -0.4),  # either the object is gone and dark as its surroundings, or it is all there
    "faithfulness_correlation:fixed": lambda f: (1, -1),
    "faithfulness_correlation:independent": lambda f: (1, -1),
    "adcc": lambda f: (3 / (1 + 1 / (1 - SHARE) + 1), 0),
    "sparseness": lambda f: (1 - SHARE, SHARE),
}
"""By metric and protocol; of the score f of the object where it is replaced."""
TOLERANCES = {"road": 0.02, "faithfulness_correlation": 2e-2}
"""ROAD adds noise of 0.01. Equal drops are no ties in float32."""
OPPOSITE = {"faithfulness_correlation": -INSIDE}
"""The worst map where it is not the complement."""


def protocols() -> list[str]:
    return [f"{n}:{p}" if p else n for n, metric in METRICS.items() for p in metric.protocols or ("",)]


def test_every_metric_and_protocol_has_an_oracle() -> None:
    assert set(protocols()) == set(ORACLES), "add the known answers of a new metric or protocol to ORACLES"


@pytest.mark.parametrize("name", protocols())
def test_a_perfect_map_and_the_worst_one_have_the_known_values(name: str) -> None:
    metric, _, protocol = name.partition(":")
    gains = metric in ("average_increase", "average_gain")
    ground = 0.4 / 570 / P * (1 - INSIDE) if gains else 0 * INSIDE
    image = np.full(SIDES, P) if gains else P * INSIDE
    replaced = REPLACEMENTS[protocol](image[None].astype(np.float32)) if protocol in REPLACEMENTS else None
    f = float(replaced[0][INSIDE > 0].mean()) if replaced is not None else 0.0
    with sum_scorer(INSIDE / 30 - ground, image) as scorer:
        for saliency, expected in zip((PERFECT, OPPOSITE.get(metric, WORST)), ORACLES[name](f), strict=True):
            one = measure(name, saliency, scorer, box=BOX, explain=lambda image, m=saliency: m, step=30)
            if expected is None:
                assert one.value is None
                assert one.reason
            else:
                assert one.value == pytest.approx(
                    expected, abs=TOLERANCES.get(metric, 1e-4 if "%" in METRICS[metric].unit else 1e-6)
                )
                assert one.reason is None


def test_the_metrics_load_no_onnx_no_runtime_and_no_plot() -> None:
    code = "import sys, json, onnxcam.metrics.registry; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & {"onnx", "onnx_ir", "onnxruntime", "matplotlib", "cv2", "PIL"}
