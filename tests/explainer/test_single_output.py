"""One output that stands for two classes: the side that is explained, its names, and its map against PyTorch."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from command import onnxcam
from PIL import Image as Pillow
from small_models import Make

from onnxcam import Explainer, Preset, Region
from onnxcam.errors import LabelError, TargetError
from onnxcam.outputs.record import record
from onnxcam.types import NoteCode

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
IMAGE = (PHOTOGRAPH / 255 - 0.5).transpose(2, 0, 1).astype(np.float32) / np.float32(0.25)

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => ({shape} y)
<float[6,3,3,3] w, float[1,6] v, float[1] b, int64[1] at = {{1}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  z = Gemm <transB=1> (p, v, b)
  {end}
}}"""
ENDS = {
    "sigmoid": ("float[N,1]", "y = Sigmoid (z)"),
    "logit": ("float[N,1]", "y = Identity (z)"),
    "squeezed": ("float[N]", "q = Sigmoid (z) y = Squeeze (q, at)"),
    "logit-squeezed": ("float[N]", "y = Squeeze (z, at)"),
    "written-out": ("float[N,1]", "n = Neg (z) e = Exp (n) o = Constant <value_float=1.0> () s = Add (e, o) y = Div (o, s)"),
    "reciprocal": ("float[N,1]", "n = Neg (z) e = Exp (n) o = Constant <value_float=1.0> () s = Add (o, e) y = Reciprocal (s)"),
    "half": ("float16[N,1]", "q = Sigmoid (z) y = Cast <to=10> (q)"),
    "without-axes": ("float", "q = Sigmoid (z) y = Squeeze (q)"),
    "batch-of-four": ("float[4]", "q = Sigmoid (z) y = Squeeze (q, at)"),
    "four-axes": ("float[N,1,1,1]", "s = Constant <value_ints=[-1,1,1,1]> () q = Reshape (z, s) y = Sigmoid (q)"),
}  # fmt: skip
SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[{shape}] y)
<float[6,3,3,3] w, float[1,6,1,1] v, float[1] b, int64[1] at = {{1}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  z = Conv <kernel_shape=[1,1]> (f, v, b)
  {end}
}}"""
MAPS = {
    "channels-first": ("N,1,8,6", "y = Sigmoid (z)"),
    "logits": ("N,1,8,6", "y = Identity (z)"),
    "transposed": ("N,8,6,1", "s = Sigmoid (z) y = Transpose <perm=[0,2,3,1]> (s)"),
    "reshaped": ("N,8,6,1", "s = Sigmoid (z) d = Constant <value_ints=[-1,8,6,1]> () y = Reshape (s, d)"),
    "squeezed": ("N,8,6", "s = Sigmoid (z) y = Squeeze (s, at)"),
    "squeezed-logits": ("N,8,6", "y = Squeeze (z, at)"),
}


def network(make: Make, end: str, bias: float = 0.0) -> onnx.ModelProto:
    """A network with one number, of which the bias is added to that of a picture."""
    shape, nodes = ENDS[end]
    batch = {"without-axes": "1", "batch-of-four": "4"}.get(end, "N")
    model = make(NETWORK.format(shape=shape, end=nodes).replace("float[N,3", f"float[{batch},3"), check=False)
    model.graph.output[0].type.tensor_type.shape.SetInParent()  # text cannot say that there are no axes
    onnx.checker.check_model(model, full_check=True)
    return shifted(model, bias)


def shifted(model: onnx.ModelProto, bias: float) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == "b":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(1, bias, np.float32), "b"))
    return model


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def logit_of(model: onnx.ModelProto) -> float:
    """z by hand: a convolution as a loop, ReLU, mean, and a product."""
    w, padded, maps = weights(model), np.pad(IMAGE, ((0, 0), (1, 1), (1, 1))), np.zeros((6, 8, 6))
    for i in range(8):
        for j in range(6):
            maps[:, i, j] = (w["w"] * padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum((1, 2, 3))
    return float(np.maximum(maps, 0).mean((1, 2)) @ w["v"][0] + w["b"][0])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("bias", [-30.0, 30.0])
def test_the_side_that_the_model_decided_is_explained(make: Make, end: str, bias: float) -> None:
    model, side = network(make, end, bias), int(bias > 0)
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        target = explainer(PHOTOGRAPH).target
        both = [s.target for s in explainer.explain(PHOTOGRAPH, [0, 1, "top1", "rank2", "negative", "Positive"])]
    z = logit_of(model)
    assert (target.index, target.side, target.name) == (side, *[("negative", "positive")[side]] * 2)
    assert [t.index for t in both] == [0, 1, side, 1 - side, 0, 1]
    np.testing.assert_allclose([t.logit for t in both[:2]], [-z, z], rtol=1e-4)
    np.testing.assert_allclose(
        [t.probability for t in both[:2]], [1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], rtol=1e-3
    )
    assert target.probability > 0.5


@pytest.mark.parametrize("end", ["squeezed", "written-out"])
def test_what_precedes_the_sigmoid_is_scored(make: Make, end: str) -> None:
    with Explainer(network(make, end), "grad-cam", preset=PLAIN) as explainer:
        assert (explainer.anatomy.logits.tensor, explainer.anatomy.logits.activation) == ("z", "sigmoid")


@pytest.mark.torch
@pytest.mark.parametrize("end", ["sigmoid", "logit", "squeezed", "written-out"])
@pytest.mark.parametrize("side", [0, 1])
def test_grad_cam_of_a_side_is_that_of_the_logit_or_of_the_negated_logit_in_pytorch(
    make: Make, end: str, side: int
) -> None:
    import torch

    torch.set_num_threads(1)
    model = network(make, end)
    w = {name: torch.tensor(array) for name, array in weights(model).items()}
    features = torch.relu(torch.nn.functional.conv2d(torch.tensor(IMAGE)[None], w["w"], stride=2, padding=1))
    features.requires_grad_()
    z = (features.mean((2, 3)) @ w["v"].T + w["b"])[0, 0]
    (slope,) = torch.autograd.grad(z if side else -z, features)
    raw = (slope.mean((2, 3), keepdim=True) * features).sum(1)[0].detach().numpy()
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        saliency = explainer(PHOTOGRAPH, side)
    assert np.corrcoef(saliency.raw.ravel(), raw.ravel())[0, 1] >= 0.9999
    rectified = torch.nn.functional.interpolate(torch.tensor(np.maximum(raw, 0))[None, None], (16, 12), mode="bilinear")
    assert np.corrcoef(saliency.map.ravel(), rectified.numpy().ravel())[0, 1] >= 0.9999


def two_sided(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with an output of two logits, -z / 2 and z / 2, and their softmax."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    w = weights(model)
    for tensor in twin.graph.initializer:
        if tensor.name in "vb":
            pair = np.concatenate([-w[tensor.name], w[tensor.name]]) / 2
            tensor.CopyFrom(onnx.numpy_helper.from_array(pair.astype(np.float32), tensor.name))
    twin.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    twin.graph.node[-1].CopyFrom(onnx.helper.make_node("Softmax", ["z"], ["y"], axis=1))
    return twin


@pytest.mark.parametrize("method", ["score-cam", "ablation-cam", "layer-cam", "rise"])
@pytest.mark.parametrize("side", [0, 1])
def test_the_map_of_a_side_is_that_of_a_network_with_two_outputs(make: Make, method: str, side: int) -> None:
    model = network(make, "sigmoid")
    with Explainer(model, method, preset=PLAIN) as one, Explainer(two_sided(model), method, preset=PLAIN) as two:
        first, second = one(PHOTOGRAPH, side), two(PHOTOGRAPH, side)
    assert first.target.probability == pytest.approx(second.target.probability, abs=1e-6)
    assert np.corrcoef(first.map.ravel(), second.map.ravel())[0, 1] >= 0.9999


@pytest.mark.parametrize("word", ["spam", "not spam", "positive", "negative", "1"])
def test_the_command_takes_either_side_of_one_label_and_refuses_another_word(
    make: Make, tmp_path: Path, word: str
) -> None:
    onnx.save(network(make, "sigmoid"), tmp_path / "m.onnx")
    Pillow.fromarray(PHOTOGRAPH).save(tmp_path / "p.png")
    (tmp_path / "labels.txt").write_text("spam\n")
    words = ["explain", "m.onnx", "p.png", "-m", "grad-cam", "--preset", "raw", "--labels", "labels.txt", "--json"]
    done = onnxcam(*words, "--target", word, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    side = "negative" if word in ("not spam", "negative") else "positive"
    assert json.loads(done.stdout)[0]["target"]["side"] == side
    assert "no class is called 'ham'" in onnxcam(*words, "--target", "ham", cwd=tmp_path).stdout


@pytest.mark.parametrize(("labels", "names"), [(["ham", "spam"], ("ham", "spam")), (["spam"], ("not spam", "spam"))])
def test_one_label_or_two_name_the_sides(make: Make, labels: list[str], names: tuple[str, str]) -> None:
    with Explainer(network(make, "sigmoid"), "grad-cam", preset=PLAIN, labels=labels) as explainer:
        scored = [s.target for s in explainer.explain(PHOTOGRAPH, [*names, "negative", "positive"])]
        assert [t.index for t in scored] == [0, 1, 0, 1]
        assert [t.name for t in scored[:2]] == [f"{names[0]} (negative)", f"{names[1]} (positive)"]
        with pytest.raises(TargetError, match="0 to 1"):
            explainer(PHOTOGRAPH, 2)
    with pytest.raises(LabelError):
        Explainer(network(make, "sigmoid"), "grad-cam", preset=PLAIN, labels=["a", "b", "c"])


def test_the_record_says_which_side_and_a_result_is_explained_again(make: Make) -> None:
    with Explainer(network(make, "logit"), "grad-cam", preset=PLAIN) as explainer:
        saliency = explainer(PHOTOGRAPH, "negative")
        again = explainer(PHOTOGRAPH, saliency.target)
    assert record(saliency)["target"]["side"] == "negative"
    assert again.target == saliency.target
    np.testing.assert_array_equal(again.map, saliency.map)
    assert NoteCode.SINGLE_OUTPUT in [n.code for n in saliency.provenance.notes]


def test_the_command_line_says_sigmoid_and_which_side(make: Make, tmp_path: Path) -> None:
    onnx.save(network(make, "sigmoid", -30), tmp_path / "net.onnx")
    Pillow.fromarray(PHOTOGRAPH).save(tmp_path / "a.png")
    done = onnxcam("explain", "net.onnx", "a.png", "-m", "grad-cam", cwd=tmp_path)
    assert "class         0 negative, probability 1.0000 (the model's sigmoid)" in done.stdout, done.stderr
    assert "softmax" not in done.stdout
    done = onnxcam("explain", "net.onnx", "a.png", "-m", "grad-cam", "--target", "positive", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["target"]["side"] == "positive"


@pytest.mark.parametrize("end", MAPS)
def test_a_map_of_one_class_is_scored_where_it_is_positive_and_on_both_sides(make: Make, end: str) -> None:
    shape, nodes = MAPS[end]
    model = make(SEGMENTER.format(shape=shape, end=nodes))
    model = shifted(model, 0.0)
    w, padded, z = weights(model), np.pad(IMAGE, ((0, 0), (1, 1), (1, 1))), np.zeros((8, 6))
    for i in range(8):
        for j in range(6):
            window = (w["w"] * padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum((1, 2, 3))
            z[i, j] = np.maximum(window, 0) @ w["v"][0, :, 0, 0]
    assert 0 < (z > 0).mean() < 1
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.features.tensor == "f"
        top, no, box = (
            s.target for s in explainer.explain(PHOTOGRAPH, [None, Region("negative"), Region(0, (0, 0, 6, 8))])
        )
    assert (top.kind, top.side, no.side) == ("region", "positive", "negative")
    np.testing.assert_allclose([top.logit, no.logit], [z[z > 0].mean(), -z[z <= 0].mean()], rtol=1e-4)
    np.testing.assert_allclose(box.logit, -z[:4, :3].mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(no.probability, (1 / (1 + np.exp(z[z <= 0]))).mean(), rtol=1e-4)


def test_a_map_that_is_positive_nowhere_is_explained_on_its_negative_side(make: Make) -> None:
    model = shifted(make(SEGMENTER.format(shape="N,1,8,6", end="y = Sigmoid (z)")), -50)
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        assert explainer(PHOTOGRAPH).target.side == "negative"
        with pytest.raises(TargetError, match="predicted nowhere"):
            explainer(PHOTOGRAPH, "positive")
