"""Clips: networks of pictures over several frames have the maps of the same network written as one of volumes."""

import numpy as np
import onnx
import pytest
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import NoSpatialFeatures
from onnxcam.surgeon.analysis.anatomy import Frames
from onnxcam.types import BatchMode

T, H, W = 6, 20, 16
CLIP = np.random.default_rng(2).random((3, T, H, W)).astype(np.float32)
WEIGHTS = (
    "<float[6,3,3,3] w1, float[8,6,3,3] w2, float[8,5] v, float[1,6,1] share = {0.1, 0.4, 0.2, 0.9, 0.3, 0.7},"
    " int64[2] apart = {1, 2}, int64[1] zero = {0}, int64[3] flat = {-1, 6, 8}MORE>"
)
BODY = """
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (frames, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  f = Relu (c2)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
"""
JOINED = "q = Reshape (p, flat) s = Mul (q, share) m = ReduceMean <axes=[1], keepdims=0> (s) logits = MatMul (m, v)"
ALONE = "q = Reshape (p, flat) s = Mul (q, share) m = ReduceMean <axes=[0,1], keepdims=0> (s) logits = MatMul (m, v)"


def network(inputs: str, before: str, after: str = JOINED, output: str = "N,5", more: str = "") -> onnx.ModelProto:
    return filled(f"""<ir_version: 8, opset_import: ["" : 17]>
net (float[{inputs}] x) => (float[{output}] logits)
{WEIGHTS.replace("MORE", more)} {{ {before} {BODY} {after} }}""")


def volumes() -> onnx.ModelProto:
    """The same network with convolutions over volumes, whose kernels are one frame deep."""
    return filled("""<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,6,20,16] x) => (float[N,5] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[8,5] v, float[1,1,6] share = {0.1, 0.4, 0.2, 0.9, 0.3, 0.7}, int64[1] two = {2}>
{
  k1 = Unsqueeze (w1, two)
  c1 = Conv <kernel_shape=[1,3,3], pads=[0,1,1,0,1,1], strides=[1,2,2]> (x, k1)
  r1 = Relu (c1)
  k2 = Unsqueeze (w2, two)
  c2 = Conv <kernel_shape=[1,3,3], pads=[0,1,1,0,1,1], strides=[1,2,2]> (r1, k2)
  f = Relu (c2)
  p = ReduceMean <axes=[3,4], keepdims=0> (f)
  s = Mul (p, share)
  m = ReduceMean <axes=[2], keepdims=0> (s)
  logits = MatMul (m, v)
}""")


FOLD = "frames = Reshape (x, fold)"
PICTURES = ", int64[4] fold = {-1, 3, 20, 16}"
CHANNELS_LAST = ", int64[4] fold = {-1, 20, 16, 3}"
NETWORKS: dict[str, tuple[onnx.ModelProto, str]] = {
    "NTCHW": (network("N,6,3,20,16", FOLD, more=PICTURES), "NDCHW"),
    "NTCHW, one clip": (network("1,6,3,20,16", FOLD, output="1,5", more=PICTURES), "NDCHW"),
    "NTHWC": (
        network("N,6,20,16,3", "r = Reshape (x, fold) frames = Transpose <perm=[0,3,1,2]> (r)", more=CHANNELS_LAST),
        "NDHWC",
    ),
    "NCTHW": (
        network("N,3,6,20,16", "t = Transpose <perm=[0,2,1,3,4]> (x) frames = Reshape (t, fold)", more=PICTURES),
        "NCDHW",
    ),
    "TCHW, time as batch": (
        network("6,3,20,16", "frames = Identity (x)", ALONE, "5"),
        "DCHW",
    ),
    "THWC, time as batch": (
        network(
            "6,20,16,3",
            "frames = Transpose <perm=[0,3,1,2]> (x)",
            ALONE.replace("logits =", "l =") + " logits = Unsqueeze (l, zero)",
            "1,5",
        ),
        "DHWC",
    ),
}


@pytest.mark.parametrize("method", ["score-cam", "grad-cam", "layer-cam", "smooth-grad"])
@pytest.mark.parametrize("name", NETWORKS)
def test_frames_have_the_map_of_the_network_of_volumes(name: str, method: str) -> None:
    model, layout = NETWORKS[name]
    with Explainer(volumes(), method, preset="unit", providers=["cpu"]) as explainer:
        expected = explainer(CLIP, 2)
    with Explainer(model, method, preset="unit", providers=["cpu"]) as explainer:
        assert explainer.anatomy.image.file_layout == layout
        assert explainer.anatomy.image.frames is Frames.IN_BATCH
        assert explainer.batching.mode is not BatchMode.LOOPED
        result = explainer(CLIP, 2)
    assert result.map.shape == (T, H, W)
    assert result.target.logit == pytest.approx(expected.target.logit, rel=1e-5)
    np.testing.assert_allclose(result.map, expected.map, atol=2e-4)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (1, 2, 3, 0)])
def test_a_clip_may_come_in_the_order_of_the_models_axes(order: tuple[int, ...]) -> None:
    name = {(1, 0, 2, 3): "NTCHW", (1, 2, 3, 0): "NTHWC"}[order]
    with Explainer(NETWORKS[name][0], "grad-cam", preset="unit", providers=["cpu"]) as explainer:
        np.testing.assert_array_equal(explainer(CLIP.transpose(order), 2).map, explainer(CLIP, 2).map)


def test_any_number_of_frames_of_any_size_is_assumed_to_be_a_short_clip() -> None:
    model = filled("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,T,3,H,W] x) => (float[N,5] logits) <float[8,3,3,3] w, float[8,5] v, int64[1] m1 = {-1}> {
      shape = Shape (x)
      pixels = Shape <start=2, end=5> (x)
      fold = Concat <axis=0> (m1, pixels)
      frames = Reshape (x, fold)
      c = Conv <strides=[4,4]> (frames, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      clip = Shape <start=0, end=2> (x)
      flat = Concat <axis=0> (clip, m1)
      q = Reshape (p, flat)
      m = ReduceMean <axes=[1], keepdims=0> (q)
      logits = MatMul (m, v)
    }""")
    with Explainer(model, "grad-cam", providers=["cpu"]) as explainer:
        assert (explainer.anatomy.image.layout, explainer.size) == ("NDCHW", (8, 224, 224))
    with Explainer(model, "grad-cam", size=(32, 24), preset="unit", providers=["cpu"]) as explainer:
        assert explainer.size == (8, 32, 24)
    with Explainer(model, "grad-cam", size=(5, 32, 24), preset="unit", providers=["cpu"]) as explainer:
        assert explainer(np.random.default_rng(0).random((3, 5, 32, 24), np.float32), 1).map.shape == (5, 32, 24)


def test_frames_that_the_first_layer_sees_together_share_one_map() -> None:
    model = filled("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,6,3,20,16] x) => (float[N,5] logits) <float[8,18,3,3] w, float[8,5] v, int64[4] join = {-1, 18, 20, 16}> {
      r = Reshape (x, join)
      c = Conv <pads=[1,1,1,1], strides=[2,2]> (r, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }""")
    stacked = filled("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,18,20,16] x) => (float[N,5] logits) <float[8,18,3,3] w, float[8,5] v> {
      c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)
      f = Relu (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }""")
    flat = CLIP.transpose(1, 0, 2, 3).reshape(18, H, W)
    for method in ("score-cam", "grad-cam"):
        with Explainer(stacked, method, preset="unit", providers=["cpu"]) as explainer:
            expected = explainer(flat, 2).map
        with Explainer(model, method, preset="unit", providers=["cpu"]) as explainer:
            assert explainer.anatomy.image.frames is Frames.IN_CHANNELS
            result = explainer(CLIP, 2).map
        np.testing.assert_allclose(result, np.broadcast_to(expected, (T, H, W)), atol=1e-5)


def test_frames_that_go_through_branches_of_their_own_are_refused() -> None:
    branches = "".join(f"x{i} = Gather <axis=1> (x, n{i}) c{i} = Conv (x{i}, w) f{i} = Relu (c{i})" for i in range(2))
    model = filled(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,2,3,20,16] x) => (float[N,5] logits) <float[8,3,3,3] w, float[8,5] v, int64 n0 = {{0}}, int64 n1 = {{1}}> {{
      {branches}
      s = Add (f0, f1)
      p = ReduceMean <axes=[2,3], keepdims=0> (s)
      logits = MatMul (p, v)
    }}""")
    with pytest.raises(NoSpatialFeatures, match=r"every frame .* goes through a branch of its own"):
        Explainer(model, preset="unit", providers=["cpu"])


def test_a_fixed_batch_of_pictures_is_no_clip() -> None:
    model = network("6,3,20,16", "frames = Identity (x)", "logits = MatMul (p, v)", "6,5")
    with Explainer(model, preset="unit", providers=["cpu"]) as explainer:
        assert (explainer.anatomy.image.layout, explainer.anatomy.image.frames) == ("NCHW", None)


def test_a_fixed_batch_of_several_clips_is_refused() -> None:
    model = network("2,6,3,20,16", FOLD, output="2,5", more=PICTURES)
    with pytest.raises(NoSpatialFeatures, match="fixed to a batch of 2 clips"):
        Explainer(model, preset="unit", providers=["cpu"])
