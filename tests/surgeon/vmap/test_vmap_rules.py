"""Every batch rule, each on a graph of little more than its operator."""

import onnx
import pytest
from batched import assert_same, declared, drawn, freed, measured, model_of
from small_models import Make

from onnxcam.surgeon import ir
from onnxcam.surgeon.vmap.driver import CannotBatch, free_batch
from onnxcam.surgeon.vmap.registry import FOREIGN, REFUSED, STANDARD

X4, X3, X2 = "float[1,4,6,8] x", "float[1,6,4] x", "float[1,6] x"
REGIONS = "float[3,4] r = {0,0,3,3,1,2,7,5,0,0,9,2}, int64[3] i = {0,0,0}"
POOLED = "RoiAlign <output_height=2, output_width=2, sampling_ratio=2>"

# (opset, inputs, weights, nodes whose last result is y)
CASES: dict[str, tuple[int, str, str, str]] = {
    # elementwise and broadcasting
    "unary": (17, X4, "", "y = Sigmoid (x)"),
    "add-weight": (17, X4, "float[4,1,1] w", "y = Add (x, w)"),
    "add-itself-pooled": (17, X4, "", "p = GlobalAveragePool (x) y = Mul (x, p)"),
    "lower-rank-with-batch": (17, X3, "int64[1] c = {2}", "r = Gather <axis=1> (x, c) s = Squeeze (r, one) y = Add (x, s)"),
    "scalar-of-the-sample": (17, X4, "", "m = ReduceMean <keepdims=0> (x) y = Sub (x, m)"),
    "vector-of-the-sample": (17, X4, "", "f = Gather <axis=0> (x, zero0) m = ReduceMean <axes=[0,1], keepdims=0> (f) y = Div (x, m)"),
    "extra-and-weight": (17, X4, "float[3,4,6,8] w", "f = Gather <axis=0> (x, zero0) y = Mul (f, w)"),
    "weight-stretches-the-batch": (17, X4, "float[3,4,1,1] w", "y = Mul (x, w)"),
    "batches-at-two-axes": (17, X3, "", "t = Transpose <perm=[1,0,2]> (x) y = Add (x, t)"),
    "merged-with-weight-of-its-size": (17, X3, "int64[2] s = {6, 4}, float[6,1] w", "r = Reshape (x, s) y = Mul (r, w)"),
    "where": (17, X4, "float[1] w", "b = Greater (x, w) y = Where (b, x, w)"),
    "sum-of-three": (17, X4, "float[4,1,1] w", "y = Sum (x, w, x)"),
    "clip": (17, X4, "float lo = {-0.5}, float hi = {0.5}", "y = Clip (x, lo, hi)"),
    "clip-attributes": (9, X4, "", "y = Clip <min=-0.5, max=0.5> (x)"),
    "clip-by-the-sample": (17, X4, "float hi = {0.5}", "lo = ReduceMean <keepdims=0> (x) y = Clip (x, lo, hi)"),
    "cast-like-the-sample": (17, X4, "double[1] w = {2.0}", "c = CastLike (w, x) y = Mul (x, c)"),
    "dropout": (12, X4, "", "y = Dropout (x)"),
    "quantise-per-tensor": (17, X4, "float s = {0.1}, uint8 z = {128}", "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"),
    "quantise-per-channel": (17, X4, "float[4] s = {0.1,0.2,0.1,0.3}, int8[4] z = {0,1,0,2}", "q = QuantizeLinear <axis=1> (x, s, z) y = DequantizeLinear <axis=-3> (q, s, z)"),
    "quantise-extra": (17, X4, "float[4] s = {0.1,0.2,0.1,0.3}, int8[4] z = {0,1,0,2}", "f = Squeeze (x, zero) q = QuantizeLinear <axis=0> (f, s, z) y = DequantizeLinear <axis=0> (q, s, z)"),
    "bias-gelu": (17, X3, "float[4] w", "y = com.microsoft.BiasGelu (x, w)"),
    "qlinear-add": (17, X4, "float s = {0.1}, uint8 z = {128}", "q = QuantizeLinear (x, s, z) a = com.microsoft.QLinearAdd (q, s, z, q, s, z, s, z) y = DequantizeLinear (a, s, z)"),
    "qlinear-where": (17, X4, "float s = {0.1}, uint8 z = {128}", "q = QuantizeLinear (x, s, z) b = Greater (x, s) a = com.microsoft.QLinearWhere (b, q, s, z, q, s, z, s, z) y = DequantizeLinear (a, s, z)"),
    "old-broadcast": (7, X4, "float[4,1,1] w", "y = Mul (x, w)"),
    # along axes
    "softmax": (17, X4, "", "y = Softmax <axis=-3> (x)"),
    "softmax-of-old": (11, X4, "", "y = Softmax <axis=1> (x)"),
    "softmax-over-a-merged-batch": (17, X2, "int64[1] s = {-1}", "r = Reshape (x, s) y = Softmax <axis=0> (r)"),
    "softmax-of-old-extra": (11, X4, "", "f = Squeeze <axes=[0]> (x) y = Softmax <axis=1> (f)"),
    "cumsum": (17, X4, "int64 a = {-1}", "y = CumSum (x, a)"),
    "cumsum-extra": (17, X4, "int64 a = {1}", "f = Squeeze (x, zero) y = CumSum (f, a)"),
    "layer-norm": (17, X3, "float[4] w, float[4] b", "y = LayerNormalization <axis=-1> (x, w, b)"),
    "layer-norm-extra": (17, X3, "float[6,4] w, float[6,4] b", "f = Squeeze (x, zero) y = LayerNormalization <axis=0> (f, w, b)"),
    "layer-norm-over-the-batch": (17, X3, "int64[2] s = {6,4}, float[6,4] w", "r = Reshape (x, s) y = LayerNormalization <axis=0> (r, w)"),
    "softmax-of-old-over-the-batch": (11, X3, "int64[2] s = {6,4}", "r = Reshape (x, s) y = Softmax <axis=0> (r)"),
    "rms-norm": (23, X3, "float[4] w", "y = RMSNormalization <axis=-1> (x, w)"),
    "lp-norm": (17, X3, "", "y = LpNormalization <axis=1> (x)"),
    "argmax": (17, X4, "", "y = ArgMax <axis=1, keepdims=0> (x)"),
    "argmax-extra": (17, X4, "", "f = Squeeze (x, zero) y = ArgMax <axis=0, keepdims=0> (f)"),
    "topk": (17, X4, "int64[1] k = {2}", "y, i = TopK <axis=2> (x, k)"),
    "mean-attribute": (17, X4, "", "y = ReduceMean <axes=[2,-1], keepdims=0> (x)"),
    "mean-input": (18, X4, "int64[2] a = {2,-1}", "y = ReduceMean <keepdims=0> (x, a)"),
    "mean-over-all": (17, X4, "", "y = ReduceMean <keepdims=0> (x)"),
    "mean-over-all-18": (18, X4, "", "y = ReduceMean (x)"),
    "mean-over-the-batch": (17, X4, "", "y = ReduceMean <axes=[0]> (x)"),
    "sum-over-the-batch-dropped": (17, X4, "", "y = ReduceSum <keepdims=0> (x, zero)"),
    "mean-over-batch-and-place": (17, X4, "", "y = ReduceMean <axes=[0,2,3], keepdims=0> (x)"),
    "l2-over-the-batch": (17, X4, "", "y = ReduceL2 <axes=[0]> (x)"),
    "sum-square-over-the-batch-18": (18, X4, "", "y = ReduceSumSquare <keepdims=0> (x, zero)"),
    "max-of-a-moved-batch": (17, X3, "", "t = Transpose <perm=[1,0,2]> (x) y = ReduceMax <axes=[1,2], keepdims=0> (t)"),
    "no-axes-no-operation": (18, X4, "", "y = ReduceSum <noop_with_empty_axes=1> (x)"),
    # moving entries
    "transpose": (17, X4, "", "y = Transpose <perm=[2,0,3,1]> (x)"),
    "transpose-extra": (17, X3, "", "f = Squeeze (x, zero) y = Transpose (f)"),
    "flatten": (17, X4, "", "y = Flatten (x)"),
    "flatten-behind-the-batch": (17, X4, "", "y = Flatten <axis=-1> (x)"),
    "flatten-all": (17, X4, "", "y = Flatten <axis=0> (x)"),
    "reshape-baked": (17, X4, "int64[2] s = {1, 192}", "y = Reshape (x, s)"),
    "reshape-one-and-rest": (17, X4, "int64[2] s = {1, -1}", "y = Reshape (x, s)"),
    "reshape-zero": (17, X4, "int64[3] s = {0, 4, -1}", "y = Reshape (x, s)"),
    "reshape-loses-the-batch": (17, X4, "int64[2] s = {4, 48}", "y = Reshape (x, s)"),
    "reshape-to-a-vector-and-back": (17, X4, "int64[1] s = {-1}, int64[2] t = {1, 192}", "f = Reshape (x, s) a = Abs (f) y = Reshape (a, t)"),
    "reshape-behind": (17, X3, "int64[3] s = {2, 3, 4}, int64[3] t = {3, 1, 8}", "t1 = Transpose <perm=[1,0,2]> (x) r = Reshape (t1, t) y = Neg (r)"),
    "reshape-across-the-batch": (17, X3, "int64[1] s = {24}, float[24] w", "t = Transpose <perm=[1,0,2]> (x) r = Reshape (t, s) y = Mul (r, w)"),
    "windows": (17, X4, "int64[6] s = {1,4,2,3,2,4}, int64[3] t = {4,12,4}, int64[6] u = {1,2,2,3,4,4}, int64[4] v = {1,6,8,4}, float[1,12,4] w", "r = Reshape (x, s) p = Transpose <perm=[0,2,4,3,5,1]> (r) z = Reshape (p, t) m = Softmax <axis=1> (z) n = Mul (m, w) b = Reshape (n, u) q = Transpose <perm=[0,1,3,2,4,5]> (b) y = Reshape (q, v)"),
    "windows-masked": (17, X4, "int64[3] s = {4,12,4}, int64[4] t = {1,4,12,4}, float[1,4,1,4] w", "r = Reshape (x, s) f = Reshape (r, t) y = Add (f, w)"),
    "squeeze": (17, "float[1,4,1,1] x", "int64[2] a = {2,-1}", "y = Squeeze (x, a)"),
    "squeeze-attribute": (11, "float[1,4,1,1] x", "", "y = Squeeze <axes=[2,3]> (x)"),
    "squeeze-everything": (17, "float[1,4,1,1] x", "", "y = Squeeze (x)"),
    "squeeze-of-a-moved-batch": (17, X3, "", "t = Transpose <perm=[1,0,2]> (x) y = Squeeze (t, one)"),
    "unsqueeze": (17, X2, "int64[2] a = {0,-1}", "y = Unsqueeze (x, a)"),
    "unsqueeze-back": (17, X2, "int64[2] a = {0,2}", "f = Squeeze (x, zero) y = Unsqueeze (f, a)"),
    "unsqueeze-behind": (11, X2, "", "f = Squeeze <axes=[0]> (x) y = Unsqueeze <axes=[1]> (f)"),
    "expand": (17, "float[1,1,4] x", "int64[3] s = {1,3,4}", "y = Expand (x, s)"),
    "expand-the-batch": (17, "float[1,1,4] x", "int64[3] s = {3,1,4}", "y = Expand (x, s)"),
    "expand-adds-axes": (17, X2, "int64[3] s = {2,1,6}", "y = Expand (x, s)"),
    "tile": (17, X2, "int64[2] t = {1,3}", "y = Tile (x, t)"),
    "tile-the-batch": (17, X2, "int64[2] t = {2,1}", "y = Tile (x, t)"),
    "class-token": (17, X3, "float[1,1,4] w", "y = Concat <axis=1> (w, x)"),
    "class-token-extra": (17, X3, "float[1,4] w", "f = Squeeze (x, zero) y = Concat <axis=-2> (w, f)"),
    "class-token-by-shape": (17, X3, "float[1,1,4] w, int64[2] rest = {1, 4}", "s = Shape (x) n = Gather (s, zero) t = Concat <axis=0> (n, rest) e = Expand (w, t) y = Concat <axis=1> (e, x)"),
    "join-merged-and-weight": (17, X3, "int64[2] s = {6, 4}, float[6,2] w", "r = Reshape (x, s) y = Concat <axis=1> (r, w)"),
    "join-along-the-batch": (17, X3, "", "a = Abs (x) y = Concat <axis=0> (x, a)"),
    "join-quantised": (17, X4, "float s = {0.1}, uint8 z = {128}", "q = QuantizeLinear (x, s, z) c = com.microsoft.QLinearConcat <axis=1> (s, z, q, s, z, q, s, z) y = DequantizeLinear (c, s, z)"),
    "join-of-one": (17, X3, "", "s = Slice (x, zero, one, zero) y = Concat <axis=0> (s)"),
    "split": (17, X4, "int64[2] s = {1, 3}", "a, b = Split <axis=1> (x, s) y = Mul (a, b)"),
    "split-extra": (17, X4, "int64[2] s = {1, 3}", "f = Squeeze (x, zero) a, b = Split <axis=0> (f, s) y = Mul (a, b)"),
    "slice": (17, X4, "int64[2] s = {1,2}, int64[2] e = {4,-1}, int64[2] a = {1,-1}", "y = Slice (x, s, e, a)"),
    "slice-attributes": (9, X4, "", "y = Slice <starts=[0,1], ends=[1,3], axes=[0,1]> (x)"),
    "slice-all-axes": (17, X4, "int64[4] s = {0,1,0,2}, int64[4] e = {1,4,6,8}", "y = Slice (x, s, e)"),
    "slice-the-batch": (17, X4, "", "y = Slice (x, zero, one, zero)"),
    "slice-backwards": (17, X3, "int64[2] s = {-1,-1}, int64[2] e = {-9,-9}, int64[2] a = {0,1}, int64[2] t = {-1,-1}", "y = Slice (x, s, e, a, t)"),
    "slice-extra": (17, X4, "int64[1] s = {1}, int64[1] e = {3}", "f = Squeeze (x, zero) y = Slice (f, s, e)"),
    "slice-a-merged-batch": (17, X3, "int64[2] s = {6,4}, int64[1] b = {1}, int64[1] e = {5}, int64[1] t = {2}", "r = Reshape (x, s) y = Slice (r, b, e, zero, t)"),
    "pad": (17, X4, "int64[8] p = {0,0,1,2,0,0,0,1}", "y = Pad (x, p)"),
    "pad-attribute": (9, X4, "", "y = Pad <pads=[0,0,1,2,0,0,0,1]> (x)"),
    "pad-axes": (18, X4, "int64[4] p = {1,2,0,1}, int64[2] a = {2,-1}", "y = Pad (x, p, , a)"),
    "pad-the-batch": (17, X2, "int64[4] p = {1,0,0,1}", "y = Pad (x, p)"),
    "depth-to-space": (17, X4, "", "y = DepthToSpace <blocksize=2> (x)"),
    "trilu": (17, X4, "", "y = Trilu (x)"),
    "trilu-over-the-batch": (17, X2, "", "y = Trilu <upper=1> (x)"),
    "shape-arithmetic": (17, X4, "int64[1] rest = {-1}", "s = Shape (x) n = Gather (s, zero) t = Concat <axis=0> (n, rest) y = Reshape (x, t)"),
    "divided-by-size": (17, X2, "", "s = Size (x) c = Cast <to=1> (s) y = Div (x, c)"),
    "zeros-of-its-shape": (17, X3, "float[1,6,4] w", "s = Shape (x) z = ConstantOfShape (s) a = Add (z, w) y = Concat <axis=2> (x, a)"),
    # indexing
    "index-0": (17, X4, "", "y = Gather <axis=0> (x, zero0)"),
    "index-minus-1-of-a-moved-batch": (17, X3, "int64 i = {-1}", "t = Transpose <perm=[1,0,2]> (x) y = Gather <axis=1> (t, i)"),
    "index-list": (17, X4, "", "y = Gather <axis=0> (x, zero)"),
    "gather-twice": (17, X2, "int64[2] i = {0,0}", "y = Gather <axis=0> (x, i)"),
    "gather-columns": (17, X4, "int64[2,2] i = {0,3,2,1}", "y = Gather <axis=1> (x, i)"),
    "gather-before-the-batch": (17, X3, "int64 i = {2}", "t = Transpose <perm=[1,0,2]> (x) y = Gather <axis=0> (t, i)"),
    "embedding": (17, "int64[1,6] x", "float[9,3] w", "y = Gather (w, x)"),
    "embedding-behind": (17, "int64[1,6] x", "float[3,9] w", "f = Squeeze (x, zero) y = Gather <axis=1> (w, f)"),
    "indices-of-the-sample": (17, X3, "", "i = ArgMax <axis=1, keepdims=0> (x) y = Gather <axis=1> (x, i)"),
    "indices-of-the-sample-behind": (17, X4, "", "i = ArgMax <axis=2, keepdims=0> (x) y = Gather <axis=2> (x, i)"),
    "gather-elements": (17, X3, "", "i = ArgMax <axis=1> (x) y = GatherElements <axis=1> (x, i)"),
    "gather-elements-of-a-weight": (17, X3, "float[1,6,4] w", "i = ArgMax <axis=1> (x) y = GatherElements <axis=1> (w, i)"),
    "scatter-elements": (17, X3, "int64[1,1,4] i = {1,0,3,2}, float[1,1,4] w", "y = ScatterElements <axis=1> (x, i, w)"),
    "gather-nd": (17, X3, "int64[2,3] i = {0,1,2,0,5,3}", "y = GatherND (x, i)"),
    "scatter-nd": (17, X3, "int64[2,2] i = {0,1,0,4}, float[2,4] w", "y = ScatterND (x, i, w)"),
    "one-hot": (17, "int64[1,6] x", "int64 d = {4}, float[2] v = {0,1}", "y = OneHot <axis=1> (x, d, v)"),
    "columns-of-a-table": (17, X2, "int64[2] i = {1,3}", "y = ai.onnx.ml.ArrayFeatureExtractor (x, i)"),
    "label-of-a-class": (17, X2, "float[1,6] w", "i = ArgMax <axis=1> (x) y = ai.onnx.ml.ArrayFeatureExtractor (w, i)"),
    # layers
    "conv": (17, X4, "float[5,4,3,3] w, float[5] b", "y = Conv <pads=[1,1,1,1]> (x, w, b)"),
    "conv-extra": (17, X4, "float[5,4,3,3] w", "f = Squeeze (x, zero) a = Abs (f) u = Unsqueeze (a, zero) y = Conv (u, w)"),
    "conv-over-channels": (17, X4, "float[1,1,3] w, int64[2] a = {2,3}, int64[1] m = {3}", "p = GlobalAveragePool (x) s = Squeeze (p, m) t = Transpose <perm=[0,2,1]> (s) c = Conv <pads=[1,1]> (t, w) b = Transpose <perm=[0,2,1]> (c) g = Unsqueeze (b, m) y = Mul (x, g)"),
    "conv-transposed": (17, X4, "float[4,2,3,3] w", "y = ConvTranspose <strides=[2,2]> (x, w)"),
    "max-pool": (17, X4, "", "y = MaxPool <kernel_shape=[2,2]> (x)"),
    "batch-norm": (17, X4, "float[4] s, float[4] b, float[4] m, float[4] v = {1,2,3,4}", "y = BatchNormalization (x, s, b, m, v)"),
    "instance-norm": (17, X4, "float[4] s, float[4] b", "y = InstanceNormalization (x, s, b)"),
    "group-norm": (21, X4, "float[4] s, float[4] b", "y = GroupNormalization <num_groups=2> (x, s, b)"),
    "lrn": (17, X4, "", "y = LRN <size=3> (x)"),
    "mean-variance": (13, X4, "", "y = MeanVarianceNormalization <axes=[0,2,3]> (x)"),
    "qlinear-conv": (17, X4, "float s = {0.1}, uint8 z = {128}, uint8[2,4,1,1] w = {1,2,3,4,5,6,7,8}, uint8 o = {3}", "q = QuantizeLinear (x, s, z) c = QLinearConv (q, s, z, w, s, o, s, z) y = DequantizeLinear (c, s, z)"),
    "conv-integer": (17, "uint8[1,4,6,8] x", "uint8[2,4,1,1] w = {1,2,3,4,5,6,7,8}", "y = ConvInteger (x, w)"),
    "fused-conv": (17, X4, "float[4,4,1,1] w, float[4] b", 'y = com.microsoft.FusedConv <activation="Relu"> (x, w, b, x)'),
    "deform-conv": (22, X4, "float[5,4,1,1] w, float[1,2,6,8] o", "y = DeformConv (x, w, o)"),
    "old-layers": (7, X4, "float[4] s, float[4] b, float[4] m, float[4] v = {1,2,3,4}, int64[2] t = {1,768}", "n = BatchNormalization (x, s, b, m, v) u = Upsample <scales=[1.0,1.0,2.0,2.0]> (n) f = Reshape (u, t) y = Softmax (f)"),
    "grid-sample": (17, X4, "float[1,3,3,2] w", "t = Tanh (w) y = GridSample (x, t)"),
    "resize-scales": (17, X4, "float[4] s = {1,1,2,2}", "y = Resize (x, , s)"),
    "resize-sizes": (17, X4, "int64[4] s = {1,4,9,16}", 'y = Resize <mode="linear"> (x, , , s)'),
    "resize-sizes-by-shape": (17, X4, "int64[1] two = {2}, int64[2] t = {9,16}", "s = Shape (x) h = Slice (s, zero, two) c = Concat <axis=0> (h, t) y = Resize (x, , , c)"),
    "regions": (17, X4, REGIONS, f"y = {POOLED} (x, r, i)"),
    "regions-10": (10, X4, REGIONS, f"y = {POOLED} (x, r, i)"),
    "regions-one": (17, X4, "float[1,4] r = {1,0,5,3}, int64[1] i = {0}", f"y = {POOLED} (x, r, i)"),
    "regions-of-the-sample": (17, "float[1,1,6,4] x", "int64[2] s = {6,4}, int64[6] i = {0,0,0,0,0,0}", f"e = Exp (x) r = Reshape (e, s) y = {POOLED} (x, r, i)"),
    "regions-of-several-maps": (17, X4, "int64[4] s = {2,2,6,8}, float[3,4] r = {0,0,3,3,1,2,7,5,0,0,9,2}, int64[3] i = {1,0,1}", f"m = Reshape (x, s) y = {POOLED} (m, r, i)"),
    "regions-chosen-by-the-sample": (17, X4, "float[4,4] r = {0,0,3,3,1,2,7,5,0,0,9,2,0,4,3,5}, int64[4] z = {0,0,0,0}", f"m = ReduceMax <axes=[0,2,3], keepdims=0> (x) k = ArgMax <keepdims=1> (m) q = Gather (r, k) i = Gather (z, k) y = {POOLED} (x, q, i)"),
    "regions-of-a-weight": (17, "float[1,6,4] x", "float[1,2,5,5] w, int64[2] s = {6,4}, int64[6] i = {0,0,0,0,0,0}", f"r = Reshape (x, s) y = {POOLED} (w, r, i)"),
    "resize-axes": (18, X4, "int64[2] s = {9,16}", "y = Resize <axes=[2,3]> (x, , , s)"),
    "resize-10": (10, X4, "float[4] s = {1,1,2,2}", "y = Resize (x, s)"),
    "upsample": (9, X4, "float[4] s = {1,1,2,2}", "y = Upsample (x, s)"),
    "lstm": (17, X3, "float[1,12,4] w, float[1,12,3] r, float[1,1,3] h, float[1,1,3] c, int64[3] s = {6,1,3}", "t = Transpose <perm=[1,0,2]> (x) a, b, d = LSTM <hidden_size=3> (t, w, r, , , h, c) q = Reshape (a, s) y0 = ReduceSum <keepdims=0> (q, zero) y1 = Add (y0, b) y = Add (y1, d)"),
    "gru-with-lengths": (17, X3, "float[1,9,4] w, float[1,9,3] r, int32[1] l = {4}", "t = Transpose <perm=[1,0,2]> (x) y, h = GRU <hidden_size=3> (t, w, r, , l)"),
    "rnn-zero-state-by-shape": (17, X3, "float[1,3,4] w, float[1,3,3] r, int64[1] three = {3}", "t = Transpose <perm=[1,0,2]> (x) s = Shape (x) n = Gather (s, zero) k = Concat <axis=0> (one, n, three) z = ConstantOfShape (k) y, h = RNN <hidden_size=3> (t, w, r, , , z)"),
    "rnn-whose-time-is-the-batch": (17, X3, "float[1,3,4] w, float[1,3,3] r", "a, h = RNN <hidden_size=3> (x, w, r) y = Squeeze (a, one)"),
    "resize-extra": (17, X4, "float[3] s = {2,1,2}", "f = Squeeze (x, zero) y = Resize (f, , s)"),
    "attention": (23, "float[1,2,6,4] x", "float[6,6] m", "n = Neg (x) y = Attention (x, n, x, m)"),
    "foreign": (17, X3, "float[4] g", "y = com.microsoft.SkipLayerNormalization (x, x, g)"),
    # products
    "matmul-rows": (17, X2, "float[6,5] w", "y = MatMul (x, w)"),
    "matmul-stack": (17, X3, "float[4,5] w", "y = MatMul (x, w)"),
    "matmul-vector": (17, X2, "float[6,5] w", "f = Squeeze (x, zero) y = MatMul (f, w)"),
    "matmul-merged-vector": (17, X2, "float[6,5] w, int64[1] s = {-1}", "f = Reshape (x, s) y = MatMul (f, w)"),
    "matmul-weight-first": (17, X3, "float[5,6] w", "y = MatMul (w, x)"),
    "matmul-columns": (17, X2, "float[5,6] w", "t = Transpose (x) y = MatMul (w, t)"),
    "matmul-vector-last": (17, X2, "float[5,6] w", "f = Squeeze (x, zero) y = MatMul (w, f)"),
    "matmul-vector-by-stack": (17, X2, "float[3,6,5] w", "f = Squeeze (x, zero) y = MatMul (f, w)"),
    "matmul-vector-by-vector": (17, X2, "", "f = Squeeze (x, zero) y = MatMul (f, f)"),
    "matmul-weight-vector": (17, X3, "float[6] w", "y = MatMul (w, x)"),
    "matmul-weight-vector-columns": (17, X2, "float[6] w", "t = Transpose (x) y = MatMul (w, t)"),
    "matmul-of-single-numbers": (17, X2, "", "m = ReduceMean <axes=[1]> (x) y = MatMul (m, m)"),
    "matmul-gram": (17, X3, "", "t = Transpose <perm=[0,2,1]> (x) y = MatMul (x, t)"),
    "matmul-contracts-the-batch": (17, X2, "", "t = Transpose (x) y = MatMul (t, x)"),
    "matmul-stack-of-weights": (17, X3, "float[3,4,5] w", "y = MatMul (x, w)"),
    "matmul-extra-by-batch": (17, X3, "", "f = Squeeze (x, zero) t = Transpose (f) y = MatMul (x, t)"),
    "matmul-integer": (17, "uint8[1,6] x", "uint8[6,2] w = {1,2,3,4,5,6,7,8,9,8,7,6}", "y = MatMulInteger (x, w)"),
    "qlinear-matmul": (17, X2, "float s = {0.1}, uint8 z = {128}, uint8[6,2] w = {1,2,3,4,5,6,7,8,9,8,7,6}", "q = QuantizeLinear (x, s, z) m = QLinearMatMul (q, s, z, w, s, z, s, z) y = DequantizeLinear (m, s, z)"),
    "qgemm": (17, X2, "float s = {0.1}, uint8 z = {128}, uint8[6,2] w = {1,2,3,4,5,6,7,8,9,8,7,6}", "q = QuantizeLinear (x, s, z) y = com.microsoft.QGemm <transB=0> (q, s, z, w, s, z)"),
    "fused-matmul": (17, X3, "", "y = com.microsoft.FusedMatMul <transB=1, alpha=0.5> (x, x)"),
    "gemm": (17, X2, "float[5,6] w, float[5] b", "y = Gemm <transB=1> (x, w, b)"),
    "gemm-transposed": (17, X2, "float[6,5] w, float[1,5] b", "t = Transpose (x) y = Gemm <transA=1> (t, w, b)"),
    "gemm-on-extra": (17, X3, "float[4,5] w, float[5] b", "f = Squeeze (x, zero) y = Gemm (f, w, b)"),
    "gemm-weight-first": (17, X2, "float[5,6] w", "t = Transpose (x) y = Gemm (w, t)"),
    "gemm-adds-the-sample": (17, X2, "float[6,6] w", "y = Gemm (x, w, x)"),
    "einsum": (17, X3, "float[4,5] w", 'y = Einsum <equation="btc,cd->bdt"> (x, w)'),
    "einsum-implicit": (17, X3, "", 'f = Squeeze (x, zero) y = Einsum <equation="ij,kj"> (f, f)'),
    "einsum-ellipsis": (17, X3, "float[4,5] w", 'y = Einsum <equation="...c,cd->...d"> (x, w)'),
}  # fmt: skip

# (opset, inputs, weights, nodes, what the message says)
REFUSALS: dict[str, tuple[int, str, str, str, str]] = {
    "dynamic-scale": (17, X4, "", "y, s, z = DynamicQuantizeLinear (x)", "DynamicQuantizeLinear .* computes its scale over the whole batch"),
    "scale-of-the-sample": (17, X4, "uint8 z = {0}", "s = ReduceMax <keepdims=0> (x) y = QuantizeLinear (x, s, z)", "QuantizeLinear .* scale that depends on the image"),
    "non-zero": (17, X2, "", "y = NonZero (x)", "NonZero .* differs from image to image"),
    "if": (17, X2, "", "m = ReduceMax <keepdims=0> (x) c = Cast <to=9> (m) y = If <then_branch = a () => (float[1,6] p) { p = Abs (x) }, else_branch = b () => (float[1,6] q) { q = Neg (x) }> (c)", "If .* has a subgraph"),
    "random": (17, X2, "", "y = RandomNormalLike (x)", "RandomNormalLike .* random"),
    "dropout-in-training": (17, X2, "float r = {0.5}, bool t = {1}", "y = Dropout (x, r, t)", "Dropout .* random"),
    "positions-of-maxima": (17, X4, "", "p, i = MaxPool <kernel_shape=[2,2]> (x) y = Identity (i)", "MaxPool .* numbers the positions"),
    "weights-of-the-sample": (17, X4, "", "k = ReduceMean <axes=[2,3]> (x) y = Conv (x, k)", "Conv .* depends on the image"),
    "two-factors": (17, X3, "", "f = Squeeze (x, zero) y = Gemm <transB=1> (f, f)", "Gemm .* both depend on the image"),
    "scatter-to-indices-of-the-sample": (17, X2, "float[1] w", "i = ArgMax <axis=1> (x) z = Sub (i, i) j = Concat <axis=1> (z, i) y = ScatterND (x, j, w)", "ScatterND .* indices that depend"),
    "unknown": (17, "float[1,4,4] x", "", "y = Det (x)", "Det .* has no batching rule"),
    "regions-of-two-samples": (17, "float[2,4,6,8] x", REGIONS, "y = RoiAlign (x, r, i)", "RoiAlign .* by number"),
    "quantised-in-blocks": (21, "float[1,4] x", "float[1,2] s = {0.1,0.2}", "y = QuantizeLinear <axis=1, block_size=2> (x, s)", "QuantizeLinear .* in blocks"),
    "old-gather-nd": (11, X3, "int64[1,3] i = {0,1,2}", "y = GatherND (x, i)", "GatherND .* opset 12"),
    "foreign-without-a-batch": (17, "float[1,4,4] x", "", "f = Squeeze (x, zero) y = com.microsoft.Inverse (f)", "Inverse .* com.microsoft has no batching rule"),
    "value-for-each-sample-of-two": (17, "float[2,6] x", "float[2,6] w", "y = Add (x, w)", "Add .* differs between the samples of the fixed batch"),
    "mean-over-two-samples": (17, "float[2,6] x", "", "y = ReduceMean <axes=[0]> (x)", "ReduceMean .* fixed batch"),
    "first-of-two-samples": (17, "float[2,6] x", "", "y = Gather (x, zero0)", "Gather .* fixed batch"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_five_equals_five_single_samples(make: Make, case: str) -> None:
    proto = declared(model_of(make, *CASES[case]))
    assert_same(proto, drawn(proto, 5), 1e-5)


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_batched_is_refused_with_the_reason(make: Make, case: str) -> None:
    *parts, reason = REFUSALS[case]
    proto = model_of(make, *parts)
    with pytest.raises(CannotBatch, match=reason) as caught:
        freed(proto, drawn(proto, 1)[0])
    assert "\n" not in str(caught.value)


def test_every_rule_has_a_case() -> None:
    used = {
        node.op_type
        for text in CASES.values()
        for node in onnx.parser.parse_graph(f"g ({text[1]}) => (y) {{ {text[3]} }}").node
    }
    table = {**STANDARD, **FOREIGN}
    covered = {table[op].__name__ for op in used if op in table}
    assert {rule.__name__ for rule in table.values()} - covered == set()
    assert not REFUSED.keys() & table.keys()


def test_the_original_model_is_not_changed(make: Make) -> None:
    proto = declared(model_of(make, *CASES["class-token-by-shape"]))
    model, feed = ir.from_proto(proto), drawn(proto, 1)[0]
    before = ir.to_bytes(model)
    free_batch(model, *measured(model, feed), ["x"])
    assert ir.to_bytes(model) == before


def test_a_quantised_mean_is_refused(make: Make) -> None:
    """The shapes are written by hand: not every runtime has the operator."""
    nodes = "y = com.microsoft.QLinearReduceMean <axes=[0,2], keepdims=1> (x, s, z, s, z)"
    proto = model_of(make, 17, "uint8[1,4,6] x", "float s = {0.1}, uint8 z = {128}", nodes)
    with pytest.raises(CannotBatch, match=r"QLinearReduceMean .* mean over the batch"):
        free_batch(ir.from_proto(proto), {"x": (1, 4, 6), "y": (1, 4, 1)}, {}, ["x"])
