"""Measure onnxcam against the floor and its peers, side by side in one run.

    pip install ".[cpu,torch,peers]"
    python tools/benchmark.py [--repeats 3] [--json FILE]

Every ratio is a median over interleaved repeats: on a shared machine absolute times mean little. Each peer explains the
same picture with the same weights. A peer that is not installed is left out, and said so. Memory is the peak of a
process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam import Explainer, score_cam
from onnxcam.arrays import Score
from onnxcam.embedded import model, pictures

PICTURE = pictures()["chelsea"]
MEMORY = """
import resource, sys
from onnxcam import Explainer, score_cam
from onnxcam.embedded import model, pictures
with Explainer(model(), score_cam(), providers=["cpu"]) as explain:
    explain(pictures()["chelsea"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def interleaved(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each case, one after another in every round; a round before is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(repeats + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if round_:
                times[name].append(time.perf_counter() - start)
    return times


def floor(explainer: Explainer) -> Callable[[], object]:
    """Bare forward passes through the same session: as many as there are live channels, in the same chunks.

    The maps are constant, so the masks keep the whole picture; the network does exactly what it does in Score-CAM.
    """
    live = explainer(PICTURE).provenance.channels.scored
    plain = PlainSession(explainer.masks_a_run)
    return lambda: plain.forwards(live)


class PlainSession:
    """The embedded model as it is, opened with the options that onnxcam uses."""

    def __init__(self, batch: int) -> None:
        from onnxcam.engine.session import Session

        self._session = Session(model().read_bytes(), ["cpu"])
        self._batch = batch
        self._images = np.random.default_rng(0).standard_normal((batch, 3, 224, 224)).astype(np.float32)

    def forwards(self, count: int) -> None:
        for done in range(0, count, self._batch):
            self._session.run(["logits"], {"images": self._images[: min(self._batch, count - done)]})


def pytorch_grad_cam(image: np.ndarray) -> Callable[[], object] | None:
    """pytorch-grad-cam's ScoreCAM at its defaults on the same weights; None if it cannot be imported."""
    try:
        import torch

        _stand_in_for_torchvision()
        from build_models import module
        from pytorch_grad_cam import ScoreCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        print(f"pytorch-grad-cam left out: {error}", file=sys.stderr)
        return None
    torch.set_num_threads(2)
    network = module()
    cam = ScoreCAM(model=torch.nn.Sequential(_Features(network), _Head(network)), target_layers=[])
    return None if cam is None else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.parse_args()


if __name__ == "__main__":
    main()
