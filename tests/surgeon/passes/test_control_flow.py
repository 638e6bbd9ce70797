"""Loop and If are replaced by their contents, and onnxruntime computes the same numbers before and after."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.passes.control_flow import MOST_ROUNDS, take_branches, unroll_loops

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'

LOOP = """net (float[N,3] x) => (float[N,3] y, float[R,N,3] each)
<int64 trips = {3}>
{
  y, each = Loop <body = step (int64 i, bool go, float[N,3] v) => (bool on, float[N,3] w, float[N,3] seen)
    <float half = {0.5}> { w0 = Mul (v, half)
      w = Add (w0, x)
      seen = Neg (w)
      on = Identity (go) }> (trips, , x)
}"""

IF = """net (float[N,3] x) => (float[N,3] y)
{
  top = ReduceMax <keepdims=0> (x)
  big = Constant <value_float=100.0> ()
  small = Less (top, big)
  y = If <then_branch = yes () => (float[N,3] a) <float[1,3] w = {1.0, 2.0, 3.0}> { m = Mul (x, w)
    a = Add (m, w) }, else_branch = no () => (float[N,3] b) { b = Neg (x) }> (small)
}"""


def run(model: ir.Model, x: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(ir.to_bytes(model), providers=["CPUExecutionProvider"]).run(None, {"x": x})


def ops(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph]


X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_loop_of_three_rounds_is_unrolled(make: Make) -> None:
    model = ir.from_proto(make(HEAD + LOOP, check=False))
    unrolled = unroll_loops(model)
    assert "Loop" not in ops(unrolled)
    y, each = run(unrolled, X)
    np.testing.assert_allclose(y, X * (1 + 0.5 + 0.25 + 0.125))
    np.testing.assert_allclose(each, -np.stack([1.5 * X, 1.75 * X, 1.875 * X]))
    for before, after in zip(run(model, X), (y, each), strict=True):
        np.testing.assert_allclose(before, after)


@pytest.mark.parametrize("change", [("{3}", f"{{{MOST_ROUNDS + 1}}}"), ("on = Identity (go)", "on = Not (go)")])
def test_loops_that_are_long_or_stop_early_stay(make: Make, change: tuple[str, str]) -> None:
    model = ir.from_proto(make((HEAD + LOOP).replace(*change), check=False))
    assert "Loop" in ops(unroll_loops(model))


def test_a_model_without_loops_is_not_copied(classifier: onnx.ModelProto) -> None:
    model = ir.from_proto(classifier)
    assert unroll_loops(model) is model


def test_the_branch_that_a_run_took_replaces_the_if(make: Make) -> None:
    model = ir.from_proto(make(HEAD + IF, check=False))
    yes, no = (take_branches(model, {"small": condition}) for condition in (True, False))
    assert "If" not in ops(yes) + ops(no)
    np.testing.assert_allclose(run(yes, X)[0], X * [1, 2, 3] + [1, 2, 3])
    np.testing.assert_allclose(run(no, X)[0], -X)
    np.testing.assert_allclose(run(model, X)[0], run(yes, X)[0])


def test_an_if_whose_condition_is_unknown_stays(make: Make) -> None:
    assert "If" in ops(take_branches(ir.from_proto(make(HEAD + IF, check=False)), {}))


def test_names_inside_a_branch_are_kept_and_the_file_is_not_changed(make: Make) -> None:
    proto = make(HEAD + IF, check=False)
    before = proto.SerializeToString(deterministic=True)
    taken = take_branches(ir.from_proto(proto), {"small": True})
    assert {"m", "y"} <= {str(v.name) for v in ir.values(taken)}
    assert proto.SerializeToString(deterministic=True) == before


def test_a_constant_condition_needs_no_trace(make: Make) -> None:
    text = HEAD + IF.replace("top = ReduceMax <keepdims=0> (x)\n", "").replace(
        "big = Constant <value_float=100.0> ()\n  small = Less (top, big)", "small = Constant <value = bool {0}> ()"
    )
    model = take_branches(ir.from_proto(make(text, check=False)), {})
    np.testing.assert_allclose(run(model, X)[0], -X)


def test_both_are_valid_models(make: Make) -> None:
    for text, change in ((LOOP, unroll_loops), (IF, lambda m: take_branches(m, {"small": True}))):
        before = make(HEAD + text, check=False)
        after = ir.to_proto(change(ir.from_proto(before)))
        onnx.checker.check_model(after, full_check=True)
        assert not {"Loop", "If"} & {n.op_type for n in after.graph.node}
        assert list(after.graph.input) == list(before.graph.input)
        assert list(after.graph.output) == list(before.graph.output)
