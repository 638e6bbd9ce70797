"""Inputs whose shape alone misleads: the first convolution says what each axis is, and the map is a hand-made CAM."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import ModelError, NoSpatialFeatures

HEAD = "f = Relu (c) p = GlobalAveragePool (f) q = Flatten (p)"
PLANE, VOLUME = "c = Conv <pads=[1,1,1,1]> (t, w)", "c = Conv <pads=[1,1,1,1,1,1]> (t, w)"
FRAMES = f"{PLANE} {HEAD} r = Reshape (q, b) z = ReduceMean <axes=[1], keepdims=0> (r) y = MatMul (z, v)"
CONSTANTS = "int64[1] zero = {0}, int64[1] one = {1}, int64[2] both = {0, 1}"


def network(shape: str, before: str, body: str, weights: str, output: str = "N,3", more: str = "") -> onnx.ModelProto:
    """A network of one convolution, `f` after ReLU, whose classes are a weighted sum (`v`) of the means of `f`."""
    end = "" if body == FRAMES else f"{HEAD} y = MatMul (q, v)"
    return filled(f"""<ir_version: 8, opset_import: ["" : 17]>
net (float[{shape}] x) => (float[{output}] y) <float[{weights}] w, float[8,3] v, {CONSTANTS}{more}>
{{ {before} {body} {end} }}""")


GREY_FRAMES = ", int64[4] a = {-1, 1, 12, 10}, int64[3] b = {-1, TIME, 8}"
INPUTS: dict[str, tuple[onnx.ModelProto, tuple[int, ...], str]] = {
    "volumes without channel axis": (
        network("N,6,12,10", "t = Unsqueeze (x, one)", VOLUME, "8,1,3,3,3"), (6, 12, 10), "NCDHW"
    ),
    "volumes of three slices": (
        network("N,3,12,10", "t = Unsqueeze (x, one)", VOLUME, "8,1,3,3,3"), (3, 12, 10), "NCDHW"
    ),
    "one volume without batch and channel": (
        network("6,12,10", "t = Unsqueeze (x, both)", VOLUME, "8,1,3,3,3", "1,3"), (6, 12, 10), "NCDHW"
    ),
    "one volume without batch": (
        network("4,6,12,10", "t = Unsqueeze (x, zero)", VOLUME, "8,4,3,3,3", "1,3"), (4, 6, 12, 10), "NCDHW"
    ),
    "one volume, channels last": (
        network(
            "6,12,10,1", "u = Unsqueeze (x, zero) t = Transpose <perm=[0,4,1,2,3]> (u)", VOLUME, "8,1,3,3,3", "1,3"
        ),
        (6, 12, 10, 1), "NDHWC",
    ),
    "grey frames": (
        network("N,5,12,10", "t = Reshape (x, a)", FRAMES, "8,1,3,3", more=GREY_FRAMES.replace("TIME", "5")),
        (5, 12, 10), "NCDHW",
    ),
    "three grey frames": (
        network("N,3,12,10", "t = Reshape (x, a)", FRAMES, "8,1,3,3", more=GREY_FRAMES.replace("TIME", "3")),
        (3, 12, 10), "NCDHW",
    ),
    "three rows and eight channels, last": (
        network("N,3,40,8", "t = Transpose <perm=[0,3,1,2]> (x)", PLANE, "8,8,3,3"), (3, 40, 8), "NHWC"
    ),
    "dynamic channels": (network("N,C,16,12", "t = Identity (x)", PLANE, "8,2,3,3"), (2, 16, 12), "NCHW"),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_the_map_is_the_weighted_sum_of_the_feature_maps(name: str) -> None:
    model, shape, layout = INPUTS[name]
    array = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    with Explainer(model, "grad-cam", providers=["cpu"]) as explain:
        assert explain.anatomy.image.layout == layout
        one = explain(array)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(onnx.helper.make_tensor_value_info("f", 1, None))
    batched = len(model.graph.input[0].type.tensor_type.shape.dim) > len(shape)
    features, scores = ort.InferenceSession(shown.SerializeToString()).run(
        ["f", "y"], {"x": array[None] if batched else array}
    )
    (weights,) = (numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "v")
    assert one.target.index == scores.argmax()
    cam = np.tensordot(weights[:, one.target.index], features, (0, 1)).reshape(one.raw.shape)
    assert np.corrcoef(one.raw.ravel(), cam.ravel())[0, 1] > 0.99999


@pytest.mark.parametrize(
    ("shape", "order"), [("16,12,3,1", "3,2,0,1"), ("16,12,3,N", "3,2,0,1"), ("3,16,12,1", "3,0,1,2")]
)
def test_a_batch_axis_that_is_not_the_first_is_refused(shape: str, order: str) -> None:
    model = network(shape, f"t = Transpose <perm=[{order}]> (x)", PLANE, "8,3,3,3", "1,3")
    with pytest.raises(ModelError, match=r"the batch axis of the input 'x' .* is not its first one; export"):
        Explainer(model, providers=["cpu"])


def test_a_picture_that_comes_flattened_is_refused_with_what_to_export() -> None:
    model = network("N,120", "s = Constant <value_ints=[-1,1,12,10]> () t = Reshape (x, s)", PLANE, "8,1,3,3")
    with pytest.raises(NoSpatialFeatures, match=r"flattened before, export that with the model, as \(N,C,H,W\)"):
        Explainer(model, providers=["cpu"])
