"""Classes that mean no object are never 'top1', by their names, by the graph, or by how often they win."""

import numpy as np
import pytest
from small_models import filled

from onnxcam import Box, Explainer
from onnxcam.explainer.targets.background import Background, background_of_boxes, background_of_map, named_background
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import NoteCode


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["__background__", "cat"], (0,)),
        (["cat", "No-Object"], (1,)),
        (["N/A", "person", "N/A", "street sign"], (0, 2)),
        (["backgrounds", "cat"], ()),
        (["background"], ()),
    ],
)
def test_names_of_no_object(labels: list[str], expected: tuple[int, ...]) -> None:
    assert named_background(labels) == expected


def table(exclusive: bool | None, background: int | None = None) -> Logits:
    return Logits(
        "t", "t", "none", 3, "", Kind.BOXES, (1, 4, 3), boxes_first=True, exclusive=exclusive, background=background
    )


FIRST_WINS = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2]])
LAST_WINS = FIRST_WINS[:, ::-1]


@pytest.mark.parametrize(
    ("exclusive", "scores", "classes", "has_note"),
    [
        (True, FIRST_WINS, (0,), True),
        (True, LAST_WINS, (2,), True),
        (True, np.eye(3)[[0, 1, 2, 1]], (0,), True),  # as most softmax detectors list it
        (False, FIRST_WINS, (), False),  # sigmoids need no background
        (None, LAST_WINS, (2,), True),  # DETR's logits
        (None, FIRST_WINS, (), True),
        (None, np.eye(3)[[0, 1, 2, 1]], (), False),
    ],
)
def test_without_names_the_class_that_wins_most_boxes_is_taken_with_a_note(
    exclusive: bool | None, scores: np.ndarray, classes: tuple[int, ...], has_note: bool
) -> None:
    background = background_of_boxes(table(exclusive), None, scores)
    assert background.classes == classes
    assert (background.note is not None) is has_note


def test_names_and_the_graph_leave_nothing_to_assume() -> None:
    assert background_of_boxes(table(True), ["a", "b", "c"], FIRST_WINS) == Background()
    assert background_of_boxes(table(True), ["a", "b", "background"], FIRST_WINS) == Background((2,))
    assert background_of_boxes(table(True, background=1), None, FIRST_WINS) == Background((1,))


def test_the_background_of_a_class_map_is_passed_over_while_anything_else_is_there() -> None:
    assert background_of_map(["background", "cat", "dog"], np.array([90.0, 8, 2])).classes == (0,)
    assert background_of_map(["background", "cat", "dog"], np.array([100.0, 0, 0])).classes == ()
    assert background_of_map(None, np.array([30.0, 40, 30])) == Background()
    note = background_of_map(None, np.array([90.0, 8, 2])).note
    assert note is not None
    assert "class 0 covers 90% of the picture" in note.text


DETECTOR = """
<ir_version: 8, opset_import: ["" : 17]>
detector (float[1,3,16,16] x) => (float[1,16,4] scores, float[1,16,4] boxes RESULT)
<float[8,3,3,3] w, float[4,8,1,1] h, float[4] hb = {3.0, 0.0, 0.0, 0.0}, float[4,8,1,1] b, int64[3] s = {0, 4, 16},
 int64[1] one = {1}, int64[1] end = {9223372036854775807}, int64[1] zero = {0}, int64[1] minus = {-1}, int64[1] two = {2}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Relu (c)
  head = Conv (f, h, hb)
  t = Reshape (head, s)
  rows = Transpose <perm=[0,2,1]> (t)
  scores = Softmax <axis=-1> (rows)
  sides = Conv (f, b)
  u = Reshape (sides, s)
  boxes = Transpose <perm=[0,2,1]> (u)
  MORE
}
"""
IMAGE = np.random.default_rng(1).standard_normal((3, 16, 16)).astype(np.float32)


def detector(more: str = "") -> object:
    return filled(DETECTOR.replace("RESULT", ", float[1,16] best" if more else "").replace("MORE", more))


def test_scores_of_a_softmax_do_not_take_the_background_for_the_prediction() -> None:
    with Explainer(detector(), "grad-cam", providers=["cpu"], preset="raw") as explainer:
        best, first = explainer.explain(IMAGE, [None, Box("top1", 0)])
        assert explainer.anatomy.logits.exclusive
        assert explainer.anatomy.logits.entry(best.target.index)[1] != 0
        assert explainer.anatomy.logits.entry(first.target.index)[1] == 0, "it can still be named"
        (alone,) = explainer.explain(IMAGE, [Box(3, 2)])
    assert any(n.code is NoteCode.BACKGROUND and "class 0 is taken for it" in n.text for n in best.provenance.notes)
    assert not any(n.code is NoteCode.BACKGROUND for n in alone.provenance.notes), "nothing was ranked"


@pytest.mark.parametrize(
    ("slice", "background"), [("Slice (scores, one, end, two)", 0), ("Slice (scores, zero, minus, two)", 3)]
)
def test_the_class_that_the_graph_drops_is_the_background(slice: str, background: int) -> None:
    more = f"objects = {slice}\n best = ReduceMean <axes=[2], keepdims=0> (objects)"
    with Explainer(detector(more), "grad-cam", providers=["cpu"], preset="raw", output="scores") as explainer:
        assert explainer.anatomy.logits.background == background
        saliency = explainer(IMAGE)
        assert explainer.anatomy.logits.entry(saliency.target.index)[1] != background
    assert not any(n.code is NoteCode.BACKGROUND for n in saliency.provenance.notes)
