"""`--layer` given several times fuses maps, and every command says what it does with several."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import onnxcam_here
from small_models import ENSEMBLE, filled

from onnxcam import Explainer, grad_cam

IMAGE = np.random.default_rng(1).standard_normal((3, 16, 12)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(filled(ENSEMBLE), tmp_path / "two.onnx")
    np.save(tmp_path / "x.npy", IMAGE)
    return tmp_path


def test_explain_fuses_the_layers_and_says_so(folder: Path) -> None:
    done = onnxcam_here("explain", "two.onnx", "x.npy", "-m", "grad-cam", "--layer", "f", "--layer", "g", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "layer         f (8 maps of 4x3)" in done.stdout
    assert "layer         g (6 maps of 8x6)" in done.stdout
    assert "fused: the mean of the 2 maps" in done.stdout


def test_the_file_and_the_record_are_those_of_python(folder: Path) -> None:
    words = ("-m", "grad-cam", "--layer", "f", "--layer", "g", "--target", "2", "--format", "npy,json", "--json")
    done = onnxcam_here("explain", "two.onnx", "x.npy", *words, cwd=folder)
    (values,) = json.loads(done.stdout)
    with Explainer(str(folder / "two.onnx"), grad_cam(), layer=["f", "g"]) as explainer:
        saliency = explainer(IMAGE, 2)
    (npy,) = [o for o in values["outputs"] if o.endswith(".npy")]
    np.testing.assert_allclose(np.load(folder / npy), saliency.map, atol=1e-6)
    assert [layer["tensor"] for layer in values["layer"]["fused"]] == ["f", "g"]


@pytest.mark.slow
def test_inspect_lists_all_maps_that_feed_the_score_and_takes_one_layer(folder: Path) -> None:
    done = onnxcam_here("inspect", "two.onnx", cwd=folder)
    assert "feeds score g  1x6x8x6 NCHW" in done.stdout
    assert "feeds score f  1x8x4x3 NCHW" in done.stdout
    branches = json.loads(onnxcam_here("inspect", "two.onnx", "--json", cwd=folder).stdout)["branches"]
    assert [(b["tensor"], b["shape"]) for b in branches] == [("g", [1, 6, 8, 6]), ("f", [1, 8, 4, 3])]
    for command in ("inspect", "rewrite"):
        refused = onnxcam_here(command, "two.onnx", "--layer", "f", "--layer", "g", cwd=folder)
        assert refused.returncode == 1
        assert "give one --layer" in refused.stderr


def test_a_method_without_layers_refuses_several(folder: Path) -> None:
    done = onnxcam_here("explain", "two.onnx", "x.npy", "-m", "rise", "--layer", "f", "--layer", "g", cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "rise reads no layer" in done.stderr
