"""Detectors that give each scale apart, undecoded: one table of all of them."""

import numpy as np
import onnxruntime as ort
import pytest
from small_models import filled

from onnxcam import Box, Element, Explainer
from onnxcam.types import NoteCode

RAW = """
<ir_version: 8, opset_import: ["" : 17]>
raw (float[BATCH,3,16,16] x) => (float[BATCH,GRID1] fine_boxes, float[BATCH,GRID2] coarse_boxes)
<float[8,3,3,3] w, float[8,8,3,3] u, float[14,8,1,1] h1, float[14,8,1,1] h2,
 int64[5] s1 = {-1, 2, 7, 4, 4}, int64[5] s2 = {-1, 2, 7, 2, 2}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  fine = Relu (c)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (fine, u)
  coarse = Relu (d)
  head1 = Conv (fine, h1)
  head2 = Conv (coarse, h2)
  t1 = Reshape (head1, s1)
  t2 = Reshape (head2, s2)
  fine_boxes = Transpose <perm=[PERM]> (t1)
  coarse_boxes = Transpose <perm=[PERM]> (t2)
}
"""
LAYOUTS = {"anchors first": ("2,4,4,7", "2,2,2,7", "0,1,3,4,2"), "anchors last": ("4,4,2,7", "2,2,2,7", "0,3,4,1,2")}
IMAGE = np.random.default_rng(2).standard_normal((3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("batch", ["1", "N"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_best_box_of_all_scales_is_explained_by_its_own_map(layout: str, batch: str) -> None:
    grid1, grid2, perm = LAYOUTS[layout]
    text = RAW.replace("GRID1", grid1).replace("GRID2", grid2).replace("PERM", perm).replace("BATCH", batch)
    proto = filled(text, 4)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    table = np.concatenate([np.asarray(o).reshape(-1, 7) for o in session.run(None, {"x": IMAGE[None]})])
    likely = 1 / (1 + np.exp(-table.astype(np.float64)))
    box, label = np.unravel_index((likely[:, 5:] * likely[:, 4:5]).argmax(), (40, 2))
    with Explainer(proto, "grad-cam", providers=["cpu"], preset="raw") as explainer:
        best, fine, coarse = explainer.explain(IMAGE, [None, Box(3, 1), Box(33, 1)])
        logits = explainer.anatomy.logits
        assert logits.entry(best.target.index) == (box, label)
        assert best.target.logit == pytest.approx(table[box, 5 + label], abs=1e-5)
        assert (logits.objectness, logits.first_class, logits.classes, logits.sides) == (4, 5, 2, None)
        assert [fine.provenance.layer, coarse.provenance.layer] == ["fine", "coarse"]
        element = explainer(IMAGE, Element((0, 0, 0, 6), "coarse_boxes"))
        assert element.target.output == "coarse_boxes"
        assert explainer(IMAGE, best.target).target.index == best.target.index
    assert any("fine_boxes, coarse_boxes are joined" in note.text for note in best.provenance.notes)


MAPS = """
<ir_version: 8, opset_import: ["" : 17]>
raw (float[1,3,16,16] x) => (float[1,14,4,4] fine_map, float[1,14,2,2] coarse_map)
<float[8,3,3,3] w, float[8,8,3,3] u, float[14,8,1,1] h1, float[14,8,1,1] h2>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  fine = Relu (c)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (fine, u)
  coarse = Relu (d)
  fine_map = Conv (fine, h1)
  coarse_map = Conv (coarse, h2)
}
"""


def test_maps_of_anchors_are_a_table_where_the_metadata_names_the_classes() -> None:
    proto = filled(MAPS, 4)
    proto.metadata_props.add(key="names", value="['bolt', 'nut']")
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    maps = [np.asarray(o).reshape(2, 7, -1) for o in session.run(None, {"x": IMAGE[None]})]
    table = np.concatenate([m.transpose(0, 2, 1).reshape(-1, 7) for m in maps])
    likely = 1 / (1 + np.exp(-table.astype(np.float64)))
    box, label = np.unravel_index((likely[:, 5:] * likely[:, 4:5]).argmax(), (40, 2))
    with Explainer(proto, "grad-cam", providers=["cpu"], preset="raw") as explainer:
        best, coarse = explainer.explain(IMAGE, [None, Box(33, "nut")])
        assert explainer.anatomy.logits.entry(best.target.index) == (box, label)
    assert coarse.provenance.layer == "coarse"
    assert coarse.target.logit == pytest.approx(table[33, 6], abs=1e-5)


def test_maps_on_several_grids_without_names_are_doubted() -> None:
    with Explainer(filled(MAPS, 4), "grad-cam", providers=["cpu"], preset="raw") as explainer:
        saliency = explainer(IMAGE)
    assert saliency.target.kind == "region"
    assert any(n.code is NoteCode.OTHER_SCALES and "before decoding" in n.text for n in saliency.provenance.notes)
