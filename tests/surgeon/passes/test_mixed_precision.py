"""Half precision where it is safe: which operators, where Casts stand, and what the numbers are."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest

from onnxcam.surgeon import ir
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.passes.mixed_precision import LARGEST, convert_to_mixed_precision

Make = Callable[..., onnx.ModelProto]
RNG = np.random.default_rng(0)

NORMALISED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,6] x) => (float[N,5] probability)
<float[3,1,1] mean, float[8,3,3,3] w, float[8,5] v>
{
  centred = Sub (x, mean)
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (centred, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  logits = MatMul (p, v)
  probability = Softmax (logits)
}
"""
"""The normalisation of the image, a network, and a softmax."""


def computed_in(model: Model) -> dict[str, str]:
    """The element type that each operator's first input has, by the operator's type, Casts left out."""
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, check_type=True)
    weights = {i.name: i.data_type for i in proto.graph.initializer}
    values = {
        v.name: v.type.tensor_type.elem_type for v in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    }
    types = {**weights, **values}
    names = {onnx.TensorProto.FLOAT: "float", onnx.TensorProto.FLOAT16: "half"}
    return {n.op_type: names.get(types[n.input[0]], "other") for n in proto.graph.node if n.op_type != "Cast"}


def halved(proto: onnx.ModelProto) -> Model:
    return convert_to_mixed_precision(ir.from_proto(proto))


def outputs(model: Model | onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else ir.to_bytes(model)
    return list(onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds))


def test_the_network_is_in_half_precision_and_its_ends_are_not(make: Make) -> None:
    model = halved(make(NORMALISED))
    assert computed_in(model) == {
        "Sub": "float", "Conv": "half", "Relu": "half", "GlobalAveragePool": "half", "Flatten": "half",
        "MatMul": "half", "Softmax": "float",
    }  # fmt: skip


def test_the_numbers_are_those_of_the_model_to_half_precisions_rounding(make: Make) -> None:
    proto = make(NORMALISED)
    x = RNG.standard_normal((2, 3, 8, 6)).astype(np.float32)
    np.testing.assert_allclose(outputs(halved(proto), {"x": x})[0], outputs(proto, {"x": x})[0], atol=2e-3)


def test_heavy_weights_are_stored_in_half_precision(make: Make) -> None:
    proto = make(NORMALISED)
    types = {i.name: i.data_type for i in ir.to_proto(halved(proto)).graph.initializer}
    assert types["w/onnxcam/half"] == types["v/onnxcam/half"] == onnx.TensorProto.FLOAT16
    assert types["mean"] == onnx.TensorProto.FLOAT
    assert "w" not in types
    assert "v" not in types


def test_the_original_is_not_changed(make: Make) -> None:
    model = ir.from_proto(make(NORMALISED))
    before = ir.to_bytes(model)
    convert_to_mixed_precision(model)
    assert ir.to_bytes(model) == before


def test_the_epsilon_of_a_normalisation_does_not_underflow(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,4,4] x) => (float[N,4,5] y)
    <float[4,4] w, float[4,5] v>
    {
      h = MatMul (x, w)
      m = ReduceMean <axes=[2]> (h)
      d = Sub (h, m)
      two = Constant <value_float = 2.0> ()
      squares = Pow (d, two)
      variance = ReduceMean <axes=[2]> (squares)
      epsilon = Constant <value_float = 1e-12> ()
      above = Add (variance, epsilon)
      deviation = Sqrt (above)
      n = Div (d, deviation)
      y = MatMul (n, v)
    }""")
    types = computed_in(halved(proto))
    assert (types["Add"], types["Pow"], types["ReduceMean"], types["Sqrt"]) == ("float",) * 4
    assert types["MatMul"] == "half"
    constant = np.ones((1, 4, 4), np.float32)  # an image without contrast
    assert np.isfinite(outputs(halved(proto), {"x": constant * 0})[0]).all()


def test_bounds_beyond_the_range_are_clipped_and_infinities_stay(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3] x) => (float[N,3] y)
    <float[3,3] w>
    {
      h = MatMul (x, w)
      least = Constant <value_float = 0.0> ()
      most = Constant <value_float = 3.4e38> ()
      c = Clip (h, least, most)
      hidden = Constant <value = float[3] {0.0, -inf, -1e9}> ()
      y = Add (c, hidden)
    }""", check=False)  # fmt: skip
    model = halved(proto)
    assert computed_in(model) == {"MatMul": "half", "Clip": "half", "Add": "half"}
    x = RNG.standard_normal((1, 3)).astype(np.float32)
    actual, expected = outputs(model, {"x": x})[0][0], outputs(proto, {"x": x})[0][0]
    assert actual[0] == pytest.approx(expected[0], abs=2e-3)
    assert actual[1] == -np.inf
    assert actual[2] <= -LARGEST + 100


def test_weights_beyond_the_range_keep_their_operator_in_float32(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3] x) => (float[N,3] y)
    <float[3,3] w>
    {
      h = MatMul (x, w)
      large = Constant <value_float = 1e6> ()
      y = Mul (h, large)
    }""")
    assert computed_in(halved(proto))["Mul"] == "float"
    x = RNG.standard_normal((1, 3)).astype(np.float32)
    expected = outputs(proto, {"x": x})[0]
    np.testing.assert_allclose(outputs(halved(proto), {"x": x})[0], expected, atol=2e-3 * np.abs(expected).max())


def test_operands_that_must_be_float32_are(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N,3,4,4] x) => (float[N,8,8,8] y)
    <float[8,3,1,1] w>
    {
      c = Conv <kernel_shape=[1,1]> (x, w)
      scales = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
      y = Resize <mode = "linear"> (c, , scales)
    }""")
    assert computed_in(halved(proto))["Resize"] == "half"
    x = RNG.standard_normal((1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(outputs(halved(proto), {"x": x})[0], outputs(proto, {"x": x})[0], atol=2e-2)


def test_subgraphs_read_float32(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[2,3] x, bool flag) => (float[2,3] y)
    <float[3,3] w>
    {
      h = MatMul (x, w)
      y = If (flag) <
        then_branch = yes () => (float[2,3] a) { a = Add (h, x) },
        else_branch = no () => (float[2,3] b) { b = Sub (h, x) }>
    }""", check=False)  # fmt: skip
    feeds = {"x": RNG.standard_normal((2, 3)).astype(np.float32), "flag": np.array(False)}
    np.testing.assert_allclose(outputs(halved(proto), feeds)[0], outputs(proto, feeds)[0], atol=5e-3)


def test_a_model_in_half_precision_already_stays_what_it_is(make: Make) -> None:
    proto = make("""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float16[N,3] x) => (float16[N,3] y) { y = Relu (x) }""")
    assert computed_in(halved(proto)) == {"Relu": "half"}


def test_opsets_from_before_constant_of_shape(make: Make) -> None:
    proto = make(NORMALISED.replace("17", "8").replace("Softmax (logits)", "Softmax <axis=1> (logits)"))
    assert computed_in(halved(proto))["Conv"] == "half"
