"""Small networks whose grid is split and joined; the last map, which enters the pooling, is kept in each."""

import pytest
from located import HEAD, anatomy_of
from small_models import Make

BLOCKS = {
    "NesT: blocks of tokens, put together at the end": (
        "s = Reshape (f, cut)\n b = Transpose <perm=[0,2,4,3,5,1]> (s)\n l = Reshape (b, blocks)\n m = MatMul (l, u)\n"
        "r = Add (l, m)\n j = Reshape (r, joined)\n t = Transpose <perm=[0,5,1,3,2,4]> (j)\n g = Reshape (t, map)\n"
        "p = ReduceMean <axes=[2,3], keepdims=0> (g)",
        "g", "NCHW", (8, 4),
    ),
    "Hiera: unrolled tokens, pooled inside their cells": (
        "s = Reshape (f, cut)\n b = Transpose <perm=[0,3,5,2,4,1]> (s)\n l = Reshape (b, unrolled)\n"
        "q = ReduceMax <axes=[1], keepdims=0> (l)\n g = Relu (q)\n p = ReduceMean <axes=[1], keepdims=0> (g)",
        "g", "NTC (T=2x2)", (2, 2),
    ),
    "TResNet: space to depth by reshapes": (
        "s = Reshape (f, depth)\n b = Transpose <perm=[0,3,5,1,2,4]> (s)\n l = Reshape (b, deeper)\n"
        "g = Conv (l, narrow)\n p = ReduceMean <axes=[2,3], keepdims=0> (g)",
        "g", "NCHW", (4, 2),
    ),
    "Swin: merged patches, rolled windows and a residual": (
        "n = Transpose <perm=[0,2,3,1]> (f)\n a1 = Slice (n, two, far, first)\n a2 = Slice (n, none, two, first)\n"
        "a3 = Concat <axis=1> (a1, a2)\n s = Reshape (a3, windows)\n b = Transpose <perm=[0,1,3,2,4,5]> (s)\n"
        "l = Reshape (b, listed)\n m = MatMul (l, u)\n j = Reshape (m, apart)\n t = Transpose <perm=[0,1,3,2,4,5]> (j)\n"
        "k = Reshape (t, last)\n b1 = Slice (k, minus, far, first)\n b2 = Slice (k, none, minus, first)\n"
        "b3 = Concat <axis=1> (b1, b2)\n g = Relu (b3)\n p = ReduceMean <axes=[1,2], keepdims=0> (g)",
        "g", "NHWC", (8, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("batch", ["1", "N"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_grid_that_is_split_and_joined_is_kept(make: Make, name: str, batch: str) -> None:
    body, tensor, layout, grid = BLOCKS[name]
    text = f"""{HEAD}net (float[{batch},3,16,8] x) => (float[{batch},5] logits)
    <float[8,3,3,3] w, float[8,8] u, float[8,32,1,1] narrow, float[8,5] v, int64[6] cut = {{0, 8, 2, 4, 2, 2}},
     int64[4] blocks = {{0, 4, 8, 8}}, int64[6] joined = {{0, 2, 2, 4, 2, 8}}, int64[4] map = {{0, 8, 8, 4}},
     int64[4] unrolled = {{0, 8, 4, 8}}, int64[6] depth = {{0, 8, 4, 2, 2, 2}}, int64[4] deeper = {{0, 32, 4, 2}},
     int64[6] windows = {{-1, 2, 4, 2, 2, 8}}, int64[3] listed = {{-1, 8, 8}}, int64[6] apart = {{-1, 2, 2, 4, 2, 8}},
     int64[4] last = {{-1, 8, 4, 8}}, int64[1] two = {{2}}, int64[1] none = {{0}}, int64[1] first = {{1}},
     int64[1] far = {{1000}}, int64[1] minus = {{-2}}>
    {{
      c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
      f = Relu (c)
      {body}
      logits = MatMul (p, v)
    }}"""
    features = anatomy_of(make(text)).features
    assert (features.tensor, features.layout, features.grid) == (tensor, layout, grid)
