"""Boxes that a model lists with y before x are drawn where they are: what tells is where their cells lie."""

import numpy as np
import onnx
import pytest
from small_models import filled

from onnxcam import Box, Explainer
from onnxcam.explainer.targets.box_axes import y_first
from onnxcam.explainer.targets.kind import HeadOutput
from onnxcam.inputs.presets import PRESETS
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.types import NoteCode

ROWS, COLUMNS = 4, 8
PICTURE = np.random.default_rng(6).integers(0, 256, (100, 100, 3)).astype(np.uint8)


def anchors(form: str) -> np.ndarray:
    """(4,32) a box around each cell of 8 x 8 pixels of an input of 32 x 64, twice as wide as high; row by row."""
    y, x = (8 * (g.reshape(-1) + 0.5) for g in np.mgrid[:ROWS, :COLUMNS])
    corners = np.stack([x - 6, y - 3, x + 6, y + 3])
    if "centre" in form:
        corners = np.stack([x, y, np.full_like(x, 12), np.full_like(x, 6)])
    if "corner and size" in form:
        corners = np.stack([x - 6, y - 3, np.full_like(x, 12), np.full_like(x, 6)])
    if "fractions" in form:
        corners = corners / np.array([64, 32, 64, 32])[:, None]
    return (corners[[1, 0, 3, 2]] if "y first" in form else corners).astype(np.float32)


def detector(form: str, tail: str = "table = Concat <axis=1> (sides, scores)", outputs: str = "") -> onnx.ModelProto:
    """A table (1,7,32) of boxes that the map (4,8) moves a little from the anchors, named by its form."""
    model = filled(
        f"""
    <ir_version: 8, opset_import: ["" : 17]>
    detector (float[1,3,32,64] x) => ({outputs or "float[1,7,32] table"})
    <float[8,3,8,8] w, float[7,8,1,1] h, int64[3] s = {{1,7,32}}, int64[2] parts = {{4,3}}, float little = {{0.0001}},
     int64[1] most = {{20}}, float[1] iou = {{0.9}}, float[1] least = {{0.0}}, int64 i1 = {{1}},
     int64[2] image_and_box = {{0,2}}>
    {{
      c = Conv <kernel_shape=[8,8], strides=[8,8]> (x, w)
      features = Tanh (c)
      p = Conv <kernel_shape=[1,1]> (features, h)
      r = Reshape (p, s)
      raw, classes = Split <axis=1> (r, parts)
      offset = Mul (raw, little)
      sides = Add (offset, anchors)
      scores = Sigmoid (classes)
      {tail}
    }}""",
        check=False,
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(anchors(form)[None], "anchors"))
    return model


FORMS = [
    f"{what} in {unit}{order}"
    for what in ("corners", "centre")
    for unit in ("pixels", "fractions")
    for order in ("", ", y first")
]
BOX = 13  # the cell at row 1, column 5, whose middle is (44,12)
PLACE = ((44 - 6) * 100 / 64, (12 - 3) * 100 / 32, (44 + 6) * 100 / 64, (12 + 3) * 100 / 32)


@pytest.mark.parametrize("form", FORMS)
def test_a_box_lies_about_its_cell_whatever_axis_comes_first(form: str) -> None:
    with Explainer(detector(form), "grad-cam", preset=PRESETS["unit"], providers=["cpu"]) as explain:
        saliency = explain(PICTURE, Box(BOX, 0))
    np.testing.assert_allclose(saliency.target.box, PLACE, atol=0.1)
    assert NoteCode.BOX_READING not in {note.code for note in saliency.provenance.notes}


@pytest.mark.parametrize("form", ["pixels", "fractions", "fractions, y first"])
def test_left_top_width_height_is_read_with_a_note(form: str) -> None:
    model = detector(f"corner and size in {form}")
    with Explainer(model, "grad-cam", preset=PRESETS["unit"], providers=["cpu"]) as explain:
        saliency = explain(PICTURE, Box(BOX, 0))
    np.testing.assert_allclose(saliency.target.box, PLACE, atol=0.1)
    assert NoteCode.BOX_READING in {note.code for note in saliency.provenance.notes}


SUPPRESSED = """
  rows = Transpose <perm=[0,2,1]> (sides)
  chosen = NonMaxSuppression (rows, scores, most, iou, least)
  best = GatherND (scores, chosen)
  ib = Gather <axis=1> (chosen, image_and_box)
  boxes = GatherND (rows, ib)
  labels = Gather <axis=1> (chosen, i1)
"""


@pytest.mark.parametrize("form", [form for form in FORMS if "corners" in form])
def test_detections_lie_about_the_cells_of_their_candidates(form: str) -> None:
    model = detector(form, SUPPRESSED, "float[D,4] boxes, float[D] best, int64[D] labels")
    with Explainer(model, "grad-cam", preset=PRESETS["unit"], providers=["cpu"]) as explain:
        saliency = explain(PICTURE)
    row = saliency.target.index // 3
    x, y = 8 * (row % COLUMNS + 0.5), 8 * (row // COLUMNS + 0.5)
    expected = np.array([x - 6, y - 3, x + 6, y + 3]) * [100 / 64, 100 / 32, 100 / 64, 100 / 32]
    np.testing.assert_allclose(saliency.target.box, expected, atol=0.1)


@pytest.mark.parametrize(
    ("name", "expected"), [("boxes", False), ("detection_boxes", True), ("detection_boxes:0", True)]
)
def test_without_cells_the_name_of_tensorflows_exports_is_taken_with_a_note(name: str, expected: bool) -> None:
    logits = Logits("t", "t", "none", 3, "", Kind.BOXES, (1, 4, 3))
    output = HeadOutput(logits, np.zeros(12), None, (32, 64), None)
    swapped, doubt = y_first(np.random.default_rng(0).uniform(0, 1, (4, 2)), np.arange(4), output, name)
    assert swapped == expected
    assert (doubt is not None) == expected
