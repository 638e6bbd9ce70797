"""Poolings that compute before they reduce; the map `f` enters each of them, as can be read off the text."""

import pytest
from located import BODY, HEAD, LINEAR, SIGNATURE, anatomy_of
from small_models import Make

from onnxcam.types import NoteCode

GENERALISED_MEANS = {
    "clamp, power, mean, root": "c1 = Clip (f, low)\n r = Pow (c1, three)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n p = Pow (m, third)",
    "a pool of the whole map": "c1 = Clip (f, low)\n r = Pow (c1, three)\n g = AveragePool <kernel_shape=[4,3]> (r)\n k = Pow (g, third)\n p = Flatten (k)",
    "a root that is computed": "q = Div (one, three)\n c1 = Max (f, low)\n r = Pow (c1, three)\n g = GlobalAveragePool (r)\n k = Pow (g, q)\n p = Flatten (k)",
    "a power for each channel": "r = Pow (f, powers)\n g = GlobalAveragePool (r)\n q = Reciprocal (powers)\n k = Pow (g, q)\n p = Flatten (k)",
    "squares and a square root": "r = Mul (f, f)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n p = Sqrt (m)",
    "a cube of products": "s = Mul (f, f)\n r = Mul (s, f)\n m = ReduceSum (r, space)\n n = Reshape (m, row)\n p = Pow (n, third)",
    "signed powers": "s = Sign (f)\n a1 = Abs (f)\n b1 = Pow (a1, three)\n r = Mul (s, b1)\n g = GlobalAveragePool (r)\n k = Pow (g, third)\n p = Flatten (k)",
    "a power by logarithms": "c1 = Clip (f, low)\n l = Log (c1)\n t = Mul (three, l)\n r = Exp (t)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n p = Pow (m, third)",
    "log-sum-exp": "p = ReduceLogSumExp <axes=[2,3], keepdims=0> (f)",
    "log-mean-exp, scaled": "t = Mul (f, three)\n r = Exp (t)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n l = Log (m)\n p = Div (l, three)",
    "log-sum-exp, scaled": "t = Mul (f, three)\n l = ReduceLogSumExp <axes=[2,3], keepdims=0> (t)\n p = Div (l, three)",
    "log-sum-exp less the maximum": "x1 = ReduceMax <axes=[2,3], keepdims=1> (f)\n t = Sub (f, x1)\n r = Exp (t)\n m = ReduceMean <axes=[2,3], keepdims=1> (r)\n l = Log (m)\n k = Add (l, x1)\n p = Flatten (k)",
    "geometric mean": "c1 = Add (f, low)\n r = Log (c1)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n p = Exp (m)",
    "softmax for each channel": "v1 = Reshape (f, cells)\n w1 = Softmax <axis=2> (v1)\n r = Mul (v1, w1)\n p = ReduceSum <keepdims=0> (r, second)",
    "softmax by hand": "e = Exp (f)\n r = Mul (f, e)\n m = ReduceSum <keepdims=0> (r, space)\n n = ReduceSum <keepdims=0> (e, space)\n p = Div (m, n)",
    "a normalised gate": "q = Conv (f, a)\n g = Sigmoid (q)\n r = Mul (g, f)\n m = ReduceSum <keepdims=0> (r, space)\n n = ReduceSum <keepdims=0> (g, space)\n d = Add (n, low)\n p = Div (m, d)",
    "a ratio of powers": "r = Pow (f, three)\n s = Mul (f, f)\n m = ReduceSum <keepdims=0> (r, space)\n n = ReduceSum <keepdims=0> (s, space)\n p = Div (m, n)",
}  # fmt: skip
WEIGHTS = """<float[8,3,3,3] w, float[8,5] v, float[1,8,1,1] a, float low = {0.00001}, float one = {1}, float three = {3},
    float third = {0.3333}, float[1,8,1,1] powers, int64[2] space = {2, 3}, int64[1] second = {2}, int64[2] row = {0, 8},
    int64[3] cells = {0, 8, 12}>"""


@pytest.mark.parametrize("pooling", GENERALISED_MEANS)
def test_the_features_are_what_enters_the_poolings_own_arithmetic(make: Make, pooling: str) -> None:
    text = f"{HEAD}{SIGNATURE}{WEIGHTS}{{{BODY}{GENERALISED_MEANS[pooling]}\n logits = MatMul (p, v)\n}}"
    features = anatomy_of(make(text)).features
    assert features.tensor == "f"
    assert features.layout == "NCHW"


def test_a_power_that_no_root_follows_is_an_activation(make: Make) -> None:
    pooling = "r = Mul (f, f)\n g = GlobalAveragePool (r)\n p = Flatten (g)"
    assert (
        anatomy_of(make(f"{HEAD}{SIGNATURE}{LINEAR}{{{BODY}{pooling}\n logits = MatMul (p, v)\n}}")).features.tensor
        == "r"
    )


def test_a_bounded_activation_before_a_generalised_mean_stays(make: Make) -> None:
    pooling = (
        "s = Clip (f, low, high)\n r = Pow (s, high)\n m = ReduceMean <axes=[2,3], keepdims=0> (r)\n p = Pow (m, third)"
    )
    weights = "<float[8,3,3,3] w, float[8,5] v, float low = {0}, float high = {6}, float third = {0.1666}>"
    text = f"{HEAD}{SIGNATURE}{weights}{{{BODY}{pooling}\n logits = MatMul (p, v)\n}}"
    assert anatomy_of(make(text)).features.tensor == "s"


def test_a_gate_over_space_is_noted_with_the_map_before_it(make: Make) -> None:
    pooling = "q = Conv (f, a)\n g = Sigmoid (q)\n r = Mul (f, g)\n p = ReduceMean <axes=[2,3], keepdims=0> (r)"
    anatomy = anatomy_of(make(f"{HEAD}{SIGNATURE}{WEIGHTS}{{{BODY}{pooling}\n logits = MatMul (p, v)\n}}"))
    assert anatomy.features.tensor == "r"
    (note,) = [n for n in anatomy.notes if n.code is NoteCode.GATED]
    assert "'f' is the map before it" in note.text


@pytest.mark.parametrize("joined", [False, True], ids=["two layers", "one layer for keys and values"])
def test_attention_of_a_learned_query_pools_the_tokens_that_it_projects(make: Make, joined: bool) -> None:
    apart = "k1 = MatMul (t, ka)\n v1 = MatMul (t, va)"
    layers = "kv = MatMul (t, kva)\n k1, v1 = Split <axis=2, num_outputs=2> (kv)" if joined else apart
    text = f"""{HEAD.replace("17", "18")}{SIGNATURE}
    <float[8,3,3,3] w, float[8,5] v, float[8,8] ka, float[8,8] va, float[8,16] kva, float[1,1,8] query, float scale = {{0.35}},
     int64[3] cells = {{0, 8, 12}}, int64[2] row = {{0, 8}}>
    {{{BODY}
      flat = Reshape (f, cells)
      t = Transpose <perm=[0,2,1]> (flat)
      {layers}
      kt = Transpose <perm=[0,2,1]> (k1)
      dots = MatMul (query, kt)
      scaled = Mul (dots, scale)
      weights = Softmax <axis=2> (scaled)
      mixed = MatMul (weights, v1)
      p = Reshape (mixed, row)
      logits = MatMul (p, v)
    }}"""
    assert anatomy_of(make(text)).features.tensor == "t"
