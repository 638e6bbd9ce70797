"""End-to-end detectors as PyTorch exports them: the Grad-CAM of a detection is autograd's on its candidate's score."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.types import NoteCode

pytestmark = pytest.mark.torch

EVERY = (
    "TopKTwice",
    "TopKFlat",
    "Suppressed",
    "SuppressedPerClass",
    "PerLevel",
    "Peaks",
    "Queries",
    "QueriesChosen",
    "Proposed",
)
SUPPRESSING = {"Suppressed", "SuppressedPerClass", "Proposed"}
"""Exported by TorchScript alone, which has a symbolic function for NonMaxSuppression."""


SCRIPT = [(name, False, 17, dynamic) for name in EVERY for dynamic in (False, True)]
DYNAMO = [(name, True, 18, False) for name in EVERY if name not in SUPPRESSING]


@pytest.mark.parametrize(("name", "dynamo", "opset", "dynamic"), SCRIPT + DYNAMO)
def test_grad_cam_of_the_best_detection_is_autograds(
    name: str, dynamo: bool, opset: int, dynamic: bool, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    import torch_selections as t

    torch.set_num_threads(1)
    model: Any = t.detector(name)
    t.export(model, tmp_path / "m.onnx", t.OUTPUTS[name], opset=opset, dynamo=dynamo, dynamic=dynamic)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    score, maps = t.best_candidate(model, x)
    with Explainer(tmp_path / "m.onnx", "grad-cam", providers=["cpu"], preset="raw", cache=False) as explainer:
        (saliency,) = explainer.explain(x[0].numpy())
    value = saliency.target.logit
    assert value == pytest.approx(score, abs=1e-4)
    expected = maps[saliency.raw.shape]
    assert np.corrcoef(saliency.raw.reshape(-1), expected.reshape(-1))[0, 1] >= 0.999
    followed = NoteCode.FOLLOWED in {note.code for note in saliency.provenance.notes}
    assert followed == name.startswith(("Queries", "Proposed"))
