"""Probabilities that several operators join or average: the right probability, and the map of the logit behind it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import filled

from onnxcam import Explainer, Preset
from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.types import NoteCode

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
IMAGE = ((PHOTOGRAPH / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
BODY = """<ir_version: 8, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>
net (float[{batch},3,16,12] x) => ({outputs})
<float[6,3,3,3] w, float[6,1] u, float[6,1] u2, float[6,5] v, float[6,5] v2, float[1] bias = {{{bias}}},
 float one = {{1.0}}, float two = {{2.0}}, float half = {{0.5}}, float zero = {{0.0}}, float[1,2] turn = {{-1.0, 1.0}},
 float[2] shift = {{1.0, 0.0}}, int64[1] at = {{1}}, int64[1] last = {{2}}, float low = {{0.0000001}},
 float high = {{0.9999999}}, int64[4] pads = {{0,1,0,0}}, int64[4] pairs = {{1,0,0,0}}, int64[2] two_columns = {{-1, 2}}, int64[2] pair = {{-1, 2}}, int64[2] col = {{-1, 1}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  r = MatMul (p, u)
  z = Add (r, bias)
  {end}
}}"""
S = "q = Sigmoid (z) n = Sub (one, q) "
JOINED = {
    "concat": ("float[N,2] y", S + "y = Concat <axis=1> (n, q)"),
    "last axis": ("float[N,2] y", S + "y = Concat <axis=-1> (n, q)"),
    "positive first": ("float[N,2] y", S + "y = Concat <axis=1> (q, n)"),
    "stack of (N)": ("float[N,2] y", "k = Squeeze (z, at) q = Sigmoid (k) n = Sub (one, q) a = Unsqueeze (n, at) b = Unsqueeze (q, at) y = Concat <axis=1> (a, b)"),
    "stack of (N,1)": ("float[N,2] y", S + "a = Unsqueeze (n, last) b = Unsqueeze (q, last) t = Concat <axis=2> (a, b) y = Reshape (t, pair)"),
    "negated and added": ("float[N,2] y", "q = Sigmoid (z) m = Neg (q) n = Add (m, one) y = Concat <axis=1> (n, q)"),
    "product with (-1, 1)": ("float[N,2] y", "q = Sigmoid (z) m = Mul (q, turn) y = Add (m, shift)"),
    "sigmoid written out": ("float[N,2] y", "m = Neg (z) e = Exp (m) s = Add (one, e) q = Div (one, s) n = Sub (one, q) y = Concat <axis=1> (n, q)"),
    "half precision": ("float16[N,2] y", S + "h = Cast <to=10> (q) k = Cast <to=10> (n) y = Concat <axis=1> (k, h)"),
    "softmax over a zero": ("float[N,2] y", "o = Mul (z, zero) s = Concat <axis=1> (o, z) y = Softmax <axis=1> (s)"),
    "softmax over a filled zero": ("float[N,2] y", "h = Shape (z) o = ConstantOfShape (h) s = Concat <axis=1> (o, z) y = Softmax <axis=-1> (s)"),
    "softmax over a pad": ("float[N,2] y", "s = Pad (z, pads) y = Softmax <axis=1> (s)"),
    "softmax over a pad as PyTorch writes it": ("float[N,2] y", "h = Reshape (pairs, two_columns) b = Constant <value_ints=[-1]> () e = Constant <value_ints=[-9223372036854775807]> () o = Constant <value_ints=[0]> () i = Slice (h, b, e, o, b) t = Transpose <perm=[1,0]> (i) k = Reshape (t, b) s = Pad (z, k) y = Softmax <axis=1> (s)"),
    "clipped": ("float[N,1] y", "q = Sigmoid (z) y = Clip (q, low, high)"),
    "label and probabilities": ("float[N,2] y, int64[N] i", S + "y = Concat <axis=1> (n, q) i = ArgMax <axis=1, keepdims=0> (y)"),
    "label alone": ("int64[N] i", S + "y = Concat <axis=1> (n, q) i = ArgMax <axis=1, keepdims=0> (y)"),
}  # fmt: skip


def network(end: str, outputs: str, bias: float = 0.0, batch: str = "N", opset: int = 17) -> onnx.ModelProto:
    if batch != "N":
        outputs = outputs.replace("[N", f"[{batch}")
    return filled(BODY.format(outputs=outputs, end=end, bias=bias, batch=batch, opset=opset))


def answer(model: onnx.ModelProto) -> np.ndarray:
    """The first output of the file itself."""
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE})[0], np.float64)


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("bias", [-3.0, 3.0])
@pytest.mark.parametrize("name", JOINED)
def test_two_columns_of_one_sigmoid_are_explained_by_its_logit(name: str, bias: float, batch: str) -> None:
    outputs, end = JOINED[name]
    model = network(end, outputs, bias, batch)
    plain = network("y = Identity (z)", "float[N,1] y", bias, batch)
    flip = name == "positive first"
    z = answer(plain).item()
    with Explainer(model, "grad-cam", preset=PLAIN) as joined, Explainer(plain, "grad-cam", preset=PLAIN) as one:
        top = joined(PHOTOGRAPH)
        for side in (0, 1):
            saliency, expected = joined(PHOTOGRAPH, side), one(PHOTOGRAPH, 1 - side if flip else side)
            assert saliency.target.probability == pytest.approx(expected.target.probability, rel=1e-5)
            assert saliency.target.logit == pytest.approx(expected.target.logit, rel=1e-5)
            np.testing.assert_allclose(saliency.map, expected.map, atol=1e-5)
        assert (joined.anatomy.logits.activation, joined.anatomy.logits.classes) == ("sigmoid", 2)
        assert NoteCode.ALREADY_PROBABILITIES not in [n.code for n in top.provenance.notes]
        assert joined.batching.reason.endswith("verified")
    assert top.target.index == int(z > 0) ^ flip
    assert top.target.probability == pytest.approx(1 / (1 + np.exp(-abs(z))), rel=1e-5)
    if "float[N,2]" in outputs:
        assert answer(model)[0, top.target.index] == pytest.approx(
            top.target.probability, rel=1e-3 if "16" in outputs else 1e-5
        )


def test_a_saturated_probability_still_has_the_map_of_its_logit() -> None:
    """1 - p and p are 0 and 1 in float32 here, and the gradient of p is zero."""
    outputs, end = JOINED["concat"]
    with Explainer(network(end, outputs, 60.0), "grad-cam", preset=PLAIN) as explainer:
        assert explainer(PHOTOGRAPH).map.max() == 1


M = "a = MatMul (p, v) s = Softmax <axis=1> (a) b = MatMul (p, v2) t = Softmax <axis=1> (b) "
AVERAGED = {
    "mean of two": M + "y = Mean (s, t)",
    "half of the sum": M + "d = Add (s, t) y = Div (d, two)",
    "weighted": M + "d = Mul (s, half) e = Mul (t, half) y = Add (d, e)",
    "mean of a stack": M + "d = Unsqueeze (s, at) e = Unsqueeze (t, at) k = Concat <axis=1> (d, e) y = ReduceMean <axes=[1], keepdims=0> (k)",
    "product, made to add up to one": M + "d = Mul (s, t) e = ReduceSum (d, at) y = Div (d, e)",
    "clipped": M + "y = Clip (s, low, high)",
}  # fmt: skip


@pytest.mark.parametrize("name", AVERAGED)
@pytest.mark.parametrize("method", ["grad-cam", "score-cam"])
def test_averaged_probabilities_are_not_put_through_a_softmax_again(name: str, method: str) -> None:
    model = network(AVERAGED[name], "float[N,5] y")
    expected = answer(model)[0]
    with Explainer(model, method, preset=PLAIN) as explainer:
        scored = [s.target for s in explainer.explain(PHOTOGRAPH, range(5))]
        top = explainer(PHOTOGRAPH)
    np.testing.assert_allclose([t.probability for t in scored], expected, rtol=1e-4)
    assert top.target.index == expected.argmax()
    assert NoteCode.ALREADY_PROBABILITIES not in [n.code for n in top.provenance.notes]


E2 = "z2 = MatMul (p, u2) q = Sigmoid (z) q2 = Sigmoid (z2) "


@pytest.mark.parametrize("bias", [-1.0, 1.0])
@pytest.mark.parametrize(
    "end", [E2 + "y = Mean (q, q2)", E2 + "d = Add (q, q2) y = Mul (d, half)", "y = HardSigmoid (z)"]
)
def test_the_side_of_an_averaged_probability_is_decided_at_a_half(end: str, bias: float) -> None:
    model = network(end, "float[N,1] y", bias)
    p = answer(model).item()
    with Explainer(model, "score-cam", preset=PLAIN) as explainer:
        top, no, yes = (s.target for s in explainer.explain(PHOTOGRAPH, ["top1", 0, 1]))
    assert top.side == ("positive" if p > 0.5 else "negative")
    assert [no.probability, yes.probability] == pytest.approx([1 - p, p], abs=1e-5)


def test_sigmoids_of_several_heads_are_joined_as_labels_of_their_own() -> None:
    end = "q = Sigmoid (z) z2 = MatMul (p, u2) q2 = Sigmoid (z2) z3 = MatMul (p, v) q3 = Sigmoid (z3) y = Concat <axis=1> (q, q2, q3)"
    model = network(end, "float[N,7] y")
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        scored = [s.target for s in explainer.explain(PHOTOGRAPH, range(7))]
        assert explainer.anatomy.logits.activation == "sigmoid"
    np.testing.assert_allclose([t.probability for t in scored], answer(model)[0], rtol=1e-4)


MAPS = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,{channels},{size}] y)
<float[6,3,3,3] w, float[1,6,1,1] v, float[1,6,1,1] v2, float one = {{1.0}}, float half = {{0.5}}, float[4] up = {{1.0, 1.0, 2.0, 2.0}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Tanh (c)
  z = Conv <kernel_shape=[1,1]> (f, v)
  {end}
}}"""
CLASS_MAPS = {
    "complement": (2, "8,6", S + "y = Concat <axis=1> (n, q)"),
    "enlarged behind the sigmoid": (1, "16,12", "q = Sigmoid (z) y = Resize <mode=\"linear\"> (q, , up)"),
    "mean of two": (1, "8,6", "z2 = Conv <kernel_shape=[1,1]> (f, v2) q = Sigmoid (z) q2 = Sigmoid (z2) y = Mean (q, q2)"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_a_map_of_probabilities_is_positive_above_a_half(name: str) -> None:
    channels, size, end = CLASS_MAPS[name]
    model = filled(MAPS.format(channels=channels, size=size, end=end))
    p = answer(model)[0, -1]
    assert 0 < (p > 0.5).mean() < 1
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        assert explainer.anatomy.logits.kind is Kind.REGION
        no, yes = (s.target for s in explainer.explain(PHOTOGRAPH, [0, 1]))
    assert yes.probability == pytest.approx(p[p > 0.5].mean(), rel=1e-4)
    assert no.probability == pytest.approx(1 - p[p <= 0.5].mean(), rel=1e-4)
