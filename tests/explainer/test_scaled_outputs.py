"""Probabilities in another form, and numbers that look like classes: per cent, bytes, distances, expected values."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import filled

from onnxcam import Element, Explainer, Preset
from onnxcam.errors import OnnxCamError

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
IMAGE = ((PHOTOGRAPH / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype(np.float32)
BODY = """<ir_version: 8, opset_import: ["" : 17]>
net (float[{batch},3,16,12] x) => ({outputs})
<float[6,3,3,3] w, float[6,5] v, float[6,1] u, float[5] ages, int64[1] at = {{1}}, float half = {{0.5}}, float one = {{1.0}},
 float percent = {{100.0}}, float byte = {{255.0}}, float range = {{30.0}}, int64 unsure = {{-1}}, float low = {{0.1}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  z = MatMul (p, v)
  r = MatMul (p, u)
  {end}
}}"""
FIVE, ONE = "s = Softmax <axis=1> (z) ", "q = Sigmoid (r) "
CLASSES = {
    "per cent": ("float[N,5] y", FIVE + "y = Mul (s, percent)"),
    "whole per cent": ("float[N,5] y", FIVE + "t = Mul (s, percent) y = Round (t)"),
    "bytes": ("uint8[N,5] y", FIVE + "t = Mul (s, byte) y = Cast <to=2> (t)"),
    "negated logarithm": ("float[N,5] y", "t = LogSoftmax <axis=1> (z) y = Neg (t)"),
    "classes first": ("float[5,N] y", "y = Transpose <perm=[1,0]> (z)"),
    "softmax, classes first": ("float[5,N] y", FIVE + "y = Transpose <perm=[1,0]> (s)"),
    "label unless unsure": ("int64[N] y", FIVE + "m = ReduceMax <axes=[1], keepdims=0> (s) i = ArgMax <axis=1, keepdims=0> (s) k = Greater (m, low) y = Where (k, i, unsure)"),
}  # fmt: skip
SINGLE = {
    "per cent": ("float[N,1] y", ONE + "y = Mul (q, percent)"),
    "sign": ("float[N,1] y", "y = Sign (r)"),
    "tanh from 0 to 1": ("float[N,1] y", "h = Mul (r, half) t = Tanh (h) a = Add (t, one) y = Mul (a, half)"),
}
NUMBERS = {
    "a sigmoid in another range": ("float[N,1] y", ONE + "y = Mul (q, range)"),
    "an expected value": ("float[N] y", FIVE + "e = Mul (s, ages) y = ReduceSum <keepdims=0> (e, at)"),
    "a sum of sigmoids": ("float[N] y", "q = Sigmoid (z) y = ReduceSum <keepdims=0> (q, at)"),
}


def network(case: tuple[str, str], batch: str = "N") -> onnx.ModelProto:
    outputs, end = case
    return filled(BODY.format(outputs=outputs.replace("N", batch), end=end, batch=batch))


def logits(name: str) -> np.ndarray:
    """z or r of the file itself."""
    shape = {"z": "float[N,5] z", "r": "float[N,1] r"}[name]
    return np.asarray(ort.InferenceSession(network((shape, "")).SerializeToString()).run(None, {"x": IMAGE})[0][0])


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("name", CLASSES)
def test_classes_in_another_form_are_explained_by_their_logits(name: str, batch: str) -> None:
    z = logits("z").astype(np.float64)
    plain = network(("float[N,5] z", ""), batch)
    with Explainer(network(CLASSES[name], batch), "grad-cam", preset=PLAIN) as explainer:
        saliencies, top = explainer.explain(PHOTOGRAPH, range(5)), explainer(PHOTOGRAPH)
        assert explainer.batching.reason.endswith("verified")
    with Explainer(plain, "grad-cam", preset=PLAIN) as explainer:
        expected = explainer.explain(PHOTOGRAPH, range(5))
    np.testing.assert_allclose([s.target.probability for s in saliencies], np.exp(z) / np.exp(z).sum(), rtol=1e-4)
    assert top.target.index == z.argmax()
    for saliency, same in zip(saliencies, expected, strict=True):
        np.testing.assert_allclose(saliency.map, same.map, atol=1e-5)


@pytest.mark.parametrize("name", SINGLE)
def test_one_probability_in_another_form_has_its_sides(name: str) -> None:
    p = 1 / (1 + np.exp(-float(logits("r")[0])))
    with Explainer(network(SINGLE[name]), "score-cam", preset=PLAIN) as explainer:
        no, yes, top = (s.target for s in explainer.explain(PHOTOGRAPH, [0, 1, "top1"]))
    assert [no.probability, yes.probability] == pytest.approx([1 - p, p], abs=1e-5)
    assert top.side == ("positive" if p > 0.5 else "negative")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_made_of_probabilities_is_no_logit(name: str) -> None:
    model = network(NUMBERS[name])
    value = float(np.ravel(ort.InferenceSession(model.SerializeToString()).run(None, {"x": IMAGE})[0])[0])
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        target = explainer(PHOTOGRAPH).target
    assert (target.kind, target.logit) == ("elements", pytest.approx(value, rel=1e-4))


@pytest.mark.parametrize(
    "end", ["a = Mul (z, z) y = Sqrt (a)", "t = Unsqueeze (z, at) y = ReduceL2 <axes=[1], keepdims=0> (t)"]
)
def test_the_largest_distance_is_not_taken_for_the_class(end: str) -> None:
    with Explainer(network(("float[N,5] y", end)), "score-cam", preset=PLAIN) as explainer:
        with pytest.raises(OnnxCamError, match=r"no scores of classes.*--index 0"):
            explainer(PHOTOGRAPH)
        assert explainer(PHOTOGRAPH, Element((2,))).target.kind == "elements"
