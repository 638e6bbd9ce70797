"""The benchmark of evaluations: it counts what goes through the model, and its values are those of separate calls."""

import argparse
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from programs import tool
from small_models import CLASSIFIER, filled


def test_passes_and_values_of_both_ways_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools" / "benchmarks")
    benchmark = tool("benchmarks/evaluate")
    onnx.save(filled(CLASSIFIER), tmp_path / "tiny.onnx")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    arguments = argparse.Namespace(
        methods="grad-cam,eigen-cam", model=tmp_path / "tiny.onnx", providers="cpu", rounds=1
    )
    metrics = "average-drop,average-gain,sparseness,insertion"
    *_, passes, difference = benchmark.compared(arguments, metrics, [tmp_path / "a.png"])
    curve = len(range(0, 16 * 12, 7)) + 1  # the default step is a 28th of 16 x 12 pixels, 7
    explained = 1  # one run answers, and gives Grad-CAM its features and gradient
    here = explained + 1 + 2 + (2 * (curve - 2) + 1)  # the whole picture, the masked ones; the blurred one is shared
    apart = (
        explained + 1 + 2 * (4 * (1 + 1) + 2 + curve)
    )  # measure() runs the picture, and looks whether it is the same
    assert passes["note"] == f"{here} / {apart} of one picture"
    assert difference["met"]
