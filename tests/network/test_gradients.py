"""Step graphs of small models against slopes of the model itself in float64, for any batch and precision."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator
from small_models import CLASSIFIER, PIXELS, filled, network_over

from onnxcam.errors import UndefinedSaliency
from onnxcam.network.gradient_graphs import noise_feeds, step_graph
from onnxcam.network.opening import OpenedModel, OpenOptions, open_model
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs import masked_score
from onnxcam.surgeon.graphs.score_gradient import GRADIENT, SCORE, Wrt
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Score

NUDGE = 1e-6
ScoreAndGradient = tuple[np.ndarray, np.ndarray]


def opened(proto: onnx.ModelProto) -> OpenedModel:
    model = open_model(read_model(proto), OpenOptions(providers=("cpu",)))
    model.network.close()
    return model


def run_steps(
    model: OpenedModel, score: Score, wrt: Wrt, *, guided: bool = False
) -> Callable[[dict[str, np.ndarray]], ScoreAndGradient]:
    """Opens the step graph in onnxruntime; the result takes feeds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    data = ir.to_bytes(step_graph(model, score, wrt, guided=guided))
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = {v.name for v in session.get_inputs()}

    def run(feeds: dict[str, np.ndarray]) -> ScoreAndGradient:
        score, gradient = session.run([SCORE, GRADIENT], {n: a for n, a in feeds.items() if n in names})
        return score, gradient

    return run


def sample_feeds(model: OpenedModel, count: int) -> dict[str, np.ndarray]:
    """Feeds of `count` different images and maps, each with its own class as target."""
    rng = np.random.default_rng(7)
    feeds = noise_feeds(model, count)
    feeds[masked_score.IMAGE] = rng.standard_normal(feeds[masked_score.IMAGE].shape).astype(np.float32)
    feeds[masked_score.MAPS] = rng.random(feeds[masked_score.MAPS].shape).astype(np.float32)
    feeds[masked_score.TARGETS] = np.arange(count) * 3 % 5
    return feeds


def in_double(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for info in (*copy.graph.input, *copy.graph.output):
        if info.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
            info.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    del copy.graph.value_info[:]
    for node in copy.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) in (
                ("Cast", "to"),
                ("EyeLike", "dtype"),
            ) and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
            if node.op_type == "ConstantOfShape" and attribute.t.data_type == onnx.TensorProto.FLOAT:
                attribute.t.CopyFrom(
                    onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(attribute.t).astype(np.float64))
                )
    return copy


def slope(proto: onnx.ModelProto, x: np.ndarray, u: np.ndarray, target: int, score: Score) -> float:
    """Slope of the unmasked image's score along u."""
    evaluator = ReferenceEvaluator(in_double(proto))

    def score_at(by: float) -> float:
        logits = np.asarray(evaluator.run(None, {"x": x.astype(np.float64) + by * u})[0])[0]
        if score is Score.LOGIT:
            return float(logits[target])
        return float(np.exp(logits[target]) / np.exp(logits).sum())

    return (score_at(NUDGE) - score_at(-NUDGE)) / (2 * NUDGE)


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("text", [CLASSIFIER, network_over((16,), channels=2, batch="N"), network_over((6, 8, 4), channels=1, batch="N"), network_over((16, 12), channels=3, batch="1")], ids=["image", "signal", "volume", "one image"])  # fmt: skip
def test_the_gradient_is_the_slope_of_the_model_itself(text: str, score: Score) -> None:
    proto = filled(text)
    model = opened(proto)
    count = 3
    feeds = sample_feeds(model, count)
    feeds[masked_score.MAPS] = model.network.identity_masks(count)
    _, gradient = run_steps(model, score, Wrt.IMAGE)(feeds)
    rng = np.random.default_rng(1)
    for i in range(count):
        u = rng.standard_normal(gradient[i : i + 1].shape)
        expected = slope(proto, feeds[masked_score.IMAGE][i : i + 1], u, int(feeds[masked_score.TARGETS][i]), score)
        assert float((gradient[i] * u[0]).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("wrt", Wrt)
@pytest.mark.parametrize("batch", ["N", "1"])
def test_the_number_of_samples_does_not_change_a_sample(wrt: Wrt, batch: str) -> None:
    model = opened(filled(network_over((16, 12), channels=3, batch=batch)))
    run = run_steps(model, Score.PROBABILITY, wrt)
    feeds = sample_feeds(model, 5)
    scores, gradients = run(feeds)
    assert len(scores) == len(gradients) == 5
    assert all(np.abs(a - b).max() > 1e-3 * np.abs(a).max() for a, b in pairwise(gradients))
    for first, count in ((0, 1), (4, 1), (1, 2)):
        score, gradient = run({n: a[first : first + count] for n, a in feeds.items()})
        np.testing.assert_allclose(score, scores[first : first + count], rtol=1e-5)
        np.testing.assert_allclose(gradient, gradients[first : first + count], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("wrt", [Wrt.MAPS, Wrt.IMAGE])
def test_the_gradient_is_the_slope_of_the_masked_score(wrt: Wrt, score: Score) -> None:
    """The step graph's own score, in float64, sample by sample."""
    model = opened(filled(CLASSIFIER))
    evaluator = ReferenceEvaluator(in_double(ir.to_proto(step_graph(model, score, wrt))))
    feeds = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in sample_feeds(model, 3).items()}
    moved = masked_score.MAPS if wrt is Wrt.MAPS else masked_score.IMAGE

    def run(by: float, u: np.ndarray) -> list[np.ndarray]:
        inputs = {**feeds, moved: feeds[moved] + by * u}
        return evaluator.run([SCORE, GRADIENT], {n: a for n, a in inputs.items() if n in evaluator.input_names})

    u = np.random.default_rng(2).standard_normal(feeds[moved].shape)
    expected = (run(NUDGE, u)[0] - run(-NUDGE, u)[0]) / (2 * NUDGE)
    np.testing.assert_allclose((run(0, u)[1] * u).sum(axis=(1, 2, 3)), expected, rtol=1e-6, atol=1e-9)


def test_the_gradient_of_the_features_is_that_of_the_layers_after_them() -> None:
    """An average over the 12 cells and a matrix, so it is the class's weights over 12."""
    proto = filled(CLASSIFIER)
    model = opened(proto)
    feeds = sample_feeds(model, 2)
    _, gradient = run_steps(model, Score.LOGIT, Wrt.FEATURES)(feeds)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}["w3"]
    expected = np.broadcast_to(weights[feeds[masked_score.TARGETS]][:, :, None, None] / 12, (2, 8, 4, 3))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("wrt", Wrt)
def test_a_step_graph_is_plain_onnx(wrt: Wrt) -> None:
    model = ir.to_proto(step_graph(opened(filled(CLASSIFIER)), Score.PROBABILITY, wrt))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert {o.domain: o.version for o in model.opset_import}[""] >= 17
    assert [v.name for v in model.graph.output] == [SCORE, GRADIENT]
    assert [v.type.tensor_type.shape.dim[0].dim_param for v in model.graph.output] == ["rows", "rows"]


HEAD = '<ir_version: 7, opset_import: ["" : {}]> net (float[N,3,16,12] x) => (float[N,5] logits)'
WEIGHTS = "float[8,3,3,3] w, float[8] s, float[8] b, float[8] m, float[8] v = {0.5,1.0,2.0,1.0,0.7,0.5,1.0,2.0}, float[6,8,3,3] w2, float[5,6] w3, float[5] b3"
FRONT = "c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w) n = BatchNormalization (c, s, b, m, v) r = LeakyRelu (n)"
WRITTEN = {
    7: (WEIGHTS, f"""{FRONT} p = Pad <mode="edge", pads=[0,0,1,1,0,0,1,1]> (r) d = Conv (p, w2) f = Clip <min=0.0, max=3.0> (d)
        u = Upsample <mode="nearest", scales=[1.0,1.0,2.0,2.0]> (f) h = Slice <axes=[2], starts=[1], ends=[9]> (u) q = Dropout <ratio=0.5> (h)
        a = ReduceMean <axes=[2,3], keepdims=1> (q) z = Squeeze <axes=[2,3]> (a) logits = Gemm <transB=1> (z, w3, b3)"""),
    11: (f"{WEIGHTS}, int64[8] e = {{0,0,1,1,0,0,1,1}}, float lo = {{0.0}}, float hi = {{3.0}}, float[4] sc = {{1.0,1.0,2.0,2.0}}, float[0] no = {{}}, int64[1] i = {{1}}, int64[1] j = {{9}}, int64[1] k = {{2}}",
        f"""{FRONT} p = Pad <mode="edge"> (r, e) d = Conv (p, w2) f = Clip (d, lo, hi)
        u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (f, no, sc) h = Slice (u, i, j, k) q = Dropout <ratio=0.5> (h)
        a = ReduceMean <axes=[2,3], keepdims=1> (q) z = Squeeze <axes=[2,3]> (a) logits = Gemm <transB=1> (z, w3, b3)"""),
    13: (f"{WEIGHTS}, int64[8] e = {{0,0,1,1,0,0,1,1}}, float lo = {{0.0}}, float hi = {{3.0}}, float[4] sc = {{1.0,1.0,2.0,2.0}}, int64[1] i = {{1}}, int64[1] j = {{9}}, int64[1] k = {{2}}, int64[2] t = {{2,3}}",
        f"""{FRONT} p = Pad <mode="edge"> (r, e) d = Conv (p, w2) f = Clip (d, lo, hi)
        u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (f, , sc) h = Slice (u, i, j, k) q = Dropout (h)
        a = ReduceMean <axes=[2,3], keepdims=1> (q) z = Squeeze (a, t) logits = Gemm <transB=1> (z, w3, b3)"""),
    18: (f"{WEIGHTS}, int64[8] e = {{0,0,1,1,0,0,1,1}}, float lo = {{0.0}}, float hi = {{3.0}}, float[4] sc = {{1.0,1.0,2.0,2.0}}, int64[1] i = {{1}}, int64[1] j = {{9}}, int64[1] k = {{2}}, int64[2] t = {{2,3}}",
        f"""{FRONT} p = Pad <mode="edge"> (r, e) d = Conv (p, w2) f = Clip (d, lo, hi)
        u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (f, , sc) h = Slice (u, i, j, k) q = Dropout (h)
        a = ReduceMean <keepdims=1> (q, t) z = Squeeze (a, t) logits = Gemm <transB=1> (z, w3, b3)"""),
}  # fmt: skip
"""One network in the forms of its operators in different opsets."""


def in_opset(opset: int) -> onnx.ModelProto:
    weights, nodes = WRITTEN[opset]
    return filled(f"{HEAD.format(opset)} <{weights}> {{ {nodes} }}")


def test_the_newest_opset_has_the_gradient_of_its_slope() -> None:
    proto = in_opset(18)
    model = opened(proto)
    feeds = {**sample_feeds(model, 2), masked_score.MAPS: model.network.identity_masks(2)}
    _, gradient = run_steps(model, Score.LOGIT, Wrt.IMAGE)(feeds)
    u = np.random.default_rng(1).standard_normal(gradient[1:].shape)
    expected = slope(proto, feeds[masked_score.IMAGE][1:], u, int(feeds[masked_score.TARGETS][1]), Score.LOGIT)
    assert float((gradient[1:] * u).sum()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("opset", [7, 11, 13])
def test_models_of_older_opsets_have_the_gradient_of_the_newest(opset: int) -> None:
    model, newest = opened(in_opset(opset)), opened(in_opset(18))
    feeds = sample_feeds(newest, 2)
    assert ir.opset(step_graph(model, Score.LOGIT, Wrt.IMAGE)) == 18
    for values, expected in zip(
        run_steps(model, Score.LOGIT, Wrt.IMAGE)(feeds), run_steps(newest, Score.LOGIT, Wrt.IMAGE)(feeds), strict=True
    ):
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


COMPUTED = """
<ir_version: 8, opset_import: ["" : 17]>
computed (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v, int64 two = {2}, int64[1] one = {1}, int64[1] none = {0}, int64[1] rest = {-1}>
{
  c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)
  s = Shape (c)
  height = Gather (s, two)
  half = Div (height, two)
  end = Unsqueeze (half, none)
  axis = Add (one, one)
  top = Slice (c, none, end, axis)
  rows = Slice (s, none, one)
  channels = Slice (s, one, axis)
  shape = Concat <axis=0> (rows, channels, rest)
  flat = Reshape (top, shape)
  p = ReduceMean <axes=[2], keepdims=0> (flat)
  logits = MatMul (p, v)
}
"""


def test_parameters_computed_from_shapes_are_known() -> None:
    """Bounds of a Slice that no image changes; the batch passes through the same arithmetic."""
    proto = filled(COMPUTED)
    model = opened(proto)
    feeds = {**sample_feeds(model, 3), masked_score.MAPS: model.network.identity_masks(3)}
    _, gradient = run_steps(model, Score.LOGIT, Wrt.IMAGE)(feeds)
    u = np.random.default_rng(1).standard_normal((1, 3, 16, 12))
    expected = slope(proto, feeds[masked_score.IMAGE][2:], u, int(feeds[masked_score.TARGETS][2]), Score.LOGIT)
    assert float((gradient[2:] * u).sum()) == pytest.approx(expected, rel=1e-4)
    assert not gradient[:, :, 10:].any(), "below what the slice keeps"


def in_half(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    for tensor in copy.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for info in (*copy.graph.input, *copy.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return copy


@pytest.mark.parametrize("wrt", Wrt)
def test_models_in_half_precision_are_differentiated_in_float32(wrt: Wrt) -> None:
    single = filled(CLASSIFIER)
    half = in_half(single)
    for tensor, rounded in zip(single.graph.initializer, half.graph.initializer, strict=True):
        array = onnx.numpy_helper.to_array(rounded).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    feeds = sample_feeds(opened(single), 2)
    expected = run_steps(opened(single), Score.PROBABILITY, wrt)(feeds)
    results = run_steps(opened(half), Score.PROBABILITY, wrt)(feeds)
    for of_half, of_single in zip(results, expected, strict=True):
        assert of_half.dtype == np.float32
        np.testing.assert_allclose(of_half, of_single, rtol=1e-5, atol=1e-7)


def test_bytes_are_differentiated_as_numbers() -> None:
    proto = filled(PIXELS)
    model = opened(proto)
    feeds = {**sample_feeds(model, 2), masked_score.MAPS: model.network.identity_masks(2)}
    assert feeds[masked_score.IMAGE].dtype == np.float32
    assert feeds[masked_score.IMAGE].shape == (2, 16, 12, 3)
    _, gradient = run_steps(model, Score.LOGIT, Wrt.IMAGE)(feeds)
    u = np.random.default_rng(1).standard_normal((1, 16, 12, 3))
    expected = slope(proto, feeds[masked_score.IMAGE][:1], u, int(feeds[masked_score.TARGETS][0]), Score.LOGIT)
    assert float((gradient[:1] * u).sum()) == pytest.approx(expected, rel=1e-4)


def test_guided_steps_need_a_relu_and_change_the_gradient() -> None:
    model = opened(filled(CLASSIFIER))
    feeds = sample_feeds(model, 2)
    score, plain = run_steps(model, Score.LOGIT, Wrt.IMAGE)(feeds)
    same, guided = run_steps(model, Score.LOGIT, Wrt.IMAGE, guided=True)(feeds)
    np.testing.assert_array_equal(same, score)
    assert np.abs(plain - guided).max() > 1e-3
    with pytest.raises(UndefinedSaliency, match="ReLU"):
        step_graph(opened(filled(PIXELS)), Score.LOGIT, Wrt.IMAGE, guided=True)
