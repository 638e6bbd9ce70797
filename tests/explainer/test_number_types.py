"""Models in number types that onnxruntime's CPU has no layers for: the map is that of the same weights in float32."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import CLASSIFIER, Make

from onnxcam import Explainer
from onnxcam.outputs.saliency import Saliency
from onnxcam.types import NoteCode

IMAGE = np.random.default_rng(5).standard_normal((3, 16, 12)).astype(np.float32)
WITH_IF = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N,3,16,12] x) => (float[N,5] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3, bool yes = {1}>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = If (yes) <
    then_branch = a () => (float[a,b,c,d] r2) { r2 = Relu (c1) },
    else_branch = b () => (float[a,b,c,d] r3) { r3 = Tanh (c1) }
  >
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, w3, b3)
}
"""


def bfloat16(array: np.ndarray) -> TensorProto:
    return helper.make_tensor(
        "", TensorProto.BFLOAT16, array.shape, array.astype(ml_dtypes.bfloat16).view(np.uint16).tobytes(), raw=True
    )


def double(array: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(array.astype(np.float64))


def converted(model: onnx.ModelProto, store: Callable[[np.ndarray], TensorProto], *, casts: bool) -> onnx.ModelProto:
    """The model with its weights in another type; the type of its input and output too, or Casts around it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    dtype = store(np.zeros(1, np.float32)).data_type
    for weight in copy.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            name = weight.name
            weight.CopyFrom(store(numpy_helper.to_array(weight)))
            weight.name = name
    if casts:
        for node in copy.graph.node:
            node.input[:] = ["x/inner" if name == "x" else name for name in node.input]
            node.output[:] = ["logits/inner" if name == "logits" else name for name in node.output]
        copy.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x/inner"], to=dtype))
        copy.graph.node.append(helper.make_node("Cast", ["logits/inner"], ["logits"], to=TensorProto.FLOAT))
    else:
        for value in (*copy.graph.input, *copy.graph.output):
            value.type.tensor_type.elem_type = dtype
    for node in copy.graph.node:
        for attribute in node.attribute:
            for value in attribute.g.output:
                value.type.tensor_type.elem_type = dtype
    del copy.graph.value_info[:]
    return copy


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the weights that bfloat16 can hold, in float32."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for weight in copy.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(weight).astype(ml_dtypes.bfloat16).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return copy


def explained(model: onnx.ModelProto, method: str) -> Saliency:
    with Explainer(model, method, preset="imagenet", providers=["cpu"]) as explainer:
        return explainer(IMAGE, 2)


@pytest.mark.parametrize("casts", [True, False])
@pytest.mark.parametrize("text", [CLASSIFIER, WITH_IF])
@pytest.mark.parametrize("method", ["score-cam", "grad-cam"])
def test_bfloat16_is_explained_in_float32_with_a_note(make: Make, text: str, method: str, casts: bool) -> None:
    model = make(text)
    saliency = explained(converted(model, bfloat16, casts=casts), method)
    np.testing.assert_array_equal(saliency.map, explained(rounded(model), method).map)
    notes = [note for note in saliency.provenance.notes if note.code is NoteCode.COMPUTED_IN_FLOAT32]
    assert ["bfloat16" in note.text for note in notes] == [True]


@pytest.mark.parametrize("casts", [True, False])
def test_double_precision_is_explained_in_float32_with_a_note(make: Make, casts: bool) -> None:
    model = make(CLASSIFIER)
    saliency = explained(converted(model, double, casts=casts), "grad-cam")
    np.testing.assert_array_equal(saliency.map, explained(model, "grad-cam").map)
    notes = [note for note in saliency.provenance.notes if note.code is NoteCode.COMPUTED_IN_FLOAT32]
    assert ["double" in note.text for note in notes] == [True]


def test_a_model_in_float32_has_no_such_note(make: Make) -> None:
    notes = explained(make(CLASSIFIER), "grad-cam").provenance.notes
    assert all(note.code is not NoteCode.COMPUTED_IN_FLOAT32 for note in notes)


PIXELS_IN = """
<ir_version: 8, opset_import: ["" : 17]>
pixels (TYPE[N,16,12,3] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v, float shift = {SHIFT}, float part = {0.004}>
{
  real = Cast <to=1> (x)
  n = Transpose <perm=[0,3,1,2]> (real)
  m = Add (n, shift)
  s = Mul (m, part)
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (s, w)
  f = Relu (c)
  p = ReduceMean <axes=[2,3], keepdims=0> (f)
  logits = MatMul (p, v)
}
"""
PICTURE = np.random.default_rng(6).integers(0, 256, (16, 12, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("dtype", "shift", "method"),
    [(t, 0, m) for t in ("int32", "int64", "uint16", "int16") for m in ("score-cam", "grad-cam", "rise")]
    # What is removed is 0, which is black for bytes and grey for int8, so only a gradient is the same.
    + [("int8", 128, "grad-cam")],
)
def test_an_input_of_any_integers_takes_pixels_as_one_of_bytes_does(
    make: Make, dtype: str, shift: int, method: str
) -> None:
    def saliency(text: str, offset: int) -> Saliency:
        model = make(PIXELS_IN.replace("TYPE", text).replace("SHIFT", str(offset)))
        with Explainer(model, method, providers=["cpu"]) as explainer:
            return explainer(PICTURE, 2)

    result, expected = saliency(dtype, shift), saliency("uint8", 0)
    assert result.provenance.preset.name.startswith("raw")
    np.testing.assert_allclose(result.map, expected.map, atol=1e-5)
