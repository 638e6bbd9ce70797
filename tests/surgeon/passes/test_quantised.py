"""Quantised features are returned as real numbers; blocked memory and integers without a scale are refused."""

import numpy as np
import onnxruntime as ort
import pytest
from small_models import Make

from onnxcam.errors import ModelError, NoSpatialFeatures
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.passes.expose_features import expose_features

QOPERATOR = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,1,4,4] x) => (float[N,2] logits)
<float s = {0.1}, uint8 z = {10}, int8[2,1,1,1] w = {50, -20}, float ws = {0.02}, int8 wz = {0}, float ys = {0.05},
 uint8 yz = {100}, float[2,2] v = {1.0, 0.0, 0.0, 1.0}>
{
  q = QuantizeLinear (x, s, z)
  c = QLinearConv <kernel_shape=[1,1]> (q, s, z, w, ws, wz, ys, yz)
  m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (c)
  f = DequantizeLinear (m, ys, yz)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  logits = MatMul (p, v)
}"""


def test_a_quantised_tensor_comes_out_as_real_numbers(make: Make) -> None:
    model = ir.from_proto(make(QOPERATOR))
    exposed = expose_features(model, "m", (1, 2, 2, 2))
    assert exposed.graph.outputs[-1].name == "m/dequantised"
    x = np.linspace(-0.5, 0.9, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    maps = ort.InferenceSession(ir.to_bytes(exposed)).run(["m/dequantised"], {"x": x})[0]
    # By hand: the weights are 1.0 and -0.4; 8 bits at a step of 0.05 leave half a step, and the input half of 0.1.
    pooled = [(g * x[0, 0]).reshape(2, 2, 2, 2).max(axis=(1, 3)) for g in (1.0, -0.4)]
    np.testing.assert_allclose(maps[0], pooled, atol=0.075 + 1e-6)


def test_the_quantised_tensor_may_be_the_feature_tensor(make: Make) -> None:
    assert locate(ir.from_proto(make(QOPERATOR)), layer="m").features.tensor == "m"


def test_integers_without_a_scale_are_refused(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,1,4,4] x) => (float[N,2] logits)
    <uint8[2,1,1,1] w = {5, 2}, float[2,2] v = {1.0, 0.0, 0.0, 1.0}>
    {
      q, s, z = DynamicQuantizeLinear (x)
      c = ConvInteger <kernel_shape=[1,1]> (q, w, z)
      f = Cast <to=1> (c)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }"""
    with pytest.raises(ModelError, match="integers without a scale"):
        locate(ir.from_proto(make(text)), layer="c")


def test_blocked_memory_is_refused_with_the_way_out(make: Make) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "com.microsoft.nchwc" : 1]>
    net (float[N,3,8,6] x) => (float[N,8] p)
    <float[8,3,3,3] w>
    {
      f = com.microsoft.nchwc.Conv <kernel_shape=[3,3]> (x, w)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
    }"""
    shapes = {"x": (1, 3, 8, 6), "f": (1, 8, 6, 4), "p": (1, 8)}
    with pytest.raises(NoSpatialFeatures, match=r"NCHWc.*without level ALL"):
        locate(ir.from_proto(make(text, check=False)), shapes=shapes)
