"""From which feature map a row of a detector's table is predicted, traced through the graph."""

from collections.abc import Callable

import onnx
import pytest
from located import HEAD, anatomy_of
from small_models import filled

from onnxcam.surgeon.analysis.anatomy import Anatomy, Kind
from onnxcam.types import NoteCode

Make = Callable[[str], onnx.ModelProto]

TRUNK = """
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
      fine = Relu (c)
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (fine, u)
      coarse = Relu (d)"""
"""16 and 4 cells."""
BRANCHES = """
      box1 = Conv (fine, b1)
      class1 = Conv (fine, k1)
      box2 = Conv (coarse, b2)
      class2 = Conv (coarse, k2)"""
WEIGHTS = (
    "float[8,3,3,3] w, float[8,8,3,3] u, float[4,8,1,1] b1, float[6,8,1,1] k1, float[4,8,1,1] b2, float[6,8,1,1] k2"
)


def detector(nodes: str, weights: str = "", shape: str = "1,10,20", opset: int = 17) -> onnx.ModelProto:
    head = HEAD.replace("17", str(opset))
    text = f"{head}net (float[1,3,16,16] x) => (float[{shape}] boxes) <{WEIGHTS}{weights}> {{{TRUNK}{BRANCHES}{nodes}}}"
    return filled(text)


def rows_by_map(anatomy: Anatomy) -> dict[str, tuple[tuple[int, int], ...]]:
    return {scale.features.tensor: scale.rows for scale in anatomy.scales}


PER_SCALE = """
      p1 = Sigmoid (class1)
      p2 = Sigmoid (class2)
      all1 = Concat <axis=1> (box1, p1)
      all2 = Concat <axis=1> (box2, p2)
      t1 = Reshape (all1, s)
      t2 = Reshape (all2, s)
      boxes = Concat <axis=2> (t1, t2)"""
JOINED_FIRST = """
      a1 = Concat <axis=1> (box1, class1)
      a2 = Concat <axis=1> (box2, class2)
      t1 = Reshape (a1, s)
      t2 = Reshape (a2, s)
      raw = Concat <axis=2> (t1, t2)
      side, class = Split <axis=1> (raw, parts)
      middle = Slice (side, zero, two, one)
      extent = Slice (side, two, four, one)
      placed = Add (middle, grid)
      prob = Sigmoid (class)
      boxes = Concat <axis=1> (placed, extent, prob)"""
COARSE_FIRST = """
      a1 = Concat <axis=1> (box1, class1)
      a2 = Concat <axis=1> (box2, class2)
      n1 = Transpose <perm=[0,2,3,1]> (a1)
      n2 = Transpose <perm=[0,2,3,1]> (a2)
      t1 = Reshape (n1, r)
      t2 = Reshape (n2, r)
      table = Concat <axis=1> (t2, t1)
      boxes = Transpose <perm=[0,2,1]> (table)"""
PARTS = ", int64[2] parts = {4, 6}, int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[1] one = {1}"


@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        (PER_SCALE, ", int64[3] s = {0, 0, -1}", {"fine": ((0, 16),), "coarse": ((16, 20),)}),
        (
            JOINED_FIRST,
            f", int64[3] s = {{0, 0, -1}}, float[1,2,20] grid{PARTS}",
            {"fine": ((0, 16),), "coarse": ((16, 20),)},
        ),
        (COARSE_FIRST, ", int64[3] r = {0, -1, 10}", {"fine": ((4, 20),), "coarse": ((0, 4),)}),
    ],
    ids=["decoded per scale", "decoded after joining", "coarse map first"],
)
def test_rows_of_a_table_are_traced_to_the_map_before_the_branches_of_their_scale(
    nodes: str, weights: str, expected: dict[str, tuple[tuple[int, int], ...]]
) -> None:
    anatomy = anatomy_of(detector(nodes, weights))
    assert (anatomy.logits.kind, anatomy.logits.classes) == (Kind.BOXES, 6)
    assert rows_by_map(anatomy) == expected
    assert [s.features.tensor for s in anatomy.scales] == ["fine", "coarse"], "from fine to coarse"
    assert anatomy.features.tensor == "coarse"
    assert not any(note.code is NoteCode.OTHER_SCALES for note in anatomy.notes)


def test_rows_that_mix_scales_are_not_traced_and_a_note_says_so() -> None:
    mixed = """
      a1 = Concat <axis=1> (box1, class1)
      a2 = Concat <axis=1> (box2, class2)
      t1 = Reshape (a1, s)
      t2 = Reshape (a2, s)
      table = Concat <axis=2> (t1, t2)
      share = Softmax <axis=2> (table)
      boxes = Mul (table, share)"""
    anatomy = anatomy_of(detector(mixed, ", int64[3] s = {0, 0, -1}"))
    assert anatomy.scales == ()
    assert anatomy.features.tensor == "coarse"
    assert any(n.code is NoteCode.OTHER_SCALES and "cannot be followed" in n.text for n in anatomy.notes)


SEGMENTER = """
      p1 = Sigmoid (class1)
      a1 = Concat <axis=1> (box1, p1, mask1)
      boxes = Reshape (a1, s)
      more = Conv (fine, q)
      prototypes = Relu (more)
"""


def segmenter(names: str | None = None) -> onnx.ModelProto:
    """A table of 4 sides, 6 classes and 8 coefficients for each of 16 boxes, and 8 prototypes."""
    text = f"""{HEAD}net (float[1,3,16,16] x) => (float[1,18,16] boxes, float[1,8,4,4] prototypes)
    <{WEIGHTS}, float[8,8,1,1] q, float[8,8,1,1] m, int64[3] s = {{0, 0, -1}}>
    {{{TRUNK}{BRANCHES}mask1 = Conv (fine, m){SEGMENTER}}}"""
    proto = filled(text)
    if names is not None:
        proto.metadata_props.add(key="names", value=names)
    return proto


@pytest.mark.parametrize("names", [None, str({i: f"kind {i}" for i in range(6)})])
def test_prototypes_of_masks_beside_a_table_are_no_classes(names: str | None) -> None:
    logits = anatomy_of(segmenter(names)).logits
    assert (logits.output, logits.kind) == ("boxes", Kind.BOXES)
    assert (logits.first_class, logits.classes, logits.objectness) == (4, 6, None)
    assert "4 sides, 6 classes and 8 further numbers" in logits.reason


def test_the_prototypes_can_still_be_named() -> None:
    assert anatomy_of(segmenter(), output="prototypes").logits.kind is Kind.REGION


def test_names_in_the_metadata_say_where_the_classes_end() -> None:
    proto = detector(COARSE_FIRST, ", int64[3] r = {0, -1, 10}")
    proto.metadata_props.add(key="names", value="{0: 'bolt', 1: 'nut', 2: 'washer', 3: 'pin', 4: 'clip'}")
    logits = anatomy_of(proto).logits
    assert (logits.first_class, logits.classes, logits.objectness) == (5, 5, 4), "one column more than names"


ANCHORS = """
      y = Reshape (head, grid)
      cells = Transpose <perm=[0,1,3,4,2]> (y)
      p = Sigmoid (cells)
      xy, wh, conf = Split <axis=4> (p, parts)
      xy2 = Mul (xy, eight)
      wh2 = Mul (wh, wh)
      all = Concat <axis=4> (xy2, wh2, conf)"""


@pytest.mark.parametrize(
    ("last", "shape", "boxes_first"),
    [("boxes = Reshape (all, t)", "1,48,8", True), ("u = Reshape (all, t)\n boxes = Transpose <perm=[0,2,1]> (u)", "1,8,48", False)],
)  # fmt: skip
def test_a_sigmoid_over_the_whole_cell_means_an_objectness_whatever_axis_lists_the_boxes(
    last: str, shape: str, boxes_first: bool
) -> None:
    text = f"""{HEAD}net (float[1,3,16,16] x) => (float[{shape}] boxes)
    <float[8,3,3,3] w, float[8,8,3,3] u0, float[24,8,1,1] h, int64[5] grid = {{1, 3, 8, 4, 4}},
     int64[3] parts = {{2, 2, 4}}, float eight = {{8.0}}, int64[3] t = {{1, 48, 8}}>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
      f = Relu (c)
      d = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (f, u0)
      g = Relu (d)
      head = Conv (g, h)
      {ANCHORS}
      {last}
    }}"""
    anatomy = anatomy_of(filled(text))
    logits = anatomy.logits
    assert (logits.first_class, logits.classes, logits.objectness) == (5, 3, 4)
    assert logits.boxes_first is boxes_first
    assert rows_by_map(anatomy) == {"g": ((0, 48),)}
