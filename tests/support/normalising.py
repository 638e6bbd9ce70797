"""Graphs that normalise their image by themselves, in the ways of several exporters, opsets and layouts."""

from dataclasses import dataclass

import onnx
from small_models import filled

MEAN, STD = "{0.485, 0.456, 0.406}", "{0.229, 0.224, 0.225}"
MEAN255, STD255 = "{123.675, 116.28, 103.53}", "{58.395, 57.12, 57.375}"
NHWC_IN = "n = Transpose <perm=[0,3,1,2]> "


@dataclass(frozen=True)
class Prelude:
    """What comes before the first convolution, which takes `n`.

    weights: declared beside it. remains: the preset that the graph leaves to be done. color: the order that it takes.
    lossy: whether the numbers at the layer are not an affine function of the pixels.
    """

    name: str
    body: str
    weights: str = ""
    remains: str = "raw"
    color: str = "rgb"
    opset: int = 17
    layout: str = "NCHW"
    dtype: str = "float"
    half: bool = False
    lossy: bool = False


def normalising(prelude: Prelude, batch: str = "1") -> onnx.ModelProto:
    """A classifier of 6x8 pictures, with 5 classes, that begins with the prelude."""
    sides = {"C": "3", "H": "6", "W": "8", "N": batch}
    shape = ",".join(sides[letter] for letter in prelude.layout)
    return filled(
        f"""<ir_version: 8, opset_import: ["" : {prelude.opset}]>
        net ({prelude.dtype}[{shape}] x) => (float[{batch},5] logits)
        <float[8,3,3,3] w, float[8,5] v{"," if prelude.weights else ""} {prelude.weights}>
        {{
          {prelude.body}
          c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (n, w)
          features = Relu (c)
          pooled = GlobalAveragePool (features)
          flat = Flatten (pooled)
          logits = MatMul (flat, v)
        }}"""
    )


def _torch(opset: int) -> Prelude:
    """(x / 255 - mean) / std as a module of PyTorch does it."""
    return Prelude(
        f"torch, opset {opset}",
        "a = Div (x, d)  b = Sub (a, m)  n = Div (b, s)",
        f"float d = {{255.0}}, float[1,3,1,1] m = {MEAN}, float[1,3,1,1] s = {STD}",
        opset=opset,
    )


PRELUDES = (
    *(_torch(opset) for opset in (7, 9, 11, 13, 15, 18, 21)),
    Prelude(
        "constants as nodes, copied and cast",
        f"d = Constant <value_float=255.0> ()  e = Identity (d)  m = Constant <value = float[3,1,1] {MEAN}> ()"
        f"  s = Constant <value = double[3,1,1] {STD}> ()  t = Cast <to=1> (s)  y = Identity (x)"
        "  a = Div (y, e)  b = Sub (a, m)  z = Cast <to=1> (b)  n = Div (z, t)",
    ),
    Prelude(
        "means of (3,) that the graph shapes",
        "k = Unsqueeze (m, i)  l = Reshape (s, r)  a = Mul (x, d)  b = Sub (a, k)  n = Div (b, l)",
        f"float d = {{0.00392156862}}, float[3] m = {MEAN}, float[3] s = {STD}, int64[2] i = {{1, 2}},"
        " int64[3] r = {-1, 1, 1}",
    ),
    Prelude(
        "the reciprocal, and the mean added",
        "r = Reciprocal (s)  q = Neg (m)  a = Add (q, x)  n = Mul (r, a)",
        f"float[1,3,1,1] m = {MEAN255}, float[1,3,1,1] s = {STD255}",
    ),
    Prelude("only /255", "n = Div (x, d)", "float d = {255.0}"),
    Prelude("only mean and deviation", "a = Sub (x, m)  n = Div (a, s)",
            f"float[1,3,1,1] m = {MEAN}, float[1,3,1,1] s = {STD}", remains="unit"),
    Prelude("only the mean", "n = Sub (x, m)", f"float[1,3,1,1] m = {MEAN}", remains="unit"),
    Prelude("one half", "a = Sub (x, m)  n = Div (a, m)", "float m = {0.5}", remains="unit"),
    Prelude("doubled less one", "a = Mul (x, t)  n = Sub (a, o)", "float t = {2.0}, float o = {1.0}", remains="unit"),
    Prelude("Keras' Rescaling", f"a = Mul (x, k)  b = Add (a, o)  {NHWC_IN} (b)",
            "float k = {0.00784313725}, float o = {-1.0}", layout="NHWC"),
    Prelude("Keras' Rescaling behind the Transpose", f"t = {NHWC_IN[4:]} (x)  a = Mul (t, k)  n = Add (a, o)",
            "float k = {0.00784313725}, float[1] o = {-1.0}", layout="NHWC"),
    Prelude("Keras' Normalization", f"a = Mul (x, k)  b = Sub (a, m)  e = Div (b, s)  {NHWC_IN} (e)",
            f"float k = {{0.00392156862}}, float[1,1,1,3] m = {MEAN}, float[3] s = {STD}", layout="NHWC", opset=11),
    Prelude("Keras' caffe mode", f"r = Slice (x, i, e, a, t)  y = Add (r, b)  {NHWC_IN} (y)",
            "int64[1] i = {-1}, int64[1] e = {-9223372036854775807}, int64[1] a = {3}, int64[1] t = {-1},"
            " float[3] b = {-103.939, -116.779, -123.68}", layout="NHWC"),
    Prelude("caffe's mean, BGR outside", "n = Sub (x, m)", "float[3,1,1] m = {103.939, 116.779, 123.68}", color="bgr"),
    Prelude("mean and deviation of BGR outside, swapped inside",
            "r = Gather <axis=1> (x, i)  a = Sub (r, m)  n = Div (a, s)",
            f"int64[3] i = {{2, 1, 0}}, float[1,3,1,1] m = {MEAN255}, float[1,3,1,1] s = {STD255}", color="bgr"),
    Prelude("split and joined in reverse", "p, q, r = Split <axis=1> (x)  t = Concat <axis=1> (r, q, p)  n = Sub (t, m)",
            "float[1,3,1,1] m = {103.939, 116.779, 123.68}", opset=13),
    Prelude("channels picked one by one", "p = Gather <axis=1> (x, i)  q = Gather <axis=1> (x, j)"
            "  r = Gather <axis=1> (x, k)  a = Unsqueeze <axes=[1]> (p)  b = Unsqueeze <axes=[1]> (q)"
            "  e = Unsqueeze <axes=[1]> (r)  t = Concat <axis=1> (a, b, e)  u = Sub (t, m)  n = Mul (u, s)",
            "int64 i = {2}, int64 j = {1}, int64 k = {0}, float[3,1,1] m = {103.94, 116.78, 123.68},"
            " float s = {0.017}", opset=11),
    Prelude("bytes, channels last", f"a = Cast <to=1> (x)  t = {NHWC_IN[4:]} (a)  b = Sub (t, m)  n = Div (b, s)",
            f"float[1,3,1,1] m = {MEAN255}, float[1,3,1,1] s = {STD255}", layout="NHWC", dtype="uint8"),
    Prelude("bytes that are dequantised", "n = DequantizeLinear (x, s, z)", "float s = {0.0078125}, uint8 z = {128}",
            opset=21, dtype="uint8"),
    Prelude("signed bytes that are dequantised", "n = DequantizeLinear (x, s, z)",
            "float s = {0.00392156862}, int8 z = {-128}", dtype="int8", opset=21),
    Prelude("half precision",
        "h = Cast <to=10> (k)  l = Cast <to=10> (m)  d = Cast <to=10> (s)  a = Cast <to=10> (x)  b = Mul (a, h)"
        "  e = Sub (b, l)  y = Div (e, d)  n = Cast <to=1> (y)",
        f"float k = {{0.00392156862}}, float[1,3,1,1] m = {MEAN}, float[1,3,1,1] s = {STD}",
        half=True),
    Prelude("ImageNet's numbers to -1..1", "p = Gather <axis=1> (x, i)  q = Gather <axis=1> (x, j)"
            "  r = Gather <axis=1> (x, k)  a = Unsqueeze (p, o)  b = Unsqueeze (q, o)  e = Unsqueeze (r, o)"
            "  a1 = Mul (a, s0)  b1 = Mul (b, s1)  e1 = Mul (e, s2)  a2 = Add (a1, m0)  b2 = Add (b1, m1)"
            "  e2 = Add (e1, m2)  n = Concat <axis=1> (a2, b2, e2)",
            "int64 i = {0}, int64 j = {1}, int64 k = {2}, int64[1] o = {1}, float s0 = {0.458}, float s1 = {0.448},"
            " float s2 = {0.45}, float m0 = {-0.03}, float m1 = {-0.088}, float m2 = {-0.188}", remains="imagenet"),
    Prelude("-1..1 to ImageNet's numbers", "a = Sub (x, m)  n = Div (a, s)",
            "float[1,3,1,1] m = {-0.03, -0.088, -0.188}, float[1,3,1,1] s = {0.458, 0.448, 0.45}", remains="keras-tf"),
    Prelude("-1..1 to 0..1", "a = Add (x, o)  n = Mul (a, h)", "float o = {1.0}, float h = {0.5}", remains="keras-tf"),
    Prelude("0..1 to 0..255", "a = Mul (x, d)  n = Sub (a, m)",
            "float d = {255.0}, float[1,3,1,1] m = {123.68, 116.78, 103.94}", remains="unit"),
    Prelude("insightface", "a = Sub (x, m)  n = Mul (a, k)", "float m = {127.5}, float k = {0.0078125}"),
    Prelude("a whole picture of means", "n = Sub (x, m)", "float[3,6,8] m = {" + ", ".join(
            f"{mean + (i % 7) - 3}" for mean in (104.0, 117.0, 124.0) for i in range(48)) + "}", color="bgr", lossy=True),
    Prelude("resized first", "y = Resize <mode=\"linear\"> (x, , k)  n = Div (y, d)",
            "float[4] k = {1.0, 1.0, 2.0, 2.0}, float d = {255.0}", lossy=True),
    Prelude("padded and cut, then clipped", "a = Pad (x, p)  b = Slice (a, i, e, t)  u = Clip (b, lo, hi)  n = Div (u, d)",
            "int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, int64[2] i = {0, 0}, int64[2] e = {6, 8}, int64[2] t = {2, 3},"
            " float lo = {0.0}, float hi = {255.0}, float d = {255.0}", lossy=True),
)  # fmt: skip
"""In the names, `inside` is the graph and `outside` what the caller has to do."""
