"""Where a box lies on the picture, worked out by hand for every form of table and every way to fit a picture."""

from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import pytest
from small_models import filled

from onnxcam import Box, Explainer, Region, ScoredTarget
from onnxcam.explainer.targets.kind import HeadOutput
from onnxcam.explainer.targets.resolving import bind
from onnxcam.inputs.presets import PRESETS, Preset, override
from onnxcam.network.selection import Detections
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.queries import Follow
from onnxcam.types import NoteCode, Placement

CORNERS = np.random.default_rng(4).uniform(0, 1, (48, 4)) * (20, 10, 43, 21) + (0, 0, 1, 1)
CORNERS[:, 2:] += CORNERS[:, :2]
CORNERS = np.minimum(CORNERS, (64, 32, 64, 32)).astype(np.float32)
"""48 boxes as left, top, right, bottom on an input of 32 x 64."""
BEST = 17
CORNERS[BEST] = (16, 8, 48, 24)
SCORES = np.random.default_rng(5).uniform(0, 0.5, (48, 3)).astype(np.float32)
SCORES[BEST] = (0.1, 0.9, 0.2)
PICTURE = np.random.default_rng(6).integers(0, 256, (100, 100, 3)).astype(np.uint8)


def sides(form: str) -> np.ndarray:
    numbers = CORNERS.copy()
    if "centre" in form:
        low, high = numbers[:, :2].copy(), numbers[:, 2:].copy()
        numbers = np.concatenate([(low + high) / 2, high - low], axis=1)
    return numbers / (64, 32, 64, 32) if "fractions" in form else numbers


def detector(form: str, shape: str) -> onnx.ModelProto:
    """A table of the given boxes and scores, to which almost nothing of the picture is added; named by its form.

    shape: columns (1,7,48), rows with an objectness (1,48,8), or apart: scores (1,48,3) and boxes (1,48,4).
    """
    numbers, columns = sides(form).astype(np.float32), {"columns": 7, "rows": 8, "apart": 3}[shape]
    ones = np.ones((48, 1), np.float32)
    table = {"columns": np.hstack([numbers, SCORES]), "rows": np.hstack([numbers, ones, SCORES]), "apart": SCORES}[
        shape
    ]
    layout = "[1,7,48]" if shape == "columns" else f"[1,48,{columns}]"
    extra = ", float[1,48,4] boxes" if shape == "apart" else ""
    more = "boxes = Add (known_sides, tiny)" if shape == "apart" else ""
    model = filled(
        f"""
    <ir_version: 8, opset_import: ["" : 17]>
    detector (float[1,3,32,64] x) => (float{layout} table{extra})
    <float[8,3,3,3] w>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[8,8]> (x, w)
      features = Relu (c)
      mean = ReduceMean <axes=[1,2,3], keepdims=0> (features)
      little = Constant <value_float=1e-9> ()
      tiny = Mul (mean, little)
      table = Add (known, tiny)
      {more}
    }}""",
        check=False,
    )
    arrays = {"known": (table.T if shape == "columns" else table)[None], "known_sides": numbers[None]}
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
    return model


FORMS = ["corners in pixels", "corners in fractions", "centre in pixels", "centre in fractions"]
"""How the table may hold a box."""
UNIT = PRESETS["unit"]
PRESETS_AND_BOXES = [
    # A picture of 100 x 100 on an input of 32 x 64; the box is the middle half of the input in both directions.
    (UNIT, (25, 25, 75, 75)),  # squashed
    # 100 x 100 becomes 32 x 32, at 16 from the left: the box is all of its width, and the middle half of its height
    (override(UNIT, resize="letterbox"), (0, 25, 100, 75)),
    # in the corner: the picture ends at 32, so the box is from its middle to half its width beyond the right border
    (override(UNIT, resize="letterbox-corner"), (50, 25, 150, 75)),
    # 100 x 100 becomes 64 x 64, of which rows 16 to 48 are seen
    (override(UNIT, resize="shortest"), (25, 37.5, 75, 62.5)),
]


@pytest.mark.parametrize("shape", ["columns", "rows", "apart"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_box(form: str, shape: str) -> None:
    with Explainer(detector(form, shape), "gradient", preset=UNIT, providers=["cpu"], kind="boxes") as explain:
        saliency = explain(PICTURE)
        chosen = explain(PICTURE, Box(3))
    assert saliency.target.index == {"columns": 5 * 48 + BEST, "rows": 8 * BEST + 6, "apart": 3 * BEST + 1}[shape]
    np.testing.assert_allclose(saliency.target.box, (25, 25, 75, 75), atol=1e-4)
    np.testing.assert_allclose(chosen.target.box, CORNERS[3] * (100 / 64, 100 / 32, 100 / 64, 100 / 32), atol=1e-4)
    assert NoteCode.BOX_READING not in {note.code for note in saliency.provenance.notes}


@pytest.mark.parametrize(("preset", "box"), PRESETS_AND_BOXES)
def test_a_box_is_mapped_back_through_every_way_to_fit_a_picture(preset: Preset, box: tuple[float, ...]) -> None:
    with Explainer(detector("centre in pixels", "columns"), "gradient", preset=preset, providers=["cpu"]) as explain:
        saliency = explain(PICTURE)
        again = explain(PICTURE[:50], saliency.target)
    np.testing.assert_allclose(saliency.target.box, box, atol=1e-4)
    assert again.target.index == saliency.target.index
    assert again.target.box != saliency.target.box


def test_the_box_of_an_array_is_on_the_models_input() -> None:
    with Explainer(detector("corners in fractions", "columns"), "gradient", providers=["cpu"]) as explain:
        saliency = explain(np.random.default_rng(0).random((3, 32, 64), np.float32))
    np.testing.assert_allclose(saliency.target.box, CORNERS[BEST], atol=1e-4)


def head_output(numbers: np.ndarray, *, corners: bool | None = None, **more: object) -> HeadOutput:
    """The answer of a detector with boxes (boxes, 4 + numbers) on an input of 32 x 64, shown on a picture as large."""
    shape = (1, numbers.shape[1], len(numbers))
    logits = Logits("t", "out", "none", numbers.shape[1] - 4, "", Kind.BOXES, shape, first_class=4, corners=corners)
    placement = Placement((32, 64), (0.0, 0.0, 64.0, 32.0))
    return HeadOutput(logits, numbers.T.reshape(-1).astype(np.float64), None, (32, 64), placement, **more)  # type: ignore[arg-type]


def detected(
    boxes: np.ndarray | None, follow: Follow = Follow.ROW, *, candidates: np.ndarray | None = None
) -> HeadOutput:
    """Three detections of 16 candidates in 3 classes: candidates 5, 9 and 5 again, of the classes 1, 2 and 0."""
    logits = Logits("t", "out", "none", 3, "", Kind.BOXES, (1, 16, 3), sides=None, boxes_first=True)
    values = np.zeros(48)
    places, scores = np.array([5 * 3 + 1, 9 * 3 + 2, 5 * 3]), np.array([0.9, 0.5, 0.7], np.float32)
    values[places] = scores
    detections = Detections(places, scores, boxes, 0, follow, every_row=False)
    placement = Placement((64, 128), (0.0, 0.0, 128.0, 64.0))
    read = partial(np.asarray, candidates) if candidates is not None else None
    return HeadOutput(logits, values, None, (32, 64), placement, detections=detections, read_sides=read)


DETECTED = np.array([(8, 4, 24, 20), (30, 10, 60, 30), (2, 4, 30, 20)], np.float32)
"""Corners on an input of 32 x 64, which is half the picture."""


@pytest.mark.parametrize("fractions", [False, True])
def test_a_detection_has_the_box_that_the_model_lists_for_it(fractions: bool) -> None:
    boxes = DETECTED / ((64, 32, 64, 32) if fractions else 1)
    scored = bind([Box(0), Box(1), Box(2), Box("rank2")], detected(boxes.astype(np.float32)))[1]
    for target, i in zip(scored, (0, 1, 2, 2), strict=True):
        np.testing.assert_allclose(target.box, DETECTED[i] * 2, rtol=1e-5)
    (other,) = bind([Box(1, 0)], detected(boxes.astype(np.float32)))[1]
    np.testing.assert_allclose(other.box, DETECTED[1] * 2, rtol=1e-5)  # its candidate in another class


def test_a_detection_that_the_model_lists_without_a_box_has_that_of_its_candidate() -> None:
    sides = np.zeros((16, 4))
    sides[5], sides[9] = (8, 4, 24, 20), (30, 10, 60, 30)
    scored = bind([Box(0), Box(1)], detected(None, candidates=sides))[1]
    assert [target.box for target in scored] == [(16, 8, 48, 40), (60, 20, 120, 60)]
    assert all(t.box is None for t in bind([Box(0), Box(1)], detected(None))[1])


def test_what_the_graph_says_comes_before_the_numbers() -> None:
    """The same numbers, (20, 10, 30, 20), are a box of 10 x 10, or one of 30 x 20 about (20, 10)."""
    numbers = np.tile(np.array([[20.0, 10, 30, 20, 0.5]]), (30, 1))
    for corners, box in ((True, (20, 10, 30, 20)), (False, (5, 0, 35, 20)), (None, (20, 10, 30, 20))):
        assert bind([Box(0)], head_output(numbers, corners=corners))[1][0].box == box


def test_overlaps_of_boxes_given_by_corners_are_those_of_the_corners() -> None:
    """The second box lies on the first one, the third beside; read as centres, the third would overlap too."""
    rows = [[4, 4, 20, 20, 0.9], [5, 4, 20, 20, 0.8], [22, 4, 40, 20, 0.7], [0, 22, 40, 30, 0.1]]
    scored = bind([Box("top1"), Box("rank2"), Box("rank3")], head_output(np.array(rows), corners=True))[1]
    assert [target.index - 4 * 4 for target in scored] == [0, 2, 3]


@pytest.mark.parametrize("numbers", [np.random.default_rng(1).standard_normal((40, 5)), np.full((40, 5), -3.0)])
def test_numbers_that_are_no_boxes_are_not_drawn_and_a_note_says_so(numbers: np.ndarray) -> None:
    from onnxcam.explainer.targets.notes import target_notes

    output = head_output(numbers)
    (target,) = bind([Box(0)], output)[1]
    assert target.box is None
    assert NoteCode.BOX_READING in {note.code for note in target_notes([target], output)[0]}


def test_a_box_without_extent_has_no_place() -> None:
    numbers = np.tile(np.array([[20.0, 10, 8, 6, 0.5]]), (30, 1))
    numbers[3, 2] = 0
    assert bind([Box(3)], head_output(numbers, corners=False))[1][0].box is None


@pytest.mark.parametrize("angle", [0.0, np.pi / 2, np.pi / 6, -0.4])
def test_a_turned_box_has_an_outline_by_hand(angle: float) -> None:
    """A box of 8 x 4 about (20, 10): its corner (x, y) goes to (x cos - y sin, x sin + y cos)."""
    c, s = np.cos(angle), np.sin(angle)
    expected = [(20 + x * c - y * s, 10 + x * s + y * c) for x, y in ((-4, -2), (4, -2), (4, 2), (-4, 2))]
    numbers = np.tile(np.array([[20.0, 10, 8, 4, 0.5, angle]]), (30, 1))
    (target,) = bind([Box(0, 0)], head_output(numbers, corners=False, turned_boxes=True))[1]
    np.testing.assert_allclose(target.outline, [expected], atol=1e-9)
    wide, tall = 4 * abs(c) + 2 * abs(s), 4 * abs(s) + 2 * abs(c)
    assert target.box == pytest.approx((20 - wide, 10 - tall, 20 + wide, 10 + tall))


SEGMENTER = """
<ir_version: 8, opset_import: ["" : 17]>
segmenter (float[1,3,16,16] x) => (float[1,4,16,16] masks)
<float[8,3,3,3] w, float[4,8,1,1] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w)
  features = Relu (c)
  masks = Conv (features, v)
}
"""


def test_a_region_and_a_mask_have_their_place_on_the_picture() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:40, 10:60] = True
    with Explainer(filled(SEGMENTER), "gradient", preset=UNIT, providers=["cpu"]) as explain:
        rectangle, masked, predicted = explain.explain(
            PICTURE, [Region(1, (10, 20, 60, 40)), Region(1, mask), Region("top1")]
        )
        again = explain(PICTURE, rectangle.target)
    assert rectangle.target.box == again.target.box == (10, 20, 60, 40)
    assert rectangle.target.outline == predicted.target.outline == ()
    assert masked.target.box == (10, 20, 60, 40)
    assert len(masked.target.outline[0]) == 4
    assert predicted.target.box is None
    assert hash(masked.target) == hash(replace(masked.target))


def test_low_scores_are_noted_and_high_ones_are_not() -> None:
    with Explainer(detector("centre in pixels", "columns"), "gradient", preset=UNIT, providers=["cpu"]) as explain:
        high, low = explain.explain(PICTURE, [Box(BEST, 1), Box(int(SCORES[:, 0].argmin()), 0)])
    assert NoteCode.LOW_SCORE not in codes(high)
    assert NoteCode.LOW_SCORE in codes(low)


def codes(saliency: Saliency) -> set[NoteCode]:
    return {note.code for note in saliency.provenance.notes}


def test_a_target_made_by_hand_needs_no_box() -> None:
    assert ScoredTarget(3, None, 0.5, 0.5).box is None


@pytest.mark.parametrize(("top", "outside"), [(2, True), (24, True), (4, False)])
def test_a_box_in_the_bar_of_a_letterbox_is_noted(top: float, outside: bool) -> None:
    """The picture of 16x64 fills rows 8 to 24 of an input of 32x64; the box is 5 high."""
    from onnxcam.explainer.targets.notes import target_notes

    rows = np.array([[10, top, 20, top + 5, 0.9]] + [[10, 10, 20, 20, 0.1]] * 3, float)
    output = head_output(rows, corners=True)
    output = replace(output, placement=Placement((16, 64), (0.0, -8.0, 64.0, 24.0)))
    (target,) = bind([Box(0)], output)[1]
    assert outside == (NoteCode.BOX_OUTSIDE in {note.code for note in target_notes([target], output)[0]})
