"""One number of a detector's table is explained by the map that its box is predicted from, on tables of one scale too."""

import numpy as np
import pytest
from small_models import filled

from onnxcam import Box, Element, Explainer
from onnxcam.types import NoteCode

IMAGE = np.random.default_rng(2).standard_normal((3, 16, 16)).astype(np.float32)
ONE_SCALE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,16] x) => ({outputs})
<float[6,3,3,3] w, float[4,6,1,1] ws, float[3,6,1,1] wc, int64[3] s = {{0,4,-1}}, int64[3] c = {{0,3,-1}}>
{{
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Tanh (f0)
  a = Conv (f, ws)
  a3 = Reshape (a, s)
  sides = Softplus (a3)
  b = Conv (f, wc)
  b3 = Reshape (b, c)
  scores = Sigmoid (b3)
  {end}
}}"""
TURN = "= Transpose <perm=[0,2,1]>"
JOIN = "= Concat <axis=1> (sides, scores)"
TABLES = {
    "columns": ("float[N,7,16] t", f"t {JOIN}", "t", lambda box, c: (4 + c, box)),
    "rows": ("float[N,16,7] t", f"u {JOIN} t {TURN} (u)", "t", lambda box, c: (box, 4 + c)),
    "apart": ("float[N,16,3] t, float[N,16,4] b4", f"t {TURN} (scores) b4 {TURN} (sides)", "t", lambda box, c: (box, c)),
    "apart, columns": ("float[N,3,16] scores, float[N,4,16] sides", "", "scores", lambda box, c: (c, box)),
}  # fmt: skip


@pytest.mark.parametrize("method", ["grad-cam", "score-cam"])
@pytest.mark.parametrize("form", TABLES)
def test_the_number_of_a_box_for_a_class_has_the_map_of_the_box(form: str, method: str) -> None:
    outputs, end, name, index = TABLES[form]
    with Explainer(filled(ONE_SCALE.format(outputs=outputs, end=end)), method, providers=["cpu"], preset="raw") as e:
        box = e(IMAGE, Box(5, 2, name))
        number = e(IMAGE, Element(index(5, 2), name))
    assert number.provenance.layer == box.provenance.layer == "f"
    assert number.provenance.layer_reason == box.provenance.layer_reason
    assert number.target.logit == pytest.approx(box.target.logit, abs=1e-6)
    np.testing.assert_allclose(number.map, box.map, atol=1e-5)
    assert NoteCode.OTHER_SCALES not in {note.code for note in number.provenance.notes}


@pytest.mark.parametrize(
    ("form", "name", "index"), [("apart", "b4", (5, 3)), ("apart, columns", "sides", (3, 5)), ("columns", "t", (3, 5))]
)
def test_a_side_of_a_box_is_explained_by_the_same_map(form: str, name: str, index: tuple[int, int]) -> None:
    outputs, end, _, _ = TABLES[form]
    with Explainer(
        filled(ONE_SCALE.format(outputs=outputs, end=end)), "grad-cam", providers=["cpu"], preset="raw"
    ) as e:
        side = e(IMAGE, Element(index, name))
    assert side.provenance.layer == "f"


MIXED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,16] x) => (float[N,22] y)
<float[6,3,3,3] w, float[6,6,3,3] u, float[1,6,1,1] h1, float[1,6,1,1] h2, int64[2] flat = {0,-1}, int64[1] two = {2},
 int64[1] zero = {0}, int64[1] one = {1}>
{
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Relu (f0)
  g0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (f, u)
  g = Relu (g0)
  a4 = Conv (f, h1)
  a = Reshape (a4, flat)
  b4 = Conv (g, h2)
  b = Reshape (b4, flat)
  a2 = Slice (a, zero, two, one)
  b2 = Slice (b, zero, two, one)
  m = Mul (a2, b2)
  y = Concat <axis=1> (a, b, m)
}"""


def test_numbers_of_several_scales_are_noted() -> None:
    with Explainer(filled(MIXED), "grad-cam", providers=["cpu"], preset="raw") as e:
        fine, coarse, mixed = e.explain(IMAGE, [Element((i,), "y") for i in (3, 17, 21)])
    assert (fine.provenance.layer, coarse.provenance.layer, mixed.provenance.layer) == ("f", "g", "g")
    assert NoteCode.OTHER_SCALES in {note.code for note in mixed.provenance.notes}
