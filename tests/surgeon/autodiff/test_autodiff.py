"""The backward pass: sums where paths meet, what stops a gradient, what is refused. Expected numbers by hand."""

from collections.abc import Mapping

import numpy as np
import onnx.parser
import pytest
from differentiated import SEED, computed_gradients, evaluated, inner_product_error, with_gradient

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.autodiff.driver import MissingRule, missing_rules
from onnxcam.surgeon.autodiff.rules.guided import GuidedRules
from onnxcam.surgeon.autodiff.rules.registry import BackwardNode, Cotangents, Ops, Rule
from onnxcam.surgeon.ir import Value

ONES = np.ones((1, 3), np.float32)
X = np.array([[1, 2, -1]], np.float32)


def net(nodes: str, weights: str = "", opset: int = 18, batch: str = "1") -> str:
    head = f'<ir_version: 10, opset_import: ["" : {opset}, "com.example" : 1]>'
    return f"{head} net (float[{batch},3] x) => (float[{batch},3] y) {f'<{weights}>' if weights else ''} {{ {nodes} }}"


def gradient(nodes: str, weights: str = "", overrides: Mapping[str, Rule] | None = None) -> list[float]:
    """The gradient of the sum of y by x, at x = [1, 2, -1]."""
    (by_x,) = computed_gradients(net(nodes, weights), {"x": X}, ONES, overrides)
    return [float(number) for number in by_x[0]]


def test_a_tensor_that_is_read_twice_gets_the_sum() -> None:
    assert gradient("a = Mul (x, x) y = Add (a, x)") == [3, 5, -1]  # 2 x + 1


def test_a_tensor_that_is_read_four_times_gets_the_sum() -> None:
    nodes = "a = Mul (x, x) b = Mul (x, w) c = Neg (x) s = Sum (a, b, c) y = Sub (s, x)"
    assert gradient(nodes, "float w = {5.0}") == [5, 7, 1]  # 2 x + 5 - 1 - 1


def test_paths_that_part_and_meet_again_are_summed() -> None:
    assert gradient("a = Mul (x, x) b = Neg (a) y = Mul (a, b)") == [-4, -32, 4]  # -x^4


def test_an_inner_tensor_and_an_input_are_differentiated_by_at_once() -> None:
    _, proto = with_gradient(net("h = Mul (x, x) y = Mul (h, x)"), ["h", "x"])
    by_h, by_x = evaluated(proto, ["d_h", "d_x"], {"x": X, SEED: ONES})
    np.testing.assert_array_equal(by_h, [[1, 2, -1]])
    np.testing.assert_array_equal(by_x, [[3, 12, 3]], "the cotangent of h is returned and also passed on to x")


def test_the_gradient_by_the_output_itself_is_the_seed() -> None:
    _, proto = with_gradient(net("y = Mul (x, x)"), ["y", "x"])
    by_y, by_x = evaluated(proto, ["d_y", "d_x"], {"x": X, SEED: 2 * ONES})
    np.testing.assert_array_equal(by_y, [[2, 2, 2]])
    np.testing.assert_array_equal(by_x, [[4, 8, -4]])


def test_a_part_of_a_split_that_nothing_reads_gets_zeros() -> None:
    nodes = "p, q, r = Split <axis=1, num_outputs=3> (x) s = Sub (p, r) y = Expand (s, t)"
    assert gradient(nodes, "int64[2] t = {1, 3}") == [3, 0, -3]


def test_a_node_that_does_not_lead_to_the_output_needs_no_rule() -> None:
    assert gradient("d = com.example.Strange (x) f = Floor (x) y = Mul (x, w)", "float w = {2.0}") == [2, 2, 2]


def test_a_path_without_gradient_counts_as_a_constant() -> None:
    assert gradient("f = Ceil (x) g = Greater (x, f) h = CastLike (g, x) s = Add (f, h) y = Mul (x, s)") == [1, 2, -1]


def test_cast_like_passes_no_gradient_to_the_input_whose_type_it_takes() -> None:
    assert gradient("a = CastLike (w, x) y = Mul (a, x)", "int64[3] w = {1, 2, 3}") == [1, 2, 3]
    with pytest.raises(MissingGradient, match="the score does not change with 'x'"):
        gradient("y = CastLike (w, x)", "int64[1,3] w = {1, 2, 3}")


@pytest.mark.parametrize("nodes", ["y = Floor (x)", "a = Exp (x) b = Sign (a) y = Mul (b, b)", "i = Cast <to=7> (x) y = Cast <to=1> (i)"])  # fmt: skip
def test_a_score_that_no_small_change_moves_is_refused(nodes: str) -> None:
    with pytest.raises(MissingGradient, match="the score does not change with 'x' along any path"):
        gradient(nodes)


def test_every_operator_without_a_rule_is_named_with_its_first_node() -> None:
    nodes = """
      [first] a = ReduceProd (x) [second] b = ReduceProd (a) [strange] c = com.example.Strange (b)
      [odd] d = com.example.Odd (c) y = Mul (d, x)
    """
    with pytest.raises(MissingGradient) as caught:
        with_gradient(net(nodes), ["x"])
    for part in ("ReduceProd-18 (node 'first') and 1 more", "com.example.Strange (node 'strange')", "com.example.Odd (node 'odd')", "the decorator onnxcam.surgeon.autodiff.rules.gradient"):  # fmt: skip
        assert part in str(caught.value)


def test_a_second_output_that_the_score_depends_on_is_refused() -> None:
    nodes = "n, m = LayerNormalization (x, s) y = Add (n, m)"
    with pytest.raises(MissingGradient, match=r"LayerNormalization-17 .* second output"):
        gradient(nodes, "float[3] s = {1.0, 1.0, 1.0}")


def test_indices_of_top_k_count_as_constants() -> None:
    nodes = "v, i = TopK (x, k) f = Cast <to=1> (i) y = Mul (v, f)"
    assert gradient(nodes, "int64[1] k = {3}") == [0, 1, 2]  # largest first: 2, 1, -1, from the indices 1, 0, 2


def test_a_branch_that_reads_the_image_by_name_is_refused() -> None:
    nodes = """c = Less (z, o) r = If (c) <then_branch = t () => (float[1,3] a) { a = Exp (x) },
                                           else_branch = e () => (float[1,3] b) { b = Neg (x) }> y = Add (x, r)"""
    with pytest.raises(MissingGradient, match="If-16"):
        gradient(nodes, "float z = {0.0}, float o = {1.0}")


def test_a_branch_that_does_not_read_the_image_is_a_constant() -> None:
    nodes = """c = Less (z, o) r = If (c) <then_branch = t () => (float[1] a) { a = Exp (o) },
                                           else_branch = e () => (float[1] b) { b = Neg (o) }> y = Mul (x, r)"""
    np.testing.assert_allclose(gradient(nodes, "float z = {0.0}, float[1] o = {1.0}"), np.e, rtol=1e-6)


def doubled(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
    return op.Add(dy, dy)


def test_an_override_replaces_the_tables_rule() -> None:
    nodes = "r = Relu (x) y = Mul (r, x)"
    assert gradient(nodes) == [2, 4, 0]
    assert gradient(nodes, overrides={"Relu": doubled}) == [3, 6, -2]


def test_the_cotangents_of_an_override_are_summed_over_broadcast_axes() -> None:
    def both(op: Ops, node: BackwardNode, dy: Value) -> Cotangents:
        return dy, op.Add(dy, dy)

    text = net("y = Add (x, w)").replace("[1,3] x)", "[1,3] x, float[1] w)")
    by_x, by_w = computed_gradients(text, {"x": X, "w": np.ones(1, np.float32)}, ONES, {"Add": both})
    assert by_x.tolist() == [[1, 1, 1]]
    assert by_w.tolist() == [6]


def test_guided_rules_pass_only_positive_cotangents_at_positive_outputs() -> None:
    weights = "float[3] w = {1.0, -1.0, 2.0}, float zero = {0.0}, float low = {-4.0}, float six = {6.0}"
    assert gradient("r = Relu (x) y = Mul (r, w)", weights) == [1, -1, 0]
    assert gradient("r = Relu (x) y = Mul (r, w)", weights, GuidedRules().overrides) == [1, 0, 0]
    assert gradient("r = Clip (x, zero, six) y = Mul (r, w)", weights, GuidedRules().overrides) == [1, 0, 0]
    assert gradient("r = Clip (x, low, six) y = Mul (r, w)", weights, GuidedRules().overrides) == [1, -1, 2], (
        "not from 0: no ReLU"
    )


def test_a_deep_mixture_of_operators() -> None:
    """Branches, a residual, attention, a gate and a choice, against slopes in float64."""
    text = """<ir_version: 10, opset_import: ["" : 18]>
    net (double[N,4,6,6] x) => (double[N,3] y) <double[4,4,3,3] w, double[4,1,3,3] d, double[4,3] v, int64[3] s = {0, 4, -1}>
    {
      c = Conv <pads=[1,1,1,1]> (x, w)
      g = Sigmoid (c)
      h = Mul (c, g)
      r = Add (h, x)
      e = Conv <pads=[1,1,1,1], strides=[2,2], group=4> (r, d)
      f = Reshape (e, s)
      t = Transpose <perm=[0,2,1]> (f)
      a = MatMul (f, t)
      p = Softmax (a)
      q = MatMul (p, f)
      m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r)
      o = ReduceMean <keepdims=0> (m, j)
      u = ReduceMax <keepdims=0> (q, k)
      n = Add (o, u)
      y = MatMul (n, v)
    }""".replace("{0, 4, -1}", "{0, 4, -1}, int64[2] j = {2, 3}, int64[1] k = {2}")
    x = np.random.default_rng(0).standard_normal((4, 4, 6, 6))
    assert inner_product_error(text, {"x": x}) <= 1e-6


def test_an_operator_without_a_rule_says_whether_it_is_of_the_standard() -> None:
    nodes = "a = ReduceProd (x) b = com.example.Odd (a) y = Mul (b, x)"
    model = ir.from_proto(onnx.parser.parse_model(net(nodes)))
    standard, foreign = missing_rules(model, list(model.graph.outputs), list(model.graph.inputs))
    assert standard == MissingRule("ReduceProd-18", "ReduceProd", True, standard.nodes)
    assert foreign == MissingRule("com.example.Odd", "Odd", False, foreign.nodes)
