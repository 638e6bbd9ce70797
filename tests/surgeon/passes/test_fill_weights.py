"""Weights that ConstantOfShape makes become initializers."""

import numpy as np
import onnxruntime as ort
import pytest
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.passes import fill_weights
from onnxcam.surgeon.passes.fill_weights import store_filled_weights

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,4] x) => (float[N,3] y)
<int64[2] shape = {4, 3}>
{
  w = ConstantOfShape <value = float[1] {0.5}> (shape)
  y = MatMul (x, w)
}"""


def test_a_filled_weight_is_stored_under_its_name(make: Make) -> None:
    model = store_filled_weights(ir.from_proto(make(TEXT)))
    assert [n.op_type for n in model.graph] == ["MatMul"]
    stored = ir.constant(model.graph.initializers["w"])
    assert stored is not None
    np.testing.assert_array_equal(stored, np.full((4, 3), 0.5, np.float32))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(ort.InferenceSession(ir.to_bytes(model)).run(None, {"x": x})[0], np.full((2, 3), 2.0))


def test_a_shape_known_only_at_run_time_and_a_huge_one_stay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic = TEXT.replace("<int64[2] shape = {4, 3}>\n{", "<float[4,3] v>\n{ shape = Shape (v)")
    assert "ConstantOfShape" in [n.op_type for n in store_filled_weights(ir.from_proto(make(dynamic))).graph]
    monkeypatch.setattr(fill_weights, "MOST_NUMBERS", 11)
    assert "ConstantOfShape" in [n.op_type for n in store_filled_weights(ir.from_proto(make(TEXT))).graph]
