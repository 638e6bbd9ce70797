"""The models that the fuzzer starts from: small ones that are built in, and files."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import ModelProto, helper, numpy_helper

LARGEST_SEED, LARGEST_SIDE = 400_000, 128
"""Limits of models from a folder, in bytes and in pixels a side, so that each is explained in a second."""

Files = dict[str, bytes]
"""The contents of a model and of the files beside it, by name. The model is called MODEL."""
MODEL = "model.onnx"

TEXTS = {
    "cnn": """<ir_version: 8, opset_import: ["" : 17]>
        cnn (float[N,3,16,12] x) => (float[N,5] y)
        <float[6,3,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3>
        { c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (x, w1)
          r1 = Relu (c1)
          p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r1)
          c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (p1, w2)
          r2 = Relu (c2)
          pooled = GlobalAveragePool (r2)
          flat = Flatten (pooled)
          z = Gemm <transB=1> (flat, w3, b3)
          y = Softmax <axis=1> (z) }""",
    "nhwc": """<ir_version: 8, opset_import: ["" : 13]>
        nhwc (float[N,16,12,3] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2, float[5] b2>
        { t = Transpose <perm=[0,3,1,2]> (x)
          c = Conv <kernel_shape=[3,3], auto_pad="SAME_UPPER", strides=[2,2]> (t, w1)
          r = Relu (c)
          b = Transpose <perm=[0,2,3,1]> (r)
          pooled = ReduceMean <axes=[1,2], keepdims=0> (b)
          m = MatMul (pooled, w2)
          y = Add (m, b2) }""",
    "dynamic": """<ir_version: 8, opset_import: ["" : 18]>
        dynamic (float[N,3,H,W] x) => (float[N,5] y)
        <float[4,3,5,5] w1, float[4,5] w2>
        { c = Conv <kernel_shape=[5,5], strides=[16,16]> (x, w1)
          r = Sigmoid (c)
          s = Shape (r)
          zero = Constant <value_ints=[0]> ()
          two = Constant <value_ints=[2]> ()
          nc = Slice (s, zero, two)
          rest = Constant <value_ints=[-1]> ()
          to = Concat <axis=0> (nc, rest)
          flat = Reshape (r, to)
          axes = Constant <value_ints=[2]> ()
          pooled = ReduceMean <keepdims=0> (flat, axes)
          y = MatMul (pooled, w2) }""",
    "tokens": """<ir_version: 8, opset_import: ["" : 17]>
        tokens (float[1,3,16,12] x) => (float[1,5] y)
        <float[8,3,4,4] w1, float[8] g, float[8] b, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[5,8] w2>
        { c = Conv <kernel_shape=[4,4], strides=[4,4]> (x, w1)
          to = Constant <value_ints=[1,8,12]> ()
          f = Reshape (c, to)
          t = Transpose <perm=[0,2,1]> (f)
          n = LayerNormalization <axis=-1> (t, g, b)
          q = MatMul (n, wq)
          k = MatMul (n, wk)
          v = MatMul (n, wv)
          kt = Transpose <perm=[0,2,1]> (k)
          a = MatMul (q, kt)
          p = Softmax <axis=-1> (a)
          o = MatMul (p, v)
          h = Add (t, o)
          pooled = ReduceMean <axes=[1], keepdims=0> (h)
          y = Gemm <transB=1> (pooled, w2) }""",
    "if": """<ir_version: 8, opset_import: ["" : 17]>
        branches (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2>
        { c = Conv <kernel_shape=[3,3], strides=[3,3]> (x, w1)
          r = Relu (c)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (r)
          total = ReduceSum <keepdims=0> (pooled)
          zero = Constant <value_float=0.0> ()
          positive = Greater (total, zero)
          z = If (positive) <then_branch = yes () => (float[N,5] u) { u = MatMul (pooled, w2) },
                             else_branch = no () => (float[N,5] v) { v0 = MatMul (pooled, w2)  v = Neg (v0) }>
          y = Softmax <axis=1> (z) }""",
    "loop": """<ir_version: 8, opset_import: ["" : 17]>
        repeated (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,8] w2, float[8,5] w3>
        { c = Conv <kernel_shape=[3,3], strides=[3,3]> (x, w1)
          r = Relu (c)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (r)
          times = Constant <value_int=3> ()
          go = Cast <to=9> (times)
          h = Loop (times, go, pooled) <body = step (int64 i, bool on, float[N,8] s) => (bool on_, float[N,8] s_)
              { on_ = Identity (on)  m = MatMul (s, w2)  s_ = Tanh (m) }>
          y = MatMul (h, w3) }""",
    "function": """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        called (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2>
        { c = local.block (x, w1)
          pooled = ReduceMean <axes=[2,3], keepdims=0> (c)
          y = MatMul (pooled, w2) }
        <domain: "local", opset_import: ["" : 17]>
        block (a, w) => (b) { k = Conv <strides=[3,3]> (a, w)  b = LeakyRelu <alpha=0.1> (k) }""",
    "qdq": """<ir_version: 8, opset_import: ["" : 17]>
        quantised (float[N,3,16,12] x) => (float[N,5] y)
        <float[8,3,3,3] w1, float[8,5] w2, float s, float u>
        { zero = Constant <value_int=0> ()
          p = Cast <to=3> (zero)
          xq = QuantizeLinear (x, s, p)
          xd = DequantizeLinear (xq, s, p)
          wq = QuantizeLinear (w1, u, p)
          wd = DequantizeLinear (wq, u, p)
          c = Conv <strides=[2,2]> (xd, wd)
          r = Relu (c)
          rq = QuantizeLinear (r, s, p)
          rd = DequantizeLinear (rq, s, p)
          pooled = GlobalAveragePool (rd)
          flat = Flatten (pooled)
          y = MatMul (flat, w2) }""",
    "listed": """<ir_version: 3, opset_import: ["" : 9]>
        listed (float[2,1,16,12] x) => (float[2,1] y)
        <float[4,1,3,3] w1, float[4] b1, float[4,1] w2>
        { c = Conv <kernel_shape=[3,3], dilations=[2,2]> (x, w1, b1)
          k = LRN <size=3> (c)
          p = GlobalMaxPool (k)
          f = Squeeze <axes=[2,3]> (p)
          z = MatMul (f, w2)
          y = Sigmoid (z) }""",
}


def built_in() -> dict[str, Files]:
    """Small models of every kind of graph that onnxcam knows, each with weights of about unit gain."""
    models = {name: {MODEL: filled(text).SerializeToString()} for name, text in TEXTS.items()}
    listed = ModelProto.FromString(models["listed"][MODEL])  # before IR version 4 weights had to be inputs too
    for tensor in listed.graph.initializer:
        listed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    models["listed"] = {MODEL: listed.SerializeToString()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        onnx.save(filled(TEXTS["cnn"]), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        models["external"] = {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}
    return models


def filled(text: str) -> ModelProto:
    """The parsed model. Every tensor that is declared but not computed becomes a weight."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    computed = {name for node in model.graph.node for name in node.output}
    for info in [v for v in model.graph.value_info if v.name not in computed]:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])) if shape else np.asarray(0.02)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), info.name))
        model.graph.value_info.remove(info)
    return model


def read_seeds(places: Sequence[Path]) -> dict[str, Files]:
    """Models from files and folders, with their external weights. Large models of a folder are skipped."""
    models: dict[str, Files] = {}
    for place in places:
        paths = sorted(place.glob("*.onnx")) if place.is_dir() else [place]
        for path in paths:
            if place.is_dir() and path.stat().st_size > LARGEST_SEED:
                continue
            data = path.read_bytes()
            model = ModelProto.FromString(data)
            sides = [d.dim_value for v in model.graph.input for d in v.type.tensor_type.shape.dim[2:]]
            if place.is_dir() and max(sides, default=0) > LARGEST_SIDE and len(model.graph.node) > 1:
                continue
            models[path.stem] = {MODEL: data}
            for tensor in model.graph.initializer:
                for entry in tensor.external_data:
                    weights = path.parent / entry.value
                    if entry.key == "location" and weights.is_file():
                        models[path.stem][entry.value] = weights.read_bytes()
    return models
