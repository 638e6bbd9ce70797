"""Which weights the sanity check draws again, in which order, and what becomes of them."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest
from onnx import numpy_helper

from onnxcam.errors import OptionError
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.weights import WeightLayers, find_weight_layers
from onnxcam.surgeon.ir import Model
from onnxcam.surgeon.loading import read_model
from onnxcam.surgeon.passes.fill_weights import store_filled_weights
from onnxcam.surgeon.passes.randomise import Redraw, randomise

PLAIN = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] x) => (float[N,10] logits)
<float[3,1,1] mean, float[16,3,3,3] w1, float[16] b1, float[16,16,3,3] w2, float[16] s2, float[16] t2, float[16] m2, float[16] v2,
 float[10,16] w3, float[10] b3>
{
  centred = Sub (x, mean)
  c1 = Conv <kernel_shape=[3,3]> (centred, w1, b1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3]> (r1, w2)
  n2 = BatchNormalization (c2, s2, t2, m2, v2)
  pooled = GlobalAveragePool (n2)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, w3, b3)
}"""
"""Two convolutions, one with a batch norm behind it, and a linear head; the mean of the pictures is no weight."""


def filled(text: str, types: dict[str, object] | None = None) -> onnx.ModelProto:
    """The model with a random initializer for each one that the text declares without numbers; variances positive."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(7)
    for value in list(proto.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        numbers = rng.normal(0.2, 1, shape)
        numbers = np.abs(numbers) + 0.5 if value.name.startswith("v") else numbers
        dtype = (types or {}).get(value.name, np.float32)
        integers = dtype in (np.int8, np.uint8, np.int32)
        array = rng.integers(1, 100, shape).astype(dtype) if integers else numbers.astype(dtype)  # type: ignore[call-overload]
        proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
    del proto.graph.value_info[:]
    return proto


def model_of(text: str, types: dict[str, object] | None = None) -> Model:
    return ir.from_proto(filled(text, types))


def arrays(model: Model) -> dict[str, np.ndarray]:
    return {name: np.asarray(v.const_value.numpy()) for name, v in model.graph.initializers.items() if v.const_value}


def names(layers: WeightLayers) -> list[list[str]]:
    return [[p.name for p in layer.parameters] for layer in layers.layers]


def changed(model: Model, other: Model) -> set[str]:
    one, two = arrays(model), arrays(other)
    return {name for name in one if not np.array_equal(one[name], two[name])}


def test_layers_come_from_the_output_and_bring_bias_and_batch_norm() -> None:
    assert names(find_weight_layers(model_of(PLAIN))) == [["w3", "b3"], ["w2", "s2", "t2", "m2", "v2"], ["w1", "b1"]]


def test_weights_of_another_output_are_no_layers_of_this_one() -> None:
    text = PLAIN.replace("(float[N,10] logits)", "(float[N,10] logits, float[N,2] other)").replace(
        "float[10,16] w3", "float[2,16] wo, float[10,16] w3"
    )
    model = model_of(text.replace("  logits =", "  other = Gemm <transB=1> (flat, wo)\n  logits ="))
    assert names(find_weight_layers(model, ["logits"])) == [["w3", "b3"], ["w2", "s2", "t2", "m2", "v2"], ["w1", "b1"]]
    assert ["wo"] in names(find_weight_layers(model))


def test_a_bias_that_is_added_behind_the_product_belongs_to_it_and_a_scalar_does_not() -> None:
    model = model_of(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] x) => (float[N,5] logits)
        <float[4,3,3,3] w1, float[4,1,1] b1, float[4,5] w2, float[5] b2, float[1] half>
        {
          c1 = Conv <kernel_shape=[3,3]> (x, w1)
          biased = Add (c1, b1)
          scaled = Mul (biased, half)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (scaled)
          m = MatMul (pooled, w2)
          logits = Add (b2, m)
        }"""
    )
    assert names(find_weight_layers(model)) == [["w2", "b2"], ["w1", "b1"]]


ATTENTION = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] x) => (float[N,5] logits)
<float[4,3,4,4] w1, float[1,4,4] position, float[4,4] wq, float[1,4,4] mask = {0, -100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
 float[4] scale, float[4] shift, float[4,5] w2, float[5] boxes, int64[3] s = {0, 4, -1}>
{
  c1 = Conv <kernel_shape=[4,4], strides=[4,4]> (x, w1)
  r = Reshape (c1, s)
  t = Transpose <perm=[0,2,1]> (r)
  a = Relu (t)
  tokens = Add (a, position)
  q = MatMul (tokens, wq)
  k = Transpose <perm=[0,2,1]> (tokens)
  scores = MatMul (q, k)
  masked = Add (scores, mask)
  p = Softmax (masked)
  mixed = MatMul (p, tokens)
  n = LayerNormalization (mixed, scale, shift)
  pooled = ReduceMean <axes=[1], keepdims=0> (n)
  m = MatMul (pooled, w2)
  sigma = Sigmoid (m)
  logits = Mul (sigma, boxes)
}"""


def test_position_embeddings_are_a_layer_and_masks_products_of_tokens_and_what_follows_the_last_layer_are_none() -> (
    None
):
    layers = find_weight_layers(model_of(ATTENTION))
    assert names(layers) == [["w2"], ["scale", "shift"], ["wq"], ["position"], ["w1"]]
    assert layers.skipped == ()


THROUGH = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,8,8] x) => (float[N,5] logits)
<float16[4,3,3,3] w1, float[36,4] w2, int8[5,4] w3, float[5] scale3, int8[5] zero3, int64[4] s = {3, 3, 4, 4}>
{
  cast1 = Cast <to=1> (w1)
  c1 = Conv <kernel_shape=[3,3]> (x, cast1)
  shaped2 = Reshape (w2, s)
  turned2 = Transpose <perm=[3,2,0,1]> (shaped2)
  same2 = Identity (turned2)
  c2 = Conv <kernel_shape=[3,3]> (c1, same2)
  pooled = ReduceMean <axes=[2,3], keepdims=0> (c2)
  real3 = DequantizeLinear <axis=0> (w3, scale3, zero3)
  logits = Gemm <transB=1> (pooled, real3)
}"""


def test_weights_are_followed_through_casts_reshapes_transposes_and_dequantisers() -> None:
    model = model_of(THROUGH, {"w1": np.float16, "w3": np.int8, "zero3": np.int8})
    layers = find_weight_layers(model)
    assert names(layers) == [["w3"], ["w2"], ["w1"]]
    drawn = randomise(model, layers.layers)
    assert changed(model, drawn) == {"w1", "w2", "w3"}
    for name in ("w1", "w2", "w3"):
        assert arrays(drawn)[name].dtype == arrays(model)[name].dtype
        np.testing.assert_array_equal(np.sort(arrays(drawn)[name], None), np.sort(arrays(model)[name], None))


def test_weights_that_the_graph_computes_are_listed_as_kept() -> None:
    model = model_of(
        PLAIN.replace("float[16,16,3,3] w2", "float[16,16,3,3] v, float[16,1,1,1] g")
        .replace("(r1, w2)", "(r1, wn)")
        .replace("  c2 =", "  wn = Mul (v, g)\n  c2 =")
    )
    layers = find_weight_layers(model)
    assert [parameters for parameters in names(layers) if {"v", "g"} & set(parameters)] == []
    (sentence,) = layers.skipped
    assert "Conv" in sentence
    assert "computed by Mul" in sentence


def test_weights_that_depend_on_the_picture_are_listed_too() -> None:
    text = PLAIN.replace(
        "  c2 = Conv <kernel_shape=[3,3]> (r1, w2)",
        "  pick = Slice (r1, zero, one)\n  tile = Reshape (pick, s)\n  c2 = Conv <kernel_shape=[6,6]> (r1, tile)",
    )
    model = model_of(
        text.replace("float[16,16,3,3] w2,", "int64[1] zero = {0}, int64[1] one = {1}, int64[4] s = {1, 16, 6, 6},")
    )
    (sentence,) = find_weight_layers(model).skipped
    assert "computed from the model's input" in sentence


def test_weights_in_constant_nodes_in_branches_and_of_fills_are_layers() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] x, bool big) => (float[N,2] logits)
        <int64[4] s = {4, 3, 3, 3}>
        {
          w1 = ConstantOfShape <value = float[1] {0.5}> (s)
          c1 = Conv <kernel_shape=[3,3]> (x, w1)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (c1)
          logits = If (big) <
            then_branch = large () => (float[N,2] a) {
              w2 = Constant <value = float[4,2] {1, 2, 3, 4, 5, 6, 7, 8}> ()
              a = MatMul (pooled, w2)
            },
            else_branch = small () => (float[N,2] b) {
              w3 = Constant <value = float[4,2] {8, 7, 6, 5, 4, 3, 2, 1}> ()
              b = MatMul (pooled, w3)
            }>
        }"""
    )
    model = store_filled_weights(ir.from_proto(proto))
    layers = find_weight_layers(model).layers
    assert [[p.stored.array.size for p in layer.parameters] for layer in layers] == [[8], [8], [108]]
    assert [layer.is_constant for layer in layers] == [False, False, True]
    before, after = (ir.to_proto(m) for m in (model, randomise(model, layers)))
    branch = [[numpy_helper.to_array(t) for t in m.graph.node[2].attribute[0].g.initializer] for m in (before, after)]
    assert not np.array_equal(branch[0][0], branch[1][0])
    np.testing.assert_array_equal(np.sort(branch[0][0], None), np.sort(branch[1][0], None))


def test_weights_in_an_external_file_are_drawn_again_and_the_file_stays(tmp_path: Path) -> None:
    proto = filled(PLAIN)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    data = (tmp_path / "m.data").read_bytes()
    model = read_model(tmp_path / "m.onnx").model
    drawn = randomise(model, find_weight_layers(model).layers)
    assert changed(model, drawn) == set(arrays(model)) - {"mean"}
    assert (tmp_path / "m.data").read_bytes() == data


def test_a_weight_that_two_layers_share_is_drawn_once_with_the_one_nearest_to_the_output() -> None:
    model = model_of(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,4,8,8] x) => (float[N,4] logits)
        <float[4,4,3,3] w, float[4] b1, float[4] b2>
        {
          c1 = Conv <kernel_shape=[3,3]> (x, w, b1)
          c2 = Conv <kernel_shape=[3,3]> (c1, w, b2)
          logits = ReduceMean <axes=[2,3], keepdims=0> (c2)
        }"""
    )
    layers = find_weight_layers(model).layers
    assert [[p.name for p in layer.parameters] for layer in layers] == [["w", "b2"], ["b1"]]
    one, both = randomise(model, layers[:1]), randomise(model, layers)
    np.testing.assert_array_equal(arrays(one)["w"], arrays(both)["w"])


def test_more_layers_leave_those_drawn_before_as_they_were_and_the_model_itself_stays() -> None:
    model = model_of(PLAIN)
    intact = {name: array.copy() for name, array in arrays(model).items()}
    layers = find_weight_layers(model).layers
    steps = [randomise(model, layers[:k], seed=3) for k in range(4)]
    assert [changed(model, step) for step in steps] == [
        set(),
        {"w3", "b3"},
        {"w3", "b3", "w2", "s2", "t2", "m2", "v2"},
        set(intact) - {"mean"},
    ]
    for one, other in ((1, 2), (2, 3), (1, 3)):
        for name in changed(model, steps[one]):
            np.testing.assert_array_equal(arrays(steps[one])[name], arrays(steps[other])[name])
    for name, array in arrays(model).items():
        np.testing.assert_array_equal(array, intact[name])


def test_layers_of_equal_weights_are_not_drawn_alike_and_a_seed_draws_the_same_again() -> None:
    proto = filled(
        PLAIN.replace("float[16,3,3,3] w1", "float[16,16,3,3] w1")
        .replace("float[N,3,8,8] x", "float[N,16,8,8] x")
        .replace("float[3,1,1]", "float[16,1,1]")
    )
    stored = {t.name: t for t in proto.graph.initializer}
    stored["w2"].raw_data = stored["w1"].raw_data
    model = ir.from_proto(proto)
    layers = find_weight_layers(model).layers
    drawn = arrays(randomise(model, layers))
    assert not np.array_equal(drawn["w1"], drawn["w2"])
    assert changed(randomise(model, layers, seed=1), randomise(model, layers, seed=1)) == set()
    assert "w1" in changed(randomise(model, layers, seed=1), randomise(model, layers, seed=2))
    with pytest.raises(OptionError, match="0 or more"):
        randomise(model, layers, seed=-1)


BIG = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,16,8,8] x) => (float[N,400] logits)
<float[32,16,3,3] w1, float[32] b1, float[32] s, float[32] t, float[32] m, float[32] v, float[400,32] w2>
{
  c1 = Conv <kernel_shape=[3,3]> (x, w1, b1)
  n = BatchNormalization (c1, s, t, m, v)
  pooled = ReduceMean <axes=[2,3], keepdims=0> (n)
  logits = Gemm <transB=1> (pooled, w2)
}"""


def test_normal_keeps_mean_and_deviation_and_variances_positive() -> None:
    model = model_of(BIG)
    drawn = arrays(randomise(model, find_weight_layers(model).layers, Redraw.NORMAL))
    before = arrays(model)
    for name in ("w1", "w2"):
        error = 4 * before[name].std() / np.sqrt(before[name].size)  # four standard errors
        assert abs(drawn[name].mean() - before[name].mean()) < error
        assert abs(drawn[name].std() - before[name].std()) < error
        assert np.intersect1d(drawn[name], before[name]).size < 5  # of thousands, by chance
    assert (drawn["v"] >= 0).all()
    assert not np.array_equal(drawn["v"], before["v"])


def test_he_gives_a_network_that_has_learnt_nothing() -> None:
    model = model_of(BIG)
    drawn = arrays(randomise(model, find_weight_layers(model).layers, Redraw.HE))
    assert drawn["w1"].std() == pytest.approx(np.sqrt(2 / (16 * 9)), rel=0.04)
    assert drawn["w2"].std() == pytest.approx(np.sqrt(2 / 32), rel=0.04)
    assert {name: float(drawn[name].min()) for name in ("b1", "t", "m")} == {"b1": 0, "t": 0, "m": 0}
    assert drawn["s"].min() == drawn["s"].max() == drawn["v"].min() == drawn["v"].max() == 1


@pytest.mark.parametrize("redraw", list(Redraw))
def test_the_stored_type_stays(redraw: Redraw) -> None:
    proto = filled(THROUGH, {"w1": np.float16, "w3": np.int8, "zero3": np.int8})
    half = next(t for t in proto.graph.initializer if t.name == "w1")
    half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(ml_dtypes.bfloat16), "w1"))
    model = ir.from_proto(proto)
    drawn = randomise(model, find_weight_layers(model).layers, redraw)
    types = {name: value.const_value.dtype for name, value in drawn.graph.initializers.items() if value.const_value}
    assert (types["w1"], types["w2"], types["w3"]) == (
        onnx_ir.DataType.BFLOAT16,
        onnx_ir.DataType.FLOAT,
        onnx_ir.DataType.INT8,
    )
    onnx.checker.check_model(ir.to_proto(drawn))


QUANTISED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,16,8,8] x) => (uint8[N,32,6,6] y)
<float sx = {0.1}, uint8 zx = {128}, int8[32,16,3,3] w, float[32] sw, int8[32] zw, float sy = {0.5}, uint8 zy = {100}, int32[32] b>
{
  q = QuantizeLinear (x, sx, zx)
  y = QLinearConv <kernel_shape=[3,3]> (q, sx, zx, w, sw, zw, sy, zy, b)
}"""


def quantised() -> tuple[Model, np.ndarray]:
    proto = filled(QUANTISED, {"w": np.int8, "zw": np.int8, "b": np.int32})
    stored = {t.name: t for t in proto.graph.initializer}
    scale = np.linspace(0.002, 0.01, 32).astype(np.float32)
    stored["sw"].CopyFrom(numpy_helper.from_array(scale, "sw"))
    stored["zw"].CopyFrom(numpy_helper.from_array(np.zeros(32, np.int8), "zw"))
    return ir.from_proto(proto), scale


def test_quantised_weights_are_shuffled_as_stored_and_their_bias_as_real_numbers() -> None:
    model, scale = quantised()
    before, drawn = arrays(model), arrays(randomise(model, find_weight_layers(model).layers))
    assert changed(model, randomise(model, find_weight_layers(model).layers)) == {"w", "b"}
    np.testing.assert_array_equal(np.sort(drawn["w"], None), np.sort(before["w"], None))
    step = 0.1 * scale
    np.testing.assert_allclose(np.sort(drawn["b"] * step), np.sort(before["b"] * step), rtol=0, atol=step.max() / 2)


def test_he_is_written_with_the_scale_of_each_channel() -> None:
    model, scale = quantised()
    drawn = arrays(randomise(model, find_weight_layers(model).layers, Redraw.HE))
    real = drawn["w"][16:] * scale[16:, None, None, None]  # the other scales cut large numbers off
    assert real.std() == pytest.approx(np.sqrt(2 / (16 * 9)), rel=0.05)
    assert not drawn["b"].any()


def test_he_is_refused_where_the_scale_is_computed_and_a_shuffle_is_not() -> None:
    proto = filled(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,3,8,8] x) => (float[N,5] logits)
        <int8[3,5] w, float sw = {0.01}, float[5] b>
        {
          pooled = ReduceMean <axes=[2,3], keepdims=0> (x)
          q, s, z = DynamicQuantizeLinear (pooled)
          i = MatMulInteger (q, w, z)
          f = Cast <to=1> (i)
          both = Mul (s, sw)
          r = Mul (f, both)
          logits = Add (r, b)
        }""",
        {"w": np.int8},
    )
    model = ir.from_proto(proto)
    layers = find_weight_layers(model)
    assert names(layers) == [["w", "b"]]
    assert changed(model, randomise(model, layers.layers)) == {"w", "b"}
    with pytest.raises(OptionError, match=r"scale of the quantised weights 'w'"):
        randomise(model, layers.layers, Redraw.HE)
