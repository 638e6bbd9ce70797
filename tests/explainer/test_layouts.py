"""One network whose features lie in another order in each variant: every map is upright and equal to the plain one's."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import filled

from onnxcam import Explainer, Region
from onnxcam.methods.registry import METHODS
from onnxcam.network.export import rewrite
from onnxcam.network.opening import OpenOptions
from onnxcam.surgeon.loading import read_model

PLAIN = "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n f = Relu (c2)\n p = ReduceMean <axes=[2,3], keepdims=0> (f)"
BODIES = {
    "a transpose before the last convolution": (
        "t = Transpose <perm=[0,1,3,2]> (r1)\n wt = Transpose <perm=[0,1,3,2]> (w2)\n"
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (t, wt)\n f = Relu (c2)\n"
        "p = ReduceMean <axes=[2,3], keepdims=0> (f)",
        "NCWH",
    ),
    "width, height, channels": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n t = Transpose <perm=[0,3,2,1]> (c2)\n f = Relu (t)\n"
        "p = ReduceMean <axes=[1,2], keepdims=0> (f)",
        "NWHC",
    ),
    "tokens column by column": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n t = Transpose <perm=[0,1,3,2]> (c2)\n"
        "s = Reshape (t, tokens)\n f = Relu (s)\n p = ReduceMean <axes=[2], keepdims=0> (f)",
        "NCT (T=W{w}xH{h})",
    ),
    "tokens in windows": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n s = Reshape (c2, cut)\n"
        "t = Transpose <perm=[0,2,4,3,5,1]> (s)\n l = Reshape (t, windows)\n f = Relu (l)\n"
        "p = ReduceMean <axes=[1,2], keepdims=0> (f)",
        "NTTC (T=H2xW2, T=H{h2}xW{w2})",
    ),
    "unrolled tokens": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n s = Reshape (c2, cut)\n"
        "t = Transpose <perm=[0,3,5,2,4,1]> (s)\n l = Reshape (t, unrolled)\n f = Relu (l)\n"
        "p = ReduceMean <axes=[1], keepdims=0> (f)",
        "NTC (T=H{h2}xW{w2}xH2xW2)",
    ),
    "a class token behind tokens column by column": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n t = Transpose <perm=[0,3,2,1]> (c2)\n"
        "s = Reshape (t, listed)\n m = ReduceMean <axes=[1], keepdims=1> (s)\n n = Mul (m, zero)\n"
        "g = Concat <axis=1> (n, s)\n f = Relu (g)\n q = ReduceSum <keepdims=0> (f, first)\n p = Div (q, count)",
        "NTC (T=W{w}xH{h})",
    ),
    "mirrored": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n t = Slice (c2, last, far, third, back)\n"
        "f = Relu (t)\n p = ReduceMean <axes=[2,3], keepdims=0> (f)",
        "NCHT (T=W{w} mirrored)",
    ),
    "rolled": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n a1 = Slice (c2, two, far2, third)\n"
        "a2 = Slice (c2, none, two, third)\n a3 = Concat <axis=3> (a1, a2)\n f = Relu (a3)\n"
        "p = ReduceMean <axes=[2,3], keepdims=0> (f)",
        "NCHT (T=W{w} rolled by 2)",
    ),
    "rolled and rolled back": (
        "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n a1 = Slice (c2, two, far2, third)\n"
        "a2 = Slice (c2, none, two, third)\n a3 = Concat <axis=3> (a1, a2)\n a4 = Relu (a3)\n"
        "b1 = Slice (a4, minus, far2, third)\n b2 = Slice (a4, none, minus, third)\n b3 = Concat <axis=3> (b1, b2)\n"
        "f = Relu (b3)\n p = ReduceMean <axes=[2,3], keepdims=0> (f)",
        "NCHW",
    ),
}
"""What follows the first convolution, and the layout of the features; {h} and {w} are the sides of the grid."""
SIDES = {"upright": (16, 12), "lying": (8, 16), "square": (12, 12)}
METHOD_NAMES = (
    "score-cam", "grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "ablation-cam", "recipro-cam", "eigen-cam",
)  # fmt: skip


def network(body: str, sides: tuple[int, int], batch: str = "N") -> onnx.ModelProto:
    h, w = sides[0] // 2, sides[1] // 2
    return filled(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[{batch},3,{sides[0]},{sides[1]}] x) => (float[{batch},5] logits)
    <float[6,3,3,3] w1, float[8,6,3,3] w2, float[8,5] v, float zero = {{0}}, float count = {{{h * w}}},
     int64[3] tokens = {{0, 8, {h * w}}}, int64[3] listed = {{0, {h * w}, 8}}, int64[6] cut = {{0, 8, 2, {h // 2}, 2, {w // 2}}},
     int64[4] windows = {{0, 4, {h * w // 4}, 8}}, int64[3] unrolled = {{0, {h * w}, 8}}, int64[1] first = {{1}},
     int64[1] last = {{-1}}, int64[1] far = {{-1000}}, int64[1] far2 = {{1000}}, int64[1] third = {{3}}, int64[1] back = {{-1}},
     int64[1] two = {{2}}, int64[1] none = {{0}}, int64[1] minus = {{-2}}>
    {{
      c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
      r1 = Relu (c1)
      {body}
      logits = MatMul (p, v)
    }}""")


def image_of(sides: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((3, *sides)).astype(np.float32)


def features_of(text: str, sides: tuple[int, int]) -> str:
    return text.format(h=sides[0] // 2, w=sides[1] // 2, h2=sides[0] // 4, w2=sides[1] // 4)


@pytest.mark.slow
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("name", BODIES)
def test_the_maps_of_every_method_are_those_of_the_plain_layout(name: str, sides: str) -> None:
    body, layout = BODIES[name]
    size = SIDES[sides]
    image = image_of(size)
    for method in METHOD_NAMES:
        with Explainer(network(PLAIN, size), METHODS[method](), providers=["cpu"]) as plain:
            expected = plain(image, 1).map
        with Explainer(network(body, size), METHODS[method](), providers=["cpu"]) as explainer:
            if method == "score-cam":
                assert explainer.anatomy.features.layout == features_of(layout, size)
                assert explainer.anatomy.features.grid == (size[0] // 2, size[1] // 2)
            np.testing.assert_allclose(explainer(image, 1).map, expected, atol=1e-4, err_msg=method)


def naive_score_cam(model: onnx.ModelProto, image: np.ndarray, target: int) -> np.ndarray:
    """One channel of f after another, upsampled by OpenCV, one forward pass each."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    copy.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])

    def probability(x: np.ndarray) -> float:
        logits = session.run(["logits"], {"x": x[None].astype(np.float32)})[0][0].astype(np.float64)
        e = np.exp(logits - logits.max())
        return float(e[target] / e.sum())

    total = np.zeros(image.shape[1:])
    for channel in session.run(["f"], {"x": image[None]})[0][0]:
        up = cv2.resize(channel, image.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
        if np.ptp(up) > 0:
            total += probability(image * (up - up.min()) / np.ptp(up)) * up
    return np.maximum(total, 0)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("name", BODIES)
def test_score_cam_of_any_layout_equals_a_naive_loop_over_upright_maps(name: str, sides: str) -> None:
    image = image_of(SIDES[sides])
    expected = naive_score_cam(network(PLAIN, SIDES[sides]), image, 2)
    with Explainer(network(BODIES[name][0], SIDES[sides]), providers=["cpu"]) as explainer:
        correlation = np.corrcoef(explainer(image, 2).map.ravel(), expected.ravel())[0, 1]
    assert correlation >= 0.9999


@pytest.mark.parametrize("name", ["tokens in windows", "a transpose before the last convolution"])
def test_a_fixed_batch_keeps_the_layout(name: str) -> None:
    image = image_of((16, 12))
    with Explainer(network(PLAIN, (16, 12)), providers=["cpu"]) as plain:
        expected = plain(image, 1).map
    with Explainer(network(BODIES[name][0], (16, 12), batch="1"), providers=["cpu"]) as explainer:
        np.testing.assert_allclose(explainer(image, 1).map, expected, atol=1e-4)


def test_a_part_of_the_picture_is_not_taken_for_all_of_it() -> None:
    body = "c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, w2)\n f = Relu (c2)\n a = Slice (f, two, far2, third)\n"
    body += "p = ReduceMean <axes=[2,3], keepdims=0> (a)"
    with Explainer(network(body, (16, 12)), providers=["cpu"]) as explainer:
        assert explainer.anatomy.features.tensor == "f"


@pytest.mark.parametrize("name", BODIES)
def test_the_rewritten_model_returns_the_features_as_they_lie(name: str, tmp_path: Path) -> None:
    images = np.stack([image_of((16, 12)), -image_of((16, 12))])
    maps = []
    for body in (PLAIN, BODIES[name][0]):
        path = tmp_path / "net.onnx"
        onnx.save(network(body, (16, 12)), path)
        data = rewrite(read_model(path), OpenOptions(providers=("cpu",))).data
        with Explainer(path, providers=["cpu"]) as explainer:
            features = explainer.anatomy.features
        session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        maps.append(features.to_channels(session.run([features.tensor], {"x": images})[0]))
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-5)


@pytest.mark.parametrize("method", ["score-cam", "grad-cam", "gradient", "rise", "integrated-gradients"])
@pytest.mark.parametrize("layout", ["NWHC", "NCWH", "NHCW"])
def test_a_layout_in_any_order_gives_upright_maps(layout: str, method: str) -> None:
    plain_model = network(PLAIN, (16, 12))
    model = onnx.ModelProto.FromString(plain_model.SerializeToString())
    del model.graph.input[:]
    shape = [{"N": "N", "C": 3, "H": 16, "W": 12}[letter] for letter in layout]
    model.graph.input.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape))
    order = [layout.index(letter) for letter in "NCHW"]
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["y"], ["x"], perm=order))
    photograph = np.random.default_rng(7).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    maps = []
    for proto, options in ((plain_model, {}), (model, {"layout": layout})):
        with Explainer(proto, METHODS[method](), providers=["cpu"], **options) as explainer:
            assert tuple(explainer.size) == (16, 12)
            maps.append(explainer(photograph, 1).map)
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-4)


@pytest.mark.parametrize("sideways", [False, True])
def test_a_region_lies_where_it_does_on_the_picture_if_the_class_map_lies_on_its_side(sideways: bool) -> None:
    turn = "logits = Transpose <perm=[0,1,3,2]> (m)" if sideways else "logits = Identity (m)"
    sides = "6,8" if sideways else "8,6"
    model = filled(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,16,12] x) => (float[N,4,{sides}] logits)
    <float[6,3,3,3] w1, float[4,6,1,1] w2>
    {{
      c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
      f = Relu (c1)
      m = Conv (f, w2)
      {turn}
    }}""")
    image = image_of((16, 12))
    table = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": image[None]}
    )[0][0]
    upright = table.transpose(0, 2, 1) if sideways else table
    with Explainer(model, providers=["cpu"]) as explainer:
        scored = explainer(image, Region(1, (0, 0, 4, 16))).target
        masked = explainer(image, Region(1, np.arange(16 * 12).reshape(16, 12) < 4 * 12)).target
    assert scored.logit == pytest.approx(upright[1][:, :2].mean(), rel=1e-4)
    assert masked.logit == pytest.approx(upright[1][:2].mean(), rel=1e-4)
