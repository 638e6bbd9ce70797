"""Gradients where the image decides the number of rows, as of proposals: sizes of one run do not hold for another."""

from collections.abc import Callable

import numpy as np
import onnx.parser
import onnx_ir
import pytest
from differentiated import run

from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import gradients
from onnxcam.surgeon.autodiff.rules.registry import Ops
from onnxcam.surgeon.builder import publish

HEAD = """<ir_version: 10, opset_import: ["" : 18]> net (float[4,2] x) => (y)
<float zero = {0.0}, int64[1] flat = {-1}, int64[1] one = {1}, int64[1] first = {0}> {
c = Slice (x, first, one, one) s = Squeeze (c, one) b = Greater (s, zero) n = NonZero (b) q = Squeeze (n, first)
k = Gather (x, q)"""
SHAPES = {
    "x": (4, 2),
    "n": (1, 1),
    "q": (1,),
    "c": (4, 1),
    "s": (4,),
    "b": (4,),
    "k": (1, 2),
    "r": (2,),
    "e": (2,),
    "j": (3, 2),
    "y": (1, 1),
}
"""Of a run in which one row was kept."""


@pytest.mark.parametrize(
    ("nodes", "slope"),
    [
        ("r = Reshape (k, flat) e = Exp (r) y = ReduceSum (e)", np.exp),
        ("j = Concat <axis=0> (k, k, k) y = ReduceSum (j)", lambda rows: np.full_like(rows, 3)),
    ],
)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_the_gradient_reaches_as_many_rows_as_were_kept(
    nodes: str, slope: Callable[[np.ndarray], np.ndarray], count: int
) -> None:
    model = ir.from_proto(onnx.parser.parse_model(f"{HEAD} {nodes} }}"))
    x = ir.find_value(model, "x")
    y = model.graph.outputs[0]
    assert x is not None
    seed = ir.new_input(model, "seed", onnx_ir.DataType.FLOAT, [1, 1])
    ops = Ops(model, "gradient", onnx_ir.DataType.FLOAT)
    (dx,) = gradients(model, ops, {y: seed}, [x], shapes=SHAPES, known={})
    publish(model, ops.build("Identity", dx, name="dx"), onnx_ir.DataType.FLOAT, [4, 2])
    rows = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    rows[:, 0] = np.where(np.arange(4) < count, 1, -1) * np.abs(rows[:, 0])
    (gradient,) = run(ir.to_proto(ir.tidy(model)), ["dx"], {"x": rows, "seed": np.ones((1, 1), np.float32)})
    expected = np.where(rows[:, :1] > 0, slope(rows), 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
