"""Which output of a detector is scored, where sides, scores and further numbers are outputs of their own."""

import numpy as np
import pytest
from small_models import filled

from onnxcam import Explainer
from onnxcam.types import NoteCode

PICTURE = np.random.default_rng(6).integers(0, 256, (64, 64, 3)).astype(np.uint8)
SIGMOIDS = "d = Sigmoid (c)  obj = Sigmoid (o)"
CASES = {
    # RetinaFace: 10 numbers of landmarks beside two classes
    "landmarks": ("float[1,16,4] s, float[1,16,3] d, float[1,16,10] e", "d = Softmax <axis=2> (c)", "d", set()),
    "landmarks of a sigmoid": ("float[1,16,10] e, float[1,16,3] d, float[1,16,4] s", "d = Sigmoid (c)", "d", set()),
    "nothing active": ("float[1,16,4] s, float[1,16,3] c, float[1,16,10] e", "", "e", {"c"}),
    "an objectness apart": ("float[1,16,4] s, float[1,16,1] obj, float[1,16,3] d", SIGMOIDS, "d", {"obj"}),
    "boxes last": (
        "float[1,4,16] t, float[1,3,16] u",
        "t = Transpose <perm=[0,2,1]> (s)  d = Sigmoid (c)  u = Transpose <perm=[0,2,1]> (d)",
        "u",
        set(),
    ),
    "one class": ("float[1,16,4] s, float[1,16,1] obj", "obj = Sigmoid (o)", "obj", set()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_scores_of_boxes_are_explained_and_no_landmarks_sides_or_objectness(case: str) -> None:
    outputs, tail, expected, others = CASES[case]
    model = filled(
        f"""
    <ir_version: 8, opset_import: ["" : 17]>
    detector (float[1,3,32,32] x) => ({outputs})
    <float[8,3,8,8] w, float[18,8,1,1] h, int64[3] shape = {{1,18,16}}, int64[4] parts = {{4,3,10,1}}>
    {{
      f0 = Conv <kernel_shape=[8,8], strides=[8,8]> (x, w)
      features = Tanh (f0)
      p = Conv <kernel_shape=[1,1]> (features, h)
      r = Reshape (p, shape)
      rows = Transpose <perm=[0,2,1]> (r)
      s, c, e, o = Split <axis=2> (rows, parts)
      {tail}
    }}"""
    )
    with Explainer(model, "grad-cam", preset="unit", providers=["cpu"]) as explainer:
        saliency = explainer(PICTURE)
    assert saliency.target.output == expected
    assert saliency.target.kind == "boxes"
    assert saliency.provenance.layer == "features"
    notes = [note.text for note in saliency.provenance.notes if note.code is NoteCode.OTHER_HEADS]
    assert all(any(name in text for text in notes) for name in others)
    assert bool(notes) == bool(others)
