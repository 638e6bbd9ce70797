"""compile() of exports for one image whose outputs have no batch axis: they stay as they are, one image a run."""

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import filled

import onnxcam
from onnxcam.compiler.compiled import compile
from onnxcam.compiler.model_outputs import _check_output
from onnxcam.errors import CompileError

Array = np.ndarray
IMAGE = np.random.default_rng(3).standard_normal((1, 3, 16, 12)).astype(np.float32)

TRUNK = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[1,3,16,12] x) => (OUTPUTS)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[8,5] w3, float[5] b3>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
  pooled = GlobalAveragePool (features)
HEAD
}
"""
SQUEEZED = """  flat = Squeeze (pooled)
  product = MatMul (flat, w3)
  logits = Add (product, b3)
"""
KEPT = """  flat = Flatten (pooled)
  product = MatMul (flat, w3)
  scores = Add (product, b3)
"""
HEADS = {
    "squeezed": ("float[5] logits", SQUEEZED),
    "reshaped": (
        "float[5] logits",
        KEPT + "  five = Constant <value_ints=[5]> ()\n  logits = Reshape (scores, five)",
    ),
    "beside probabilities with the axis": (
        "float[5] logits, float[1,5] p",
        KEPT + "  axis = Constant <value_ints=[0]> ()\n  logits = Squeeze (scores, axis)\n  p = Softmax (scores)",
    ),
    "beside numbers": (
        "float[5] logits, int64 best, float top",
        SQUEEZED + "  best = ArgMax <keepdims=0> (logits)\n  top = ReduceMax <keepdims=0> (logits)",
    ),
    "rows of cells": (
        "float[1,5] logits, float[12,8] rows",
        KEPT
        + """  logits = Identity (scores)
  sides = Constant <value_ints=[8,12]> ()
  columns = Reshape (features, sides)
  rows = Transpose (columns)""",
    ),
}
"""Outputs and the end of a graph, by what is special of them."""


def model_of(head: str) -> onnx.ModelProto:
    outputs, nodes = HEADS[head]
    return filled(TRUNK.replace("OUTPUTS", outputs).replace("HEAD", nodes))


def run(data: bytes, feeds: dict[str, Array]) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def check(model: onnx.ModelProto, compiled: onnxcam.Compiled) -> None:
    """The model's own outputs are those of its file, and each of three maps is that of an Explainer."""
    results = run(compiled.bytes, {"x": IMAGE, "target": np.asarray([-1, 1, 3])})
    for name, expected in run(model.SerializeToString(), {"x": IMAGE}).items():
        assert results[name].shape == expected.shape
        assert results[name].dtype == expected.dtype
        np.testing.assert_allclose(results[name], expected, rtol=1e-4, atol=1e-5)
    own = {o.name: tuple(d.dim_value or 1 for d in o.type.tensor_type.shape.dim) for o in model.graph.output}
    assert {t.name: t.shape for t in compiled.interface.outputs if t.name in own} == own
    with onnxcam.Explainer(model, compiled.method, providers=["cpu"], output="logits") as explain:
        for i, target in enumerate((None, 1, 3)):
            expected = explain(IMAGE[0], target)
            assert results["saliency_target"][i] == expected.target.index
            np.testing.assert_allclose(results["saliency_map"][i], expected.map, atol=1e-5)


@pytest.mark.parametrize(
    ("head", "method"),
    [
        *((head, method) for head in HEADS for method in ("grad-cam", "score-cam")),
        *(("squeezed", method) for method in ("recipro-cam", "gradient", "integrated-gradients")),
    ],
)
def test_outputs_of_an_export_for_one_image_keep_their_shape(head: str, method: str) -> None:
    model = model_of(head)
    compiled = compile(model, method, output="logits")
    assert compiled.interface.inputs[0].shape == (1, 3, 16, 12)
    check(model, compiled)


@pytest.mark.parametrize("head", ["beside probabilities with the axis", "rows of cells"])
def test_an_export_that_declares_any_batch_and_fixes_an_output_gives_it_for_one_image(head: str) -> None:
    outputs, nodes = HEADS[head]
    text = TRUNK.replace("OUTPUTS", outputs).replace("HEAD", nodes).replace("[1,", "[N,", 1)
    model = filled(text.replace("float[1,5]", "float[N,5]"))
    compiled = compile(model, output="logits")
    assert compiled.interface.inputs[0].shape == (1, 3, 16, 12)
    check(model, compiled)


def test_outputs_that_turn_the_batch_axis_keep_one_entry_for_each_image() -> None:
    nodes = KEPT + "  logits = Identity (scores)\n  turned = Transpose (scores)"
    model = filled(TRUNK.replace("OUTPUTS", "float[1,5] logits, float[5,1] turned").replace("HEAD", nodes))
    results = run(compile(model, output="logits").bytes, {"x": IMAGE, "target": np.asarray([-1, 1, 3])})
    np.testing.assert_allclose(results["turned"], run(model.SerializeToString(), {"x": IMAGE})["turned"], rtol=1e-5)


def test_another_shape_is_a_sentence_with_the_way_out() -> None:
    with pytest.raises(
        CompileError, match=r"float32 \[1, 5\] where the model gives float32 \[5\].*without that output"
    ):
        _check_output("logits", np.zeros((1, 5), np.float32), np.zeros(5, np.float32), 1e-5)


def test_outputs_that_keep_the_axis_leave_any_number_of_images() -> None:
    model = filled(TRUNK.replace("OUTPUTS", "float[1,5] logits").replace("HEAD", KEPT + "  logits = Identity (scores)"))
    compiled = compile(model)
    assert compiled.interface.inputs[0].shape == ("N", 3, 16, 12)
    assert run(compiled.bytes, {"x": np.repeat(IMAGE, 2, axis=0), "target": np.asarray([1])})["logits"].shape == (2, 5)


def test_a_file_of_raw_pictures_keeps_them_too() -> None:
    model = model_of("squeezed")
    compiled = compile(model, raw=True, preset="imagenet")
    picture = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    results = run(compiled.bytes, {"picture": picture, "target": np.asarray([-1, 2])})
    with onnxcam.Explainer(model, "grad-cam", providers=["cpu"], preset="imagenet") as explain:
        image = explain.prepare(picture).image
    np.testing.assert_allclose(results["logits"], run(model.SerializeToString(), {"x": image[None]})["logits"], 1e-4)
    assert results["saliency_picture"].shape == (2, 20, 30)


def test_triton_gets_whole_shapes() -> None:
    config = compile(model_of("squeezed")).triton_config("tiny")
    assert "max_batch_size: 0" in config
    assert "dims: [ 1, 3, 16, 12 ]" in config
    assert "dims: [ 5 ]" in config
