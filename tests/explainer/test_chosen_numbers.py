"""Numbers of outputs whose rows the picture chooses are refused, and prototypes of masks are called so."""

import onnx
import pytest
from detectors import QUERIES, TAILS, detector
from small_models import filled

from onnxcam import Explainer
from onnxcam.errors import ModelError
from onnxcam.types import NoteCode

POOLED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,8,8] x) => (float[1,6] y, float[1,2,3] parts)
<float[6,3,3,3] w, float[6,6] v, int64[3] flat = {1,6,-1}, int64[1] k = {4}, int64[3] apart = {1,2,3}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
  f = Relu (c)
  cells = Reshape (f, flat)
  best, where = TopK <axis=2> (cells, k)
  mean = ReduceMean <axes=[2], keepdims=0> (best)
  y = MatMul (mean, v)
  parts = Reshape (y, apart)
}"""
"""A classifier that pools the four largest numbers of each channel."""


def opened(model: onnx.ModelProto, output: str, kind: str = "elements") -> tuple[str, str]:
    """The output that is scored, and the kind of its targets."""
    with Explainer(model, "score-cam", providers=["cpu"], preset="raw", output=output, kind=kind) as explainer:
        return explainer.anatomy.logits.output, str(explainer.anatomy.logits.kind)


@pytest.mark.parametrize("tail", TAILS)
def test_a_number_of_what_a_detector_chose_is_refused(tail: str) -> None:
    model = detector(tail)
    names = [o.name for o in model.graph.output if o.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    for name in names:
        with pytest.raises(ModelError, match=r"for every\s+masked image|no numbers of a known shape"):
            opened(model, name)


@pytest.mark.parametrize("output", ["logits", "boxes"])
def test_a_number_of_a_query_that_is_chosen_is_refused_with_the_way_out(output: str) -> None:
    with pytest.raises(ModelError, match=r"chosen by TopK.*--box ROW --target CLASS"):
        opened(filled(QUERIES, seed=3, check=False), output)


def test_numbers_at_fixed_places_are_explained() -> None:
    assert opened(filled(POOLED), "parts") == ("parts", "elements")
    assert opened(filled(POOLED), "y") == ("y", "elements")
    assert opened(detector("s2 = Identity (scores)", outputs="float[1,16,3] s2"), "s2") == ("s2", "elements")


SEGMENTER = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,3,16,16] x) => (float[1,{columns},16] table, float[1,8,8,8] maps)
<float[6,3,3,3] w, float[4,6,1,1] ws, float[3,6,1,1] wc, float[8,6,1,1] wm, float[8,3,3,3] wp, float[4,3,1,1] shrink,
 int64[3] s = {{1,4,-1}}, int64[3] c = {{1,3,-1}}, int64[3] m = {{1,8,-1}}>
{{
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Relu (f0)
  a = Conv (f, ws)  a3 = Reshape (a, s)  sides = Softplus (a3)
  b = Conv (f, wc)  b3 = Reshape (b, c)  scores = Sigmoid (b3)
  d = Conv (f, wm)  coefficients = Reshape (d, m)
  table = Concat <axis=1> ({parts})
  p = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, wp)
  maps = Relu (p)
}}"""


@pytest.mark.parametrize("coefficients", [True, False])
def test_prototypes_beside_a_table_are_no_classes(coefficients: bool) -> None:
    parts = "sides, scores" + (", coefficients" if coefficients else "")
    model = filled(SEGMENTER.format(parts=parts, columns=7 + 8 * coefficients), check=False)
    for options in ({"output": "maps"}, {"output": "maps", "kind": "region"}, {"kind": "region"}):
        with Explainer(model, "score-cam", providers=["cpu"], preset="raw", **options) as explainer:  # type: ignore[arg-type]
            codes = {note.code for note in explainer.anatomy.notes}
        assert (NoteCode.PROTOTYPES in codes) == coefficients
