"""What a graph does to its image before the first layer, against the numbers that reach that layer."""

import numpy as np
import onnx
import onnx.parser
import pytest
from normalising import PRELUDES, normalising
from onnx.reference import ReferenceEvaluator
from small_models import filled

from onnxcam.surgeon.analysis.images import find_image
from onnxcam.surgeon.analysis.normalisation import read_normalisation
from onnxcam.surgeon.loading import read_model

KNOWN = {p.name: p for p in PRELUDES}


@pytest.mark.parametrize("name", [p.name for p in PRELUDES if not p.lossy])
@pytest.mark.parametrize("batch", ["1", "N"])
def test_the_folded_numbers_are_those_that_reach_the_first_layer(name: str, batch: str) -> None:
    prelude = KNOWN[name]
    proto = normalising(prelude, batch=batch)
    image = find_image(read_model(proto).model, prelude.layout)
    (normalisation,) = read_normalisation(read_model(proto).model, image)
    shape = image.shape((6, 8))
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(image.dtype)
    entering = ReferenceEvaluator(_ending_in(proto, "n")).run(None, {image.name: pixels})[0]
    channels = np.moveaxis(pixels, image.layout.index("C"), 1).astype(np.float64)
    folded = (
        channels[:, list(normalisation.order)] * np.reshape(normalisation.scale, (-1, 1, 1))
        + np.reshape(normalisation.offset, (-1, 1, 1))
    )  # fmt: skip
    np.testing.assert_allclose(
        entering, folded, rtol=2e-3 if prelude.half else 1e-4, atol=2e-2 if prelude.half else 1e-4
    )


def _ending_in(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model up to a tensor."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    nodes = list(model.graph.node)
    last = next(i for i, node in enumerate(nodes) if name in node.output)
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes[: last + 1])
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model


def read(text: str) -> tuple[object, ...]:
    model = read_model(filled(text)).model
    return read_normalisation(model, find_image(model))


REST = """
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (n, w)
  f = Relu (c)
  g = GlobalAveragePool (f)
  p = Flatten (g)
  logits = MatMul (p, v)
"""


def test_a_batch_normalisation_a_convolution_and_the_pictures_own_statistics_are_no_normalisation() -> None:
    for prelude in (
        "n = BatchNormalization (x, s, b, m, s)",
        "n = Conv <kernel_shape=[1,1]> (x, k)",
        "mean = ReduceMean <axes=[1,2,3], keepdims=1> (x)\n  n = Sub (x, mean)",
        "n = InstanceNormalization (x, s, b)",
    ):
        (normalisation,) = read(
            f"""<ir_version: 8, opset_import: ["" : 13]>
            net (float[1,3,6,8] x) => (float[1,5] logits)
            <float[8,3,3,3] w, float[8,5] v, float[3] s = {{58.0, 57.0, 57.4}}, float[3] b, float[3] m, float[3,3,1,1] k>
            {{ {prelude} {REST} }}"""
        )
        assert normalisation.is_identity  # type: ignore[attr-defined]


def test_layers_that_take_different_numbers_are_told_apart() -> None:
    normalisations = read(
        f"""<ir_version: 8, opset_import: ["" : 13]>
        net (float[1,3,6,8] x) => (float[1,5] logits)
        <float[8,3,3,3] w, float[8,5] v, float[3,3,1,1] k, float d = {{255.0}}>
        {{ a = Div (x, d)
           b = Conv <kernel_shape=[1,1]> (a, k)
           e = Conv <kernel_shape=[1,1]> (x, k)
           n = Add (b, e) {REST} }}"""
    )
    assert len(normalisations) == 2


def test_parts_of_the_picture_that_are_stacked_count_as_one_picture() -> None:
    part = "<float[8,12,3,3] w, float[8,5] v, float d = {255.0}, int64[2] hw = {2, 3}, int64[2] step = {2, 2}, "
    starts = ", ".join(f"int64[2] s{i}{j} = {{{i}, {j}}}" for i in (0, 1) for j in (0, 1))
    slices = " ".join(f"p{i}{j} = Slice (a, s{i}{j}, end, hw, step)" for i in (0, 1) for j in (0, 1))
    (normalisation,) = read(
        f"""<ir_version: 8, opset_import: ["" : 13]>
        net (float[1,3,6,8] x) => (float[1,5] logits)
        {part} int64[2] end = {{100, 100}}, {starts}>
        {{ a = Div (x, d) {slices} n = Concat <axis=1> (p00, p10, p01, p11) {REST} }}"""
    )
    assert normalisation.order == (0, 1, 2)  # type: ignore[attr-defined]
    np.testing.assert_allclose(normalisation.scale, [1 / 255] * 3)  # type: ignore[attr-defined]


def test_a_quantised_input_says_what_it_can_hold() -> None:
    (normalisation,) = read(
        f"""<ir_version: 8, opset_import: ["" : 13]>
        net (float[1,3,6,8] x) => (float[1,5] logits)
        <float[8,3,3,3] w, float[8,5] v, float s = {{0.02}}, uint8 z = {{100}}>
        {{ q = QuantizeLinear (x, s, z) n = DequantizeLinear (q, s, z) {REST} }}"""
    )
    assert normalisation.is_identity  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        [normalisation.lowest, normalisation.highest],
        [-2.0, 3.1],
        rtol=1e-6,  # type: ignore[attr-defined]
    )
