"""The end of the scoring graph: from the model's output tensor to LOGIT and PROBABILITY, (N,T) each.

    kind of head        LOGIT of target t                                 PROBABILITY
    classes             output[t]                                         softmax or sigmoid of the output, [t]
    ... of one number   -output for target 0, output for target 1         sigmoid of that logit
    ... probabilities   output[t]; 1 - output and output of one number    the same
    region              class logit, averaged over the target's region    class probability, averaged likewise
    sequence            class logits, weighted over steps and classes     class probabilities, weighted likewise
    boxes, elements     element t of the flattened output                 the same; of logits their sigmoid
    embedding           cosine between the output and reference t         the same

Targets are graph inputs (TARGETS, REGIONS, REFERENCES), so a new class, box, region or reference needs no new session.
"""

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.tensor_names import LOGIT, LOGITS, PROBABILITY, REFERENCES, REGIONS, TARGETS
from onnxcam.surgeon.ir import Model, Value, new_input

TINY = 1e-30


@dataclass(frozen=True)
class ScoreTensors:
    """logit, probability (N,T); logits (N,numbers): the flattened output, for a REGION head with the classes last."""

    logit: Value
    probability: Value
    logits: Value
    numbers: int


def add_score_head(model: Model, b: Builder, head: Value, logits: Logits) -> ScoreTensors:
    """Adds the nodes for the head's kind behind the model's output `head` (float32), and the graph inputs they need.

    Inputs: TARGETS (T,) int64, class or element numbers; a REGION head also REGIONS (places,T), weights of the places
    that sum to 1; an EMBEDDING head only REFERENCES (T,numbers), of length 1.
    """
    if logits.kind is Kind.REGION:
        return _region(model, b, head, logits)
    if logits.kind is Kind.SEQUENCE:
        return _sequence(model, b, head, logits)
    if logits.kind is Kind.EMBEDDING:
        return _embedding(model, b, b("Reshape", head, b.constant([-1, _width(logits)], np.int64), name=LOGITS), logits)
    targets = new_input(model, TARGETS, onnx_ir.DataType.INT64, ["targets"])
    flat, probabilities, numbers = score_table(b, head, logits)
    logit = b("Gather", flat, targets, axis=1, name=LOGIT)
    return ScoreTensors(logit, b("Gather", probabilities, targets, axis=1, name=PROBABILITY), flat, numbers)


def score_table(b: Builder, head: Value, logits: Logits) -> tuple[Value, Value, int]:
    """(logits (N,numbers), probabilities (N,numbers), numbers) of classes, boxes or elements; head: the output."""
    numbers = _width(logits)
    # Reshape, not Flatten: some exports squeeze a batch of one away.
    flat = b("Reshape", head, b.constant([-1, numbers], np.int64), name=None if logits.two_sided else LOGITS)
    probabilities = flat
    if logits.two_sided:
        flat, numbers = _both_sides(b, flat, logits, LOGITS), 2
    if logits.has_probabilities:
        probabilities = flat
    elif logits.kind is Kind.CLASSES or logits.activation == "sigmoid":
        probabilities = b("Sigmoid", flat) if logits.has_sigmoid else b("Softmax", flat, axis=1)
    return flat, probabilities, numbers


def _width(logits: Logits) -> int:
    """Numbers of the scored tensor of one image."""
    return math.prod(logits.shape[1:] if len(logits.shape) > 1 else logits.shape)


def _region(model: Model, b: Builder, head: Value, logits: Logits) -> ScoreTensors:
    rank, channel = len(logits.shape), logits.channel_axis
    space = [i for i in range(1, rank) if i != channel]
    places = math.prod(logits.shape[i] for i in space)
    classes_last = b("Transpose", head, perm=[0, *space, channel])
    table = b.reshape(classes_last, [-1, places, logits.columns])
    if logits.two_sided:
        table = _both_sides(b, table, logits)
    targets = new_input(model, TARGETS, onnx_ir.DataType.INT64, ["targets"])
    regions = new_input(model, REGIONS, onnx_ir.DataType.FLOAT, [places, "targets"])
    if logits.literal or logits.has_probabilities:
        probabilities = table
    else:
        probabilities = b("Sigmoid", table) if logits.has_sigmoid else b("Softmax", table, axis=2)
    scores = []
    for source, name in ((table, LOGIT), (probabilities, PROBABILITY)):
        weighted = b("Mul", b("Gather", source, targets, axis=2), regions)
        scores.append(b("Identity", b.reduce("ReduceSum", weighted, [1], keepdims=False), name=name))
    numbers = places * logits.classes
    flat = b("Reshape", table, b.constant([-1, numbers], np.int64), name=LOGITS)
    return ScoreTensors(scores[0], scores[1], flat, numbers)


def _sequence(model: Model, b: Builder, head: Value, logits: Logits) -> ScoreTensors:
    """REGIONS weighs every class of every step, so a target is one number or the mean along a reading."""
    wide = [logits.batch_axis, logits.step_axis, logits.channel_axis]
    order = [*wide, *(i for i in range(len(logits.shape)) if i not in wide)]
    numbers = logits.steps * logits.classes
    table = b.reshape(b("Transpose", head, perm=order), [-1, logits.steps, logits.classes])
    probabilities = b("Sigmoid", table) if logits.has_sigmoid else b("Softmax", table, axis=2)
    weights = new_input(model, REGIONS, onnx_ir.DataType.FLOAT, [numbers, "targets"])
    flat = b("Reshape", table, b.constant([-1, numbers], np.int64), name=LOGITS)
    likely = b("Reshape", probabilities, b.constant([-1, numbers], np.int64))
    logit = b("MatMul", flat, weights, name=LOGIT)
    return ScoreTensors(logit, b("MatMul", likely, weights, name=PROBABILITY), flat, numbers)


def _both_sides(b: Builder, z: Value, logits: Logits, name: str | None = None) -> Value:
    """(..., 1) numbers z of a single output to (..., 2): -z (1 - z of a probability) and z, the negative side first."""
    negative = b("Sub", b.constant(1, np.float32), z) if logits.has_probabilities else b("Neg", z)
    return b("Concat", negative, z, axis=-1, name=name)


def _embedding(model: Model, b: Builder, flat: Value, logits: Logits) -> ScoreTensors:
    """The references have length 1, so the cosine is a product with the normalised output."""
    numbers = _width(logits)
    references = new_input(model, REFERENCES, onnx_ir.DataType.FLOAT, ["targets", numbers])
    square = b.reduce("ReduceSum", b("Mul", flat, flat), [1])
    length = b("Sqrt", b("Max", square, b.constant(TINY, np.float32)))
    cosine = b("MatMul", b("Div", flat, length), b("Transpose", references, perm=[1, 0]))
    return ScoreTensors(b("Identity", cosine, name=LOGIT), b("Identity", cosine, name=PROBABILITY), flat, numbers)
