"""Small models written as ONNX text, so that a reader sees the graph that a claim is about."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx.parser

Make = Callable[..., onnx.ModelProto]

CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N,3,16,12] x) => (float[N,5] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, w3, b3)
}
"""
"""Two convolutions, 4x3 features of 8 channels, pooling and a linear head; input 16 high and 12 wide."""

PIXELS = """
<ir_version: 8, opset_import: ["" : 17]>
pixels (uint8[N,16,12,3] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v>
{
  real = Cast <to=1> (x)
  n = Transpose <perm=[0,3,1,2]> (real)
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (n, w)
  p = ReduceMean <axes=[2,3], keepdims=0> (c)
  logits = MatMul (p, v)
}
"""
"""Takes bytes, channels last; 4x3 features of 8 channels."""


SCALED_BY_BATCH = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2,3,16,12] x) => (float[2,5] logits)
<float[8,3,3,3] w, float[8,5] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Tanh (c)
  square = Mul (f, f)
  size = ReduceMean <keepdims=1> (square)
  part = Div (f, size)
  p = ReduceMean <axes=[2,3], keepdims=0> (part)
  logits = MatMul (p, v)
}"""
"""Bound to two pictures, which share the number that both are divided by."""


TWO_SCALES = """
<ir_version: 8, opset_import: ["" : 17]>
detector (float[1,3,16,16] x) => (float[1,10,20] boxes)
<float[8,3,3,3] w, float[8,8,3,3] u, float[10,8,1,1] h1, float[10,8,1,1] h2, int64[3] s = {0, 0, -1},
 int64[2] parts = {4, 6}>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  fine = Relu (c)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (fine, u)
  coarse = Relu (d)
  head1 = Conv (fine, h1)
  head2 = Conv (coarse, h2)
  t1 = Reshape (head1, s)
  t2 = Reshape (head2, s)
  raw = Concat <axis=2> (t1, t2)
  side, class = Split <axis=1> (raw, parts)
  prob = Sigmoid (class)
  boxes = Concat <axis=1> (side, prob)
}
"""
"""A detector: 4 sides and 6 classes of 16 boxes of the fine map, then 4 of the coarse one."""


TRANSFORMER = """
<ir_version: 8, opset_import: ["" : 17]>
vit (float[1,3,12,12] x) => (float[1,5] logits)
<float[6,3,4,4] patch, float[1,1,6] token, float[6,6] q, float[6,6] w, float[6,5] v,
 int64[3] rows = {0, 6, 9}, int64 first = {0}>
{
  c = Conv <kernel_shape=[4,4], strides=[4,4]> (x, patch)
  flat = Reshape (c, rows)
  patches = Transpose <perm=[0,2,1]> (flat)
  tokens = Concat <axis=1> (token, patches)
  query = MatMul (tokens, q)
  keys = Transpose <perm=[0,2,1]> (tokens)
  similar = MatMul (query, keys)
  weights = Softmax <axis=-1> (similar)
  mixed = MatMul (weights, tokens)
  attended = Add (tokens, mixed)
  hidden = MatMul (attended, w)
  active = Relu (hidden)
  out = Add (attended, active)
  chosen = Gather <axis=1> (out, first)
  logits = MatMul (chosen, v)
}
"""
"""A vision transformer of one block and a class token; after it the score reads the token only."""


ENSEMBLE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[6,3,3,3] w2, float[6,6,3,3] w3, float[8,5] v, float[6,5] u, float[7,3,3,3] dead>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[4,4]> (x, w)
  f = Relu (c)
  a = GlobalAveragePool (f)
  p = Flatten (a)
  s = MatMul (p, v)
  d = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w2)
  e = Relu (d)
  k = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (e, w3)
  g = Relu (k)
  b = GlobalAveragePool (g)
  q = Flatten (b)
  t = MatMul (q, u)
  logits = Add (s, t)
}
"""
"""Two networks whose logits are added: features f (8 of 4x3) and g (6 of 8x6)."""
SIAMESE = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,20,16] before, float[N,3,20,16] after) => (float[N,5] logits)
<float[8,3,3,3] w, float[8,5] v>
{
  ca = Conv <pads=[1,1,1,1], strides=[2,2]> (before, w)
  fa = Relu (ca)
  pa = ReduceMean <axes=[2,3], keepdims=0> (fa)
  cb = Conv <pads=[1,1,1,1], strides=[2,2]> (after, w)
  fb = Relu (cb)
  pb = ReduceMean <axes=[2,3], keepdims=0> (fb)
  d = Sub (pa, pb)
  s = Abs (d)
  logits = MatMul (s, v)
}"""
"""Two pictures, before and after, through one convolution; the score is of what differs."""


def network_over(sides: Sequence[int], *, channels: int, batch: str, opset: int = 17) -> str:
    """Signals, pictures or volumes of these sides: a convolution that halves them, 8 channels, pooling, 5 classes."""
    kernel, pads, strides = ("3",) * len(sides), ("1",) * 2 * len(sides), ("2",) * len(sides)
    return f"""<ir_version: 8, opset_import: ["" : {opset}]>
    net (float[{batch},{channels},{",".join(map(str, sides))}] x) => (float[{batch},5] logits)
    <float[8,{channels},{",".join(kernel)}] w, float[8,5] v>
    {{
      c = Conv <kernel_shape=[{",".join(kernel)}], pads=[{",".join(pads)}], strides=[{",".join(strides)}]> (x, w)
      f = Relu (c)
      g = GlobalAveragePool (f)
      p = Flatten (g)
      logits = MatMul (p, v)
    }}"""


def filled(text: str, seed: int = 0, *, check: bool = True) -> onnx.ModelProto:
    """The parsed model; every tensor that is declared but not computed becomes a weight of about unit gain."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    computed = {name for node in model.graph.node for name in node.output}
    for info in [v for v in model.graph.value_info if v.name not in computed]:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = 2 * rng.standard_normal(shape) / np.sqrt(fan_in)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
        model.graph.value_info.remove(info)
    if check:
        onnx.checker.check_model(model, full_check=True)
    return model
