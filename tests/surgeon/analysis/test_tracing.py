"""The trace of one run, compared with shapes and values that are known by hand."""

import numpy as np
import onnx
from small_models import Make

from onnxcam.engine.session import Session
from onnxcam.surgeon import ir
from onnxcam.surgeon.analysis.tracing import Trace, build_tracer, free_of_data

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>\n'


def traced(proto: onnx.ModelProto, **feeds: np.ndarray) -> Trace:
    model = ir.from_proto(proto)
    tracer = build_tracer(model)
    session = Session(ir.to_bytes(model) + tracer.addition, ["cpu"], optimise=False)
    results = session.run(tracer.outputs, {k: v for k, v in feeds.items() if k in session.inputs})
    return tracer.read(dict(zip(tracer.outputs, results, strict=True)))


def test_shapes_behind_operators_of_other_domains_are_in_the_trace(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8,6] x) => (float[N,5] logits)
    <float[8,3,3,3] w, float[8] bias, float[8,5] v>
    {{
      f = com.microsoft.FusedConv <kernel_shape=[3,3], activation="Relu"> (x, w, bias)
      p = ReduceMean <axes=[2,3], keepdims=0> (f)
      logits = MatMul (p, v)
    }}"""
    shapes = traced(make(text, check=False), x=np.zeros((2, 3, 8, 6), np.float32)).shapes
    assert shapes == {"x": (2, 3, 8, 6), "f": (2, 8, 6, 4), "p": (2, 8), "logits": (2, 5)}


def test_tensors_that_follow_from_shapes_are_in_the_trace_and_pixels_are_not(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3,8] x) => (float[N,24] y)
    <int64[1] rest = {{-1}}, int64[1] zero = {{0}}>
    {{
      shape = Shape (x)
      first = Gather (shape, zero)
      target = Concat <axis=0> (first, rest)
      y = Reshape (x, target)
    }}"""
    proto = make(text, check=False)
    assert free_of_data(ir.from_proto(proto)) == {"shape", "first", "target"}
    trace = traced(proto, x=np.zeros((2, 3, 8), np.float32))
    assert {k: v.tolist() for k, v in trace.values.items()} == {"shape": [2, 3, 8], "first": [2], "target": [2, -1]}


def test_the_branch_that_an_if_takes_is_in_the_trace(make: Make) -> None:
    text = f"""{HEAD}net (float[N,3] x) => (float[N,3] y)
    {{
      top = ReduceMax <keepdims=0> (x)
      big = Constant <value_float=100.0> ()
      small = Less (top, big)
      y = If <then_branch = yes () => (float[N,3] a) {{ a = Abs (x) }},
              else_branch = no () => (float[N,3] b) {{ b = Neg (x) }}> (small)
    }}"""
    proto = make(text, check=False)
    assert traced(proto, x=np.zeros((1, 3), np.float32)).taken == {"small": True}
    assert traced(proto, x=np.full((1, 3), 200, np.float32)).taken == {"small": False}


def test_sequences_and_optionals_have_no_shape_and_the_rest_has(make: Make) -> None:
    text = f"""{HEAD}net (float[N,6,4] x) => (float[N,3,4] y)
    <int64 one = {{1}}>
    {{
      parts = SplitToSequence <axis=1> (x, halves)
      same = Identity (parts)
      longer = SequenceInsert (same, x)
      part = SequenceAt (longer, one)
      maybe = Optional (part)
      y = OptionalGetElement (maybe)
    }}"""
    proto = make(text.replace("<int64 one", "<int64[2] halves = {3, 3}, int64 one"), check=False)
    assert ir.sequences(ir.from_proto(proto)) == {"parts", "same", "longer", "maybe"}
    shapes = traced(proto, x=np.zeros((2, 6, 4), np.float32)).shapes
    assert shapes == {"x": (2, 6, 4), "part": (2, 3, 4), "y": (2, 3, 4)}
