"""Whether a table holds corners or centres is read from the arithmetic that computes it."""

import pytest
from small_models import filled

from onnxcam.surgeon.analysis.anatomy import Kind
from onnxcam.surgeon.analysis.locate import locate
from onnxcam.surgeon.ir import from_proto

START = """<ir_version: 8, opset_import: ["" : {opset}]>
detector (float[1,3,16,16] x) => (float[{shape}] table{outputs})
<float[8,3,3,3] w, float[11,8,1,1] h, float[4,8,1,1] h4, int64[3] flat = {{0, 0, -1}}, int64[2] four = {{4, 7}}, int64[4] one = {{1, 1, 1, 1}},
 int64[2] two = {{2, 2}}, float[1,2,16] anchors, float[1,1,16] strides, float half = {{0.5}}, float twice = {{2}},
 int64[1] n0 = {{0}}, int64[1] n2 = {{2}}, int64[1] n4 = {{4}}, int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}}>
{{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  features = Relu (c)
  head = Conv (features, h)
  raw = Reshape (head, flat)
  side, class = Split <axis=1> (raw, four)
  score = Sigmoid (class)
"""
"""16 cells; `side` (1,4,16) are a box's four raw numbers, `score` (1,7,16) its classes."""
FCOS = "lt, rb = Split <axis=1> (side, two) low = Sub (anchors, lt) high = Add (anchors, rb)"
BODIES = {
    # the distances to the four sides, then the corners, times the stride
    "corners": (True, FCOS + " box = Concat <axis=1> (low, high) scaled = Mul (box, strides) table = Concat <axis=1> (scaled, score)"),
    # the same as centre and extent, as YOLOv8 and v11 are exported
    "centres": (False, FCOS + " sum = Add (low, high) mid = Mul (sum, half) ext = Sub (high, low) box = Concat <axis=1> (mid, ext) scaled = Mul (box, strides) table = Concat <axis=1> (scaled, score)"),
    "centres divided": (False, FCOS + " sum = Add (low, high) mid = Div (sum, twice) ext = Sub (high, low) box = Concat <axis=1> (mid, ext) scaled = Mul (strides, box) table = Concat <axis=1> (scaled, score)"),
    # cells of a grid and the square of a sigmoid, as in YOLOv5
    "yolov5": (False, "s = Sigmoid (side) xy, wh = Split <axis=1> (s, two) d = Mul (xy, twice) g = Add (d, anchors) xys = Mul (g, strides) e = Mul (wh, twice) p = Pow (e, twice) whs = Mul (p, anchors) table = Concat <axis=1> (xys, whs, score)"),
    # cells of a grid and an exponential, as in YOLOX
    "yolox": (False, "xy, wh = Split <axis=1> (side, two) g = Add (xy, anchors) xys = Mul (g, strides) e = Exp (wh) whs = Mul (e, strides) table = Concat <axis=1> (xys, whs, score)"),
    # centres turned to corners, column by column, as DETR's post-processing does
    "stacked corners": (True, "r = Sigmoid (side) cx, cy, bw, bh = Split <axis=1> (r, one) hw = Mul (bw, half) hh = Mul (bh, half) x0 = Sub (cx, hw) y0 = Sub (cy, hh) x1 = Add (cx, hw) y1 = Add (cy, hh) table = Concat <axis=1> (x0, y0, x1, y1, score)"),
    # a slice for each pair, and clipped to the picture
    "sliced and clipped": (True, "lt = Slice (side, n0, n2, axis1) rb = Slice (side, n2, n4, axis1) low = Sub (anchors, lt) high = Add (anchors, rb) box = Concat <axis=1> (low, high) cut = Clip (box) table = Concat <axis=1> (cut, score)"),
    # the anchors and signed distances in one sum: nothing tells which columns are corners
    "one sum": (None, "lt, rb = Split <axis=1> (side, two) n = Neg (lt) d = Concat <axis=1> (n, rb) a = Concat <axis=1> (anchors, anchors) box = Add (d, a) table = Concat <axis=1> (box, score)"),
    "a perceptron": (None, "s = Sigmoid (side) table = Concat <axis=1> (s, score)"),
    # scales are joined after the boxes are made
    "joined scales": (True, FCOS + " box = Concat <axis=1> (low, high) one_scale = Concat <axis=1> (box, score) table = Concat <axis=2> (one_scale, one_scale)"),
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("name", BODIES)
def test_the_arithmetic_says_what_a_tables_sides_are(name: str, opset: int) -> None:
    corners, body = BODIES[name]
    shape = "1,11,32" if name == "joined scales" else "1,11,16"
    proto = filled(START.format(shape=shape, outputs="", opset=opset) + body + "\n}")
    logits = locate(from_proto(proto), kind=Kind.BOXES).logits
    assert logits.kind is Kind.BOXES
    assert logits.corners is corners


@pytest.mark.parametrize("name", ["corners", "centres", "stacked corners", "a perceptron"])
@pytest.mark.parametrize("apart", [False, True])
def test_rows_and_an_output_of_their_own_say_the_same(name: str, apart: bool) -> None:
    """Boxes as rows of 16, with an objectness, and as an output beside the scores."""
    corners, body = BODIES[name]
    body = body.replace("table = Concat", "all = Concat")
    if apart:
        body = body.replace(", score)", ")")
        end = "boxes = Transpose <perm=[0,2,1]> (all) table = Transpose <perm=[0,2,1]> (score)"
        text = START.format(shape="1,16,7", outputs=", float[1,16,4] boxes", opset=17)
    else:
        end = "table = Transpose <perm=[0,2,1]> (all)"
        text = START.format(shape="1,16,11", outputs="", opset=17)
    logits = locate(from_proto(filled(text + body + " " + end + "\n}")), kind=Kind.BOXES).logits
    assert logits.sides_output == ("boxes" if apart else None)
    assert logits.corners is corners


def test_columns_stacked_along_a_new_last_axis_are_followed() -> None:
    body = """
  cx, cy, bw, bh = Split <axis=1> (side, one)
  hw = Mul (bw, half)
  left = Sub (cx, hw)
  right = Add (cx, hw)
  l = Squeeze (left, axis1)
  r = Squeeze (right, axis1)
  a = Unsqueeze (l, axis2)
  b = Unsqueeze (r, axis2)
  box = Concat <axis=2> (a, a, b, b)
  rows = Transpose <perm=[0,2,1]> (score)
  table = Concat <axis=2> (box, rows)
}"""
    proto = filled(START.format(shape="1,16,11", outputs="", opset=17) + body)
    assert locate(from_proto(proto), kind=Kind.BOXES).logits.corners is True
