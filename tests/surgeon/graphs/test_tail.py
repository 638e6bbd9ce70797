"""The tail of a model, against the entire model and against the same part cut out by onnx's extractor."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import CLASSIFIER, PIXELS, filled, network_over

from onnxcam import Element, Explainer, Method, Region
from onnxcam.methods.maps import Outcome
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.analysis.factors import extra_tokens, tokens
from onnxcam.types import BatchMode, Score

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
SIGNATURE = "net (float[N,3,16,12] x) => (float[N,5] logits)\n"
BODY = """
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  r = Relu (c)
"""
WEIGHTS = "float[8,3,3,3] w, float[8,5] v"
CHANNELS_LAST = f"""{HEAD}{SIGNATURE}<{WEIGHTS}>{{{BODY}
  f = Transpose <perm=[0,2,3,1]> (r)
  t = Tanh (f)
  p = ReduceMean <axes=[1,2], keepdims=0> (t)
  logits = MatMul (p, v)
}}"""
TOKENS = f"""{HEAD}{SIGNATURE}<float[8,3,4,4] w, float[1,1,8] first, float[1,13,8] places, float[8,8] q, float[8,8] k,
  float[8,5] v, int64[3] s = {{0, 8, 12}}, int64[2] one = {{1, 8}}, int64 top = {{0}}>
{{
  c = Conv <kernel_shape=[4,4], strides=[4,4]> (x, w)
  flat = Reshape (c, s)
  patches = Transpose <perm=[0,2,1]> (flat)
  n = Shape <start=0, end=1> (x)
  several = Concat <axis=0> (n, one)
  class = Expand (first, several)
  joined = Concat <axis=1> (class, patches)
  f = Add (joined, places)
  queries = MatMul (f, q)
  keys = MatMul (f, k)
  turned = Transpose <perm=[0,2,1]> (keys)
  dots = MatMul (queries, turned)
  soft = Softmax <axis=2> (dots)
  mixed = MatMul (soft, f)
  chosen = Gather <axis=1> (mixed, top)
  logits = MatMul (chosen, v)
}}"""
"""A class token in front of twelve patch tokens that it attends to: the tail reads both."""
TOKENS_LAST = f"""{HEAD}{SIGNATURE}<{WEIGHTS}, int64[3] s = {{0, 8, 12}}>{{{BODY}
  f = Reshape (r, s)
  t = Tanh (f)
  p = ReduceMean <axes=[2], keepdims=0> (t)
  logits = MatMul (p, v)
}}"""
EXTRA_INPUTS = f"""{HEAD}net (float[N,3,16,12] x, float[N,4] facts, float[1] warmth) => (float[N,5] logits)
<{WEIGHTS}, float[4,5] u>{{{BODY}
  f = Mul (r, warmth)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  from_image = MatMul (p, v)
  from_facts = MatMul (facts, u)
  both = Add (from_image, from_facts)
  logits = Mul (both, warmth)
}}"""
PAST = f"""{HEAD}{SIGNATURE}<{WEIGHTS}, float[3,5] u>{{{BODY}
  f = Tanh (r)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  from_features = MatMul (p, v)
  colours = ReduceMean <axes=[2,3], keepdims=0> (x)
  from_colours = MatMul (colours, u)
  logits = Add (from_features, from_colours)
}}"""
HALF = f"""{HEAD}{SIGNATURE}<{WEIGHTS}>{{{BODY}
  f = Cast <to=10> (r)
  t = Cast <to=1> (f)
  p = ReduceMean <axes=[2,3], keepdims=0> (t)
  logits = MatMul (p, v)
}}"""
INTEGERS = f"""{HEAD}{SIGNATURE}<{WEIGHTS}, float step = {{0.05}}, uint8 zero = {{20}}>{{{BODY}
  f = QuantizeLinear (r, step, zero)
  t = DequantizeLinear (f, step, zero)
  p = ReduceMean <axes=[2,3], keepdims=0> (t)
  logits = MatMul (p, v)
}}"""
SIGMOID = CHANNELS_LAST.replace("=> (float[N,5] logits)", "=> (float[N,5] out)").replace("(p, v)\n", "(p, v)\n  out = Sigmoid (logits)\n")  # fmt: skip
SEGMENTS = f"""{HEAD}net (float[N,3,16,12] x) => (float[N,5,4,3] logits)
<float[8,3,3,3] w, float[5,8,3,3] u>{{{BODY}
  f = Tanh (r)
  logits = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (f, u)
}}"""
SCALED_BY_BATCH = f"""{HEAD}{SIGNATURE}<{WEIGHTS}>{{
  b, s, z = DynamicQuantizeLinear (x)
  a = DequantizeLinear (b, s, z)
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (a, w)
  f = Relu (c)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  logits = MatMul (p, v)
}}"""
"""The samples of a batch influence each other, so the model stays fixed to the batch that it was exported with."""


@dataclass(frozen=True)
class Case:
    text: str
    batch: str = "N"
    mode: BatchMode = BatchMode.DYNAMIC
    layout: str = "NCHW"
    tolerance: float = 1e-5
    layer: str = "f"
    inputs: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, ...] = (16, 12)


CASES = {
    "channels first": Case(CLASSIFIER, layer="auto"),
    "channels last": Case(CHANNELS_LAST, layout="NHWC"),
    "a class token": Case(TOKENS, layout="NTC (T=4x3)"),
    "tokens behind channels": Case(TOKENS_LAST, layout="NCT (T=4x3)"),
    "extra inputs": Case(EXTRA_INPUTS, inputs={"facts": np.array([1.0, -2.0, 0.5, 3.0]), "warmth": 1.5}),
    "past the features": Case(PAST),
    "bytes, channels last": Case(PIXELS, layer="c"),
    "half precision": Case(HALF, tolerance=2e-3),
    "integers": Case(INTEGERS),
    "a signal": Case(network_over((16,), channels=3, batch="N"), layout="NCW", layer="auto", size=(16,)),
    "a volume": Case(network_over((6, 8, 4), channels=3, batch="N"), layout="NCDHW", layer="auto", size=(6, 8, 4)),
    "a batch of one": Case(CLASSIFIER, batch="1", mode=BatchMode.REWRITTEN, layer="auto"),
    "a class token in a batch of one": Case(TOKENS, batch="1", mode=BatchMode.REWRITTEN, layout="NTC (T=4x3)"),
    "extra inputs in a batch of one": Case(EXTRA_INPUTS, "1", BatchMode.REWRITTEN, inputs={"facts": np.ones(4), "warmth": 0.5}),
    "bound to a batch of one": Case(SCALED_BY_BATCH, batch="1", mode=BatchMode.LOOPED),
    "bound to a batch of four": Case(SCALED_BY_BATCH, batch="4", mode=BatchMode.LOOPED),
}  # fmt: skip


def image_of(case: Case) -> np.ndarray:
    rng = np.random.default_rng(4)
    if case.text is PIXELS:
        return rng.integers(0, 256, (3, 16, 12)).astype(np.float32)
    return rng.standard_normal((3, *case.size)).astype(np.float32)


def proto_of(case: Case) -> onnx.ModelProto:
    return filled(case.text.replace("[N,", f"[{case.batch},"))


def probe_of(proto: onnx.ModelProto, case: Case, targets: tuple[Any, ...] = (3, 0)) -> tuple[Any, Explainer]:
    """The probe that a method receives, and the explainer, which is still open."""
    probes: list[Any] = []

    def explain(probe: Any) -> list[Outcome]:
        probes.append(probe)
        return [Outcome(np.zeros(probe.size, np.float32), np.zeros(probe.size, np.float32))] * probe.targets

    explainer = Explainer(
        proto, Method("looks", "none", "none", explain), providers=["cpu"], layer=case.layer, inputs=case.inputs
    )
    explainer.explain(image_of(case), targets)
    return probes[0], explainer


def inputs_of(proto: onnx.ModelProto, case: Case, count: int) -> dict[str, np.ndarray]:
    """Feeds for the original model: `count` copies of the image."""
    x = image_of(case)
    x = x.transpose(1, 2, 0).astype(np.uint8) if case.text is PIXELS else x
    feeds = {"x": np.repeat(x[None], count, 0)}
    if case.inputs:
        feeds["facts"] = np.repeat(np.float32(case.inputs["facts"])[None], count, 0)
        feeds["warmth"] = np.float32([case.inputs["warmth"]])
    return feeds


def computed(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], tensors: list[str]) -> list[np.ndarray]:
    model = onnx.shape_inference.infer_shapes(proto)
    session = ort.InferenceSession(
        onnx.utils.Extractor(model).extract_model(list(feeds), tensors).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    return session.run(tensors, {i.name: feeds[i.name] for i in session.get_inputs()})


@pytest.mark.parametrize("name", CASES)
def test_unchanged_features_give_the_logits_of_the_model(name: str) -> None:
    case = CASES[name]
    proto = proto_of(case)
    count = 1 if case.batch == "N" else int(case.batch)
    (logits,) = computed(proto, inputs_of(proto, case, count), ["logits"])
    probe, explainer = probe_of(proto, case)
    assert explainer.anatomy.features.layout == case.layout
    assert explainer.batching.mode is case.mode
    np.testing.assert_allclose(probe.tail(probe.features[None], Score.LOGIT), logits[:1, [3, 0]], atol=case.tolerance * np.abs(logits).max())  # fmt: skip
    for score in Score:
        scores = probe.tail(np.repeat(probe.features[None], 3, 0), score)
        assert scores.shape == (3, 2)
        tolerance = case.tolerance * (np.abs(logits).max() if score is Score.LOGIT else 1)
        np.testing.assert_allclose(scores, np.tile(probe.original(score), (3, 1)), atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_changed_features_give_the_logits_of_the_part_behind_them(name: str) -> None:
    """Seven sets of features, against onnx's extractor; a class token keeps the value that it has for the image."""
    case = CASES[name]
    proto = proto_of(case)
    probe, explainer = probe_of(proto, case)
    features = explainer.anatomy.features
    rng = np.random.default_rng(8)
    changed = (probe.features * rng.uniform(0, 2, (7, *probe.features.shape))).astype(np.float32)
    count = 1 if case.batch == "N" else int(case.batch)
    feeds = inputs_of(proto, case, count)
    (original,) = computed(proto, feeds, [features.tensor])
    expected = []
    for maps in changed:
        tensor = np.repeat(in_layout(features, maps, original[:1]), count, 0)
        (logits,) = computed(proto, {**feeds, features.tensor: quantised(tensor, original.dtype)}, ["logits"])
        expected.append(logits[0, [3, 0]])
    assert np.ptp(expected, axis=0).min() > 1e-2
    np.testing.assert_allclose(probe.tail(changed, Score.LOGIT), expected, atol=10 * case.tolerance)


def quantised(tensor: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return np.clip(np.rint(tensor / 0.05) + 20, 0, 255).astype(dtype) if dtype == np.uint8 else tensor.astype(dtype)


def in_layout(features: FeatureTensor, maps: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Maps (K,h,w) in the axis order of the feature tensor; other tokens as in `original`."""
    if features.layout == "NHWC":
        return np.moveaxis(maps, 0, -1)[None]
    if features.layout.startswith("NTC"):
        return np.concatenate([original[:, :1], maps.reshape(len(maps), -1).T[None]], axis=1)
    return maps.reshape(1, *original.shape[1:])


@pytest.mark.parametrize(("text", "activation"), [(CHANNELS_LAST, "softmax"), (SIGMOID, "sigmoid")])
def test_the_probability_is_the_activation_of_the_head(text: str, activation: str) -> None:
    probe, _ = probe_of(filled(text), Case(text), targets=(0, 1, 2, 3, 4))
    changed = np.stack([probe.features, probe.features / 2, probe.features * 0])
    z = probe.tail(changed, Score.LOGIT).astype(np.float64)
    expected = np.exp(z) / np.exp(z).sum(1, keepdims=True) if activation == "softmax" else 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(probe.tail(changed, Score.PROBABILITY), expected, atol=1e-6)


def test_regions_and_elements_are_scored_behind_the_features_too() -> None:
    proto = filled(SEGMENTS)
    (segments,) = computed(proto, inputs_of(proto, Case(SEGMENTS), 1), ["logits"])
    predicted = segments[0].argmax(axis=0)
    common = int(np.bincount(predicted.ravel()).argmax())
    # The cells' centres lie at 2, 6 and 10 of 12 pixels, so that the box holds the first two columns.
    for target in (Region(2, (0, 0, 7, 16)), Region(common), Element((3, 2, 1))):
        probe, _ = probe_of(proto, Case(SEGMENTS), (target,))
        for share in (1.0, 0.5):
            features = probe.features[None] * np.float32(share)
            (logits,) = computed(proto, {"f": features}, ["logits"])
            if isinstance(target, Element):
                expected = logits[0, 3, 2, 1]
            elif target.where is not None:
                expected = logits[0, 2, :, :2].mean()
            else:
                expected = logits[0, common][predicted == common].mean()
            np.testing.assert_allclose(probe.tail(features, Score.LOGIT), [[expected]], atol=1e-5)


AXES: list[tuple[tuple[Any, ...], tuple[int, ...]]] = [
    (("N", "C", "H", "W"), (1, 8, 4, 3)),
    (("N", "H", "W", "C"), (1, 4, 3, 8)),
    (("N", tokens((4, 3), 1), "C"), (1, 13, 8)),
    (("N", tokens((4, 3), 2, 1), "C"), (1, 15, 8)),
    (("N", "C", tokens((4, 3))), (1, 8, 12)),
    (("N", None, "H", "W", "C"), (1, 2, 4, 3, 8)),
    (("N", "C", "W"), (1, 8, 5)),
    (("N", "D", "C", "H", "W"), (1, 2, 8, 4, 3)),
]


@pytest.mark.parametrize(("axes", "shape"), AXES)
def test_from_channels_is_the_inverse_of_to_channels(axes: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    features = FeatureTensor("f", shape, axes, "", "")
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_array_equal(features.from_channels(features.to_channels(tensor), tensor), tensor)
    maps = np.random.default_rng(1).standard_normal((6, features.channels, *features.grid)).astype(np.float32)
    back = features.from_channels(maps, tensor)
    assert back.shape == (6, *shape[1:])
    np.testing.assert_array_equal(features.to_channels(back), maps)
    token = next((i for i, a in enumerate(axes) if extra_tokens(a) is not None), None)
    if token is not None:
        before = axes[token].before
        kept = [i for i in range(shape[token]) if not before <= i < before + 12]
        for sample in back:
            np.testing.assert_array_equal(sample.take(kept, token - 1), tensor[0].take(kept, token - 1))
