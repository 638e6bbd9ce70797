"""Detectors as ONNX text that end in a selection: one trunk, and many ways to choose among its candidates.

The trunk predicts 16 candidates: `scores` (1,16,3), `classes_first` (1,3,16), `logits` (1,16,3) before the sigmoid, and
`sides` (1,16,4). Every tail computes the outputs that its signature names.
"""

import numpy as np
import onnx
import onnx.helper
import onnxruntime
from small_models import filled

from onnxcam.surgeon import ir

TRUNK = """
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w0)
  f = Tanh (f0)
  p = Conv <kernel_shape=[1,1]> (f, w1)
  p3 = Reshape (p, s7)
  raw, c = Split <axis=1> (p3, parts)
  logits = Transpose <perm=[0,2,1]> (c)
  scores = Sigmoid (logits)
  classes_first = Sigmoid (c)
  side = Transpose <perm=[0,2,1]> (raw)
  low, size = Split <axis=2> (side, halves)
  grown = Abs (size)
  high = Add (low, grown)
  sides = Concat <axis=2> (low, high)
"""
WEIGHTS = """float[6,3,3,3] w0, float[7,6,1,1] w1, int64[3] s7 = {1,7,-1}, int64[2] parts = {4,3}, int64[2] halves = {2,2},
  int64[1] five = {5}, int64[1] three = {3}, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2},
  int64[1] last = {-1}, int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64 classes = {3}, int64[2] flat = {1,48},
  int64[2] image_and_box = {0,2}, int64[1] most = {20}, float[1] iou = {0.5}, float[1] least = {0.3}, float half = {0.5},
  float none = {0.0}, int64[2] levels = {12,4}, int64[1] sixteen = {16}, int64[6] pads = {0,0,0,0,0,0},
  int64[4] fill = {0,0,6,0}, float[8,6] blank = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,
  0,0,0,0,0,0,0,0,0,0,0,0,0}, int64[3] by_four = {1,1,4}, int64[3] by_classes = {1,1,3}"""
LISTS = "float[D,4] boxes, float[D] best, int64[D] labels"

SUPPRESSED = """
  chosen = NonMaxSuppression (sides, classes_first, most, iou, least)
  best0 = GatherND (classes_first, chosen)
  ib = Gather <axis=1> (chosen, image_and_box)
  boxes0 = GatherND (sides, ib)
  label0 = Gather <axis=1> (chosen, i1)
"""
ROWS_OF_PLACES = """row = Div (k, classes)
           r = Unsqueeze (row, two)  r4 = Tile (r, by_four)
           boxes = GatherElements <axis=1> (sides, r4)"""
"""The boxes of the places k in the flattened scores."""

TAILS: dict[str, tuple[str, str]] = {
    "suppressed by class": (
        LISTS,
        SUPPRESSED + "best = Identity (best0) boxes = Identity (boxes0) labels = Identity (label0)",
    ),
    "suppressed, then the best": (
        LISTS,
        SUPPRESSED
        + """best, k = TopK <axis=0> (best0, three)
             boxes = Gather <axis=0> (boxes0, k)  labels = Gather <axis=0> (label0, k)""",
    ),
    "the best of all numbers": (
        "float[1,5] best, float[1,5,4] boxes, int64[1,5] labels",
        """line = Reshape (scores, flat)
           best, k = TopK (line, five)
           row = Div (k, classes)  labels = Mod (k, classes)
           r = Unsqueeze (row, two)  r4 = Tile (r, by_four)
           boxes = GatherElements <axis=1> (sides, r4)""",
    ),
    "the best rows, then the best of their numbers": (
        "float[1,5,6] dets",
        """top = ReduceMax <axes=[2], keepdims=0> (scores)
           t, i = TopK (top, five)
           iu = Unsqueeze (i, two)  i4 = Tile (iu, by_four)  i3 = Tile (iu, by_classes)
           b5 = GatherElements <axis=1> (sides, i4)  s5 = GatherElements <axis=1> (scores, i3)
           line = Flatten <axis=1> (s5)
           v, k = TopK (line, five)
           row = Div (k, classes)  label = Mod (k, classes)
           r = Unsqueeze (row, two)  r4 = Tile (r, by_four)
           bb = GatherElements <axis=1> (b5, r4)
           vu = Unsqueeze (v, two)  lu = Unsqueeze (label, two)  lf = Cast <to=1> (lu)
           dets = Concat <axis=2> (bb, vu, lf)""",
    ),
    "those above a threshold": (
        LISTS,
        """top = ReduceMax <axes=[2], keepdims=0> (scores)  arg = ArgMax <axis=2, keepdims=0> (scores)
           line = Squeeze (top, zero)  args = Squeeze (arg, zero)  s = Squeeze (sides, zero)
           above = Greater (line, half)  where = NonZero (above)  k = Squeeze (where, zero)
           best = Gather <axis=0> (line, k)  boxes = Gather <axis=0> (s, k)  labels = Gather <axis=0> (args, k)""",
    ),
    "compressed": (
        LISTS,
        """top = ReduceMax <axes=[2], keepdims=0> (scores)  arg = ArgMax <axis=2, keepdims=0> (scores)
           line = Squeeze (top, zero)  args = Squeeze (arg, zero)  s = Squeeze (sides, zero)
           above = Greater (line, half)
           best = Compress <axis=0> (line, above)  boxes = Compress <axis=0> (s, above)
           labels = Compress <axis=0> (args, above)""",
    ),
    "of two levels each": (
        "float[6,4] boxes, float[6] best",
        """a, b = Split <axis=1> (scores, levels)  sa, sb = Split <axis=1> (sides, levels)
           fa = Reshape (a, last)  fb = Reshape (b, last)
           va, ka = TopK (fa, three)  vb, kb = TopK (fb, three)
           ra = Div (ka, classes)  rb = Div (kb, classes)
           qa = Squeeze (sa, zero)  qb = Squeeze (sb, zero)
           ba = Gather <axis=0> (qa, ra)  bb = Gather <axis=0> (qb, rb)
           best = Concat <axis=0> (va, vb)  boxes = Concat <axis=0> (ba, bb)""",
    ),
    "of two levels, as probabilities of each": (
        "float[6,4] boxes, float[6] best",
        """la, lb = Split <axis=1> (logits, levels)  sa, sb = Split <axis=1> (sides, levels)
           a = Sigmoid (la)  b = Sigmoid (lb)  ga = Mul (a, a)  gb = Mul (b, b)
           fa = Reshape (ga, last)  fb = Reshape (gb, last)
           va, ka = TopK (fa, three)  vb, kb = TopK (fb, three)
           ra = Div (ka, classes)  rb = Div (kb, classes)
           qa = Squeeze (sa, zero)  qb = Squeeze (sb, zero)
           ba = Gather <axis=0> (qa, ra)  bb = Gather <axis=0> (qb, rb)
           best = Concat <axis=0> (va, vb)  boxes = Concat <axis=0> (ba, bb)""",
    ),
    "of each class": (
        "float[6,4] boxes, float[6] best, int64[6] labels",
        """s = Squeeze (sides, zero)  flat2 = Squeeze (scores, zero)
           a = Gather <axis=1> (flat2, i1)  b = Gather <axis=1> (flat2, i2)
           va, ka = TopK (a, three)  vb, kb = TopK (b, three)
           ba = Gather <axis=0> (s, ka)  bb = Gather <axis=0> (s, kb)
           best = Concat <axis=0> (va, vb)  boxes = Concat <axis=0> (ba, bb)
           ones = Expand (i1, three)  twos = Expand (i2, three)
           labels = Concat <axis=0> (ones, twos)""",
    ),
    "logits are chosen, probabilities returned": (
        "float[1,5] best, float[1,5,4] boxes",
        """line = Reshape (logits, flat)
           v, k = TopK (line, five)
           best = Sigmoid (v)
"""
        + ROWS_OF_PLACES,
    ),
    "blanks among them": (
        "float[1,5] best, float[1,5,4] boxes",
        """above = Greater (scores, half)  kept = Where (above, scores, none)
           line = Reshape (kept, flat)
           best, k = TopK (line, five)
"""
        + ROWS_OF_PLACES,
    ),
    "switched by peaks": (
        "float[1,5] best, float[1,5,4] boxes",
        """above = Greater (scores, half)  on = Cast <to=1> (above)  kept = Mul (scores, on)
           line = Reshape (kept, flat)
           best, k = TopK (line, five)
"""
        + ROWS_OF_PLACES,
    ),
    "padded to a fixed number": (
        "float[1,A,6] dets",
        SUPPRESSED
        + """v = Unsqueeze (best0, one)  lu = Unsqueeze (label0, one)  lf = Cast <to=1> (lu)
             rows = Concat <axis=1> (boxes0, v, lf)  padded = Pad (rows, fill)
             dets = Unsqueeze (padded, zero)""",
    ),
    "written into zeros": (
        "float[8,6] dets",
        """line = Reshape (scores, last)  s = Squeeze (sides, zero)
           v, k = TopK (line, five)
           row = Div (k, classes)  label = Mod (k, classes)
           b = Gather <axis=0> (s, row)  vu = Unsqueeze (v, one)  lu = Unsqueeze (label, one)  lf = Cast <to=1> (lu)
           rows = Concat <axis=1> (b, vu, lf)
           k1 = Shape (v)  n = Squeeze (k1, zero)  r = Range (i0, n, i1)  at = Unsqueeze (r, one)
           dets = ScatterND (blank, at, rows)""",
    ),
    "batch, sides, class, score": (
        "float[D,7] dets",
        """top = ReduceMax <axes=[2], keepdims=1> (scores)  arg = ArgMax <axis=2, keepdims=1> (scores)
           t1 = Transpose <perm=[0,2,1]> (top)
           chosen = NonMaxSuppression (sides, t1, most, iou, least)
           ib = Gather <axis=1> (chosen, image_and_box)
           b = GatherND (sides, ib)  l = GatherND (arg, ib)  v = GatherND (top, ib)
           n = Gather <axis=1> (chosen, zero)  nf = Cast <to=1> (n)  lf = Cast <to=1> (l)
           dets = Concat <axis=1> (nf, b, lf, v)""",
    ),
    "the first of those above": (
        LISTS,
        SUPPRESSED
        + """d = Shape (best0)  m = Min (d, three)
             best = Slice (best0, zero, m)  boxes = Slice (boxes0, zero, m)  labels = Slice (label0, zero, m)""",
    ),
}
"""By name: (the outputs, the nodes)."""


QUERIES = """<ir_version: 8, opset_import: ["" : 17]>
queries (float[1,3,8,8] x) => (float[1,5,3] logits, float[1,5,4] boxes)
<float[6,3,3,3] w0, float[6,3] we, float[6,6] wa, float[6,6] wd, float[6,3] wl, float[6,4] wb, int64[3] s6 = {1,6,-1},
 int64[1] five = {5}, int64[1] two = {2}, int64[3] by_six = {1,1,6}>
{
  f0 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w0)
  f = Tanh (f0)
  c = Reshape (f, s6)
  cells = Transpose <perm=[0,2,1]> (c)
  proposed = MatMul (cells, we)
  best = ReduceMax <axes=[2], keepdims=0> (proposed)
  top, chosen = TopK (best, five)
  u = Unsqueeze (chosen, two)
  index = Tile (u, by_six)
  q = GatherElements <axis=1> (cells, index)
  turned = Transpose <perm=[0,2,1]> (cells)
  seen = MatMul (q, wa)
  likeness = MatMul (seen, turned)
  weights = Softmax <axis=2> (likeness)
  read = MatMul (weights, cells)
  joined = Add (q, read)
  hidden0 = MatMul (joined, wd)
  hidden = Tanh (hidden0)
  logits = MatMul (hidden, wl)
  b = MatMul (hidden, wb)
  boxes = Sigmoid (b)
}"""
"""Predicts for five queries, which it chooses by TopK among the 16 cells of its encoder."""


def detector(tail: str, *, outputs: str | None = None, seed: int = 0) -> onnx.ModelProto:
    """The trunk with a tail of TAILS, or with nodes of another one and its outputs."""
    signature, nodes = TAILS[tail] if outputs is None else (outputs, tail)
    used = [w for w in _entries(WEIGHTS) if w.split("=")[0].split()[-1] in _words(TRUNK + nodes)]
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    detector (float[1,3,8,8] x) => ({signature})
    <{", ".join(used)}>
    {{ {TRUNK} {nodes} }}"""
    return filled(text, seed, check=False)


def _entries(text: str) -> list[str]:
    """The declarations, which are separated by commas outside braces and brackets."""
    entries, depth, current = [], 0, ""
    for letter in text.replace("\n", " "):
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and not depth:
            entries.append(current.strip())
            current = ""
        else:
            current += letter
    return [*entries, current.strip()]


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() or letter == "_" else " " for letter in text).split())


def picture(seed: int = 1) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """(1,3,8,8) noise."""
    return np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)


def run(model: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_bytes(model), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x}), strict=True))


def tensor(model: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    """A tensor in the middle of the model, as onnxruntime computes it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return onnxruntime.InferenceSession(copy.SerializeToString()).run([name], {"x": x})[0]
