"""Networks that compare patches with a memory bank: a score (N,) and a map of distances, (N,1,H,W)."""

import numpy as np
import onnx
import pytest
from small_models import filled

from onnxcam import Explainer, Preset, Region
from onnxcam.errors import TargetError
from onnxcam.outputs.record import record

PLAIN = Preset("plain", 1 / 255, (0.5,), (0.25,), crop=1.0)
PHOTOGRAPH = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
IMAGE = ((PHOTOGRAPH / 255 - 0.5) / 0.25).transpose(2, 0, 1).astype(np.float32)
PATCHES = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N] score, bool[N] label, float[N,1,16,12] map, bool[N,1,16,12] mask)
<float[6,3,3,3] w, float[9,6] bank, int64[1] axis = {1}, int64[4] grid = {-1, 1, 8, 6}, int64[2] rows = {-1, 6}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = Relu (c)
  t = Transpose <perm=[0,2,3,1]> (f)
  p = Reshape (t, rows)
  u = Unsqueeze (p, axis)
  d = Sub (u, bank)
  q = Mul (d, d)
  last = Constant <value_ints=[2]> ()
  e = ReduceSum <keepdims=0> (q, last)
  r = Sqrt (e)
  m = ReduceMin <axes=[1], keepdims=0> (r)
  z = Reshape (m, grid)
  s = Constant <value_floats=[1.0,1.0,2.0,2.0]> ()
  map = Resize <mode="nearest"> (z, , s)
  b = Flatten (z)
  score = ReduceMax <axes=[1], keepdims=0> (b)
  k = Constant <value_float=1.3> ()
  label = Greater (score, k)
  mask = Greater (map, k)
}"""


def distances(model: onnx.ModelProto) -> np.ndarray:
    """(8,6) the distance of each cell to the nearest entry of the bank, by loops."""
    w = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    padded, values = np.pad(IMAGE, ((0, 0), (1, 1), (1, 1))), np.zeros((8, 6))
    for i in range(8):
        for j in range(6):
            cell = np.maximum((w["w"] * padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]).sum((1, 2, 3)), 0)
            values[i, j] = min(np.linalg.norm(cell - entry) for entry in w["bank"])
    return values


def test_the_score_is_explained_as_a_number_on_the_embedding() -> None:
    model = filled(PATCHES)
    with Explainer(model, "grad-cam", preset=PLAIN) as explainer:
        saliency = explainer(PHOTOGRAPH)
        assert explainer.anatomy.features.tensor in ("f", "t")
        assert explainer.anatomy.features.channels == 6
    assert (saliency.target.output, saliency.target.name, saliency.target.kind) == ("score", "score", "elements")
    assert saliency.target.logit == pytest.approx(distances(model).max(), rel=1e-4)


@pytest.mark.parametrize("method", ["grad-cam", "score-cam"])
def test_the_map_is_explained_where_it_passes_the_threshold(method: str) -> None:
    model = filled(PATCHES)
    values = distances(model)
    assert 0 < (values > 1.3).mean() < 1
    with Explainer(model, method, preset=PLAIN, output="map") as explainer:
        saliency, part = explainer.explain(PHOTOGRAPH, [None, Region(None, (0, 0, 6, 16))])
        assert explainer.anatomy.features.channels == 6
        with pytest.raises(TargetError, match="one quantity"):
            explainer(PHOTOGRAPH, 1)
        assert explainer(PHOTOGRAPH, saliency.target).target == saliency.target
    assert saliency.target.logit == pytest.approx(values[values > 1.3].mean(), rel=1e-4)
    assert part.target.logit == pytest.approx(values[:, :3].mean(), rel=1e-4)
    assert (saliency.target.name, saliency.score) == ("mean of map", pytest.approx(saliency.target.logit))
    assert record(saliency)["target"]["probability"] is None
