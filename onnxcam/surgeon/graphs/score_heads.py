"""What is scored, as graph fragments: each ends in one number a picture and target.

    classes     logit[t], and the activation's probability of it
    region      mean over the region of the class's logit, or of its probability, at every place
    boxes, elements   the tensor's own number
    embedding   cosine with the target's reference

Targets are inputs of the graph, so that a new class, box, region or reference needs no new session.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Value, new_input

TARGETS, REGIONS, REFERENCES = "onnxcam/targets", "onnxcam/regions", "onnxcam/references"
LOGITS, LOGIT, PROBABILITY = "onnxcam/logits", "onnxcam/logit", "onnxcam/probability"
LARGEST_VECTOR = 2**22
TINY = 1e-30


@dataclass(frozen=True)
class Scored:
    """logit, probability (N,T); logits (N,numbers): everything that could be scored, REGION's with classes last."""

    logit: Value
    probability: Value
    logits: Value
    numbers: int


def scored(model: Model, b: Builder, head: Value, logits: Logits) -> Scored:
    """Builds the fragment of the head's kind on the tensor `head`, which is float32."""
    if logits.kind is Kind.REGION:
        return _region(model, b, head, logits)
    numbers = math.prod(logits.shape[1:] if len(logits.shape) > 1 else logits.shape)
    # Not Flatten: an export may have squeezed a batch of one away.
    flat = b("Reshape", head, b.constant([-1, numbers], np.int64), name=LOGITS)
    if logits.kind is Kind.EMBEDDING:
        return _embedding(model, b, flat, numbers)
    targets = new_input(model, TARGETS, onnx_ir.DataType.INT64, ["targets"])
    everything = flat
    if logits.kind is Kind.CLASSES:
        sigmoid = logits.activation == "sigmoid" or logits.classes == 1
        everything = b("Sigmoid", flat) if sigmoid else b("Softmax", flat, axis=1)
    logit = b("Gather", flat, targets, axis=1, name=LOGIT)
    return Scored(logit, b("Gather", everything, targets, axis=1, name=PROBABILITY), flat, numbers)


def _region(model: Model, b: Builder, head: Value, logits: Logits) -> Scored:
    rank, channel = len(logits.shape), logits.channel_axis
    space = [i for i in range(1, rank) if i != channel]
    places = math.prod(logits.shape[i] for i in space)
    last = b("Transpose", head, perm=[0, *space, channel])
    table = b.reshape(last, [-1, places, logits.classes])
    targets = new_input(model, TARGETS, onnx_ir.DataType.INT64, ["targets"])
    regions = new_input(model, REGIONS, onnx_ir.DataType.FLOAT, [places, "targets"])
    sigmoid = logits.activation == "sigmoid" or logits.classes == 1
    everything = b("Sigmoid", table) if sigmoid else b("Softmax", table, axis=2)
    found = []
    for source, name in ((table, LOGIT), (everything, PROBABILITY)):
        weighed = b("Mul", b("Gather", source, targets, axis=2), regions)
        found.append(b("Identity", b.reduce("ReduceSum", weighed, [1], keepdims=False), name=name))
    numbers = places * logits.classes
    flat = b("Reshape", table, b.constant([-1, numbers], np.int64), name=LOGITS)
    return Scored(found[0], found[1], flat, numbers)


def _embedding(model: Model, b: Builder, flat: Value, numbers: int) -> Scored:
    """References come with a length of one."""
    references = new_input(model, REFERENCES, onnx_ir.DataType.FLOAT, ["targets", numbers])
    square = b.reduce("ReduceSum", b("Mul", flat, flat), [1])
    length = b("Sqrt", b("Max", square, b.constant(TINY, np.float32)))
    cosine = b("MatMul", b("Div", flat, length), b("Transpose", references, perm=[1, 0]))
    return Scored(b("Identity", cosine, name=LOGIT), b("Identity", cosine, name=PROBABILITY), flat, numbers)
