"""Shapes that follow by hand from those of the inputs, and what onnx is asked."""

import onnx
from small_models import Make

from onnxcam.surgeon import ir, shape_inference
from onnxcam.surgeon.shape_inference import infer_shapes

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'


def test_shapes_follow_from_those_of_the_inputs_not_from_recorded_ones(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,H,W] x) => (float[7,7] y)
    <float[8,3,3,3] w, float[1,1,1,5] p>
    {{
      c = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w)
      r = Relu (c)
      g = GlobalAveragePool (r)
      y = Mul (g, p)
    }}"""
    model = ir.from_proto(make(text, check=False))
    shapes = {"x": (2, 3, 9, 6), "c": (2, 8, 5, 3), "r": (2, 8, 5, 3), "g": (2, 8, 1, 1), "y": (2, 8, 1, 5)}
    assert infer_shapes(model, {"x": (2, 3, 9, 6)}) == shapes
    assert list(infer_shapes(model, {"x": (2, 3, 9, 6)})) == list(shapes)


def test_a_shape_that_onnx_cannot_infer_is_the_recorded_one(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,8] x) => (float[1,4,8,8] y)
    <float[4,3,1,1] w>
    {{
      f = com.microsoft.FusedConv <activation="Relu"> (x, w)
      y = Identity (f)
    }}"""
    proto = make(text, check=False)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, (1, 4, 8, 8)))
    shapes = infer_shapes(ir.from_proto(proto), {})
    assert shapes["f"] == (1, 4, 8, 8)
    assert shapes["y"] == (1, 4, 8, 8)


def test_sizes_in_a_weight_are_read_and_a_large_weight_gives_its_shape_alone(make: Make) -> None:
    text = f"""{HEAD}net (float[1,3,8,8] x) => (float[1,M] y)
    <int64[2] to = {{1, -1}}, float[192,400] w>
    {{
      flat = Reshape (x, to)
      y = MatMul (flat, w)
    }}"""
    model = ir.from_proto(make(text, check=False))
    proto = shape_inference._without_weights(model, {})
    assert [t.name for t in proto.graph.initializer] == ["to"]
    assert proto.ByteSize() < 1000
    assert infer_shapes(model, {}) == {"x": (1, 3, 8, 8), "flat": (1, 192), "y": (1, 400)}


def test_the_model_keeps_its_own_shapes(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3] x) => (float[N,3] y) {{ y = Relu (x) }}"""
    model = ir.from_proto(make(text, check=False))
    before = ir.to_bytes(model)
    infer_shapes(model, {"x": (4, 3)})
    assert ir.to_bytes(model) == before
