"""Heads of classes: class vectors and class maps, also behind an operator that chooses among the classes.

head_of() says which scores an output comes from; best_head() chooses among several outputs; described_head() gives the
Logits: what enters the final activation, the two sides of a single number, the graph's own labels and threshold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.activations import (
    FINAL_ACTIVATIONS,
    MOVING,
    TRANSPARENT,
    Activation,
    final_activation,
    has_unit_length,
    is_distance,
    is_normalised,
    is_quantity,
    last_operator,
)
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.bounds import are_probabilities
from onnxcam.surgeon.analysis.decision import ENLARGING, Decision, decision_of, is_chosen, threshold_of
from onnxcam.surgeon.analysis.factors import CHANNEL
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.analysis.output_shapes import check_size, dims, image_shape, is_scorable, is_vector, size
from onnxcam.surgeon.analysis.scaled_scores import before_scaling, before_transposition
from onnxcam.surgeon.ir import Value, ancestors, constant


@dataclass(frozen=True)
class Head:
    """An output of classes. scores: the tensor of their numbers, which is the output itself unless it only chooses."""

    output: Value
    scores: Value
    decision: Decision | None = None


def head_of(output: Value, geometry: Geometry) -> Head | None:
    """The head of an output of classes, or None: boxes, embeddings of several axes, what is chosen of these."""
    scaled = before_scaling(output)
    if scaled is not None and (is_vector(scaled, geometry) or class_map(scaled, geometry) is not None):
        return Head(output, scaled)
    decision = decision_of(output)
    if decision is None:
        if not is_scorable(output, geometry) or is_chosen(output):
            return None
        is_head = is_vector(output, geometry) or class_map(output, geometry) is not None
        classes_first = before_transposition(output) if not is_head else None
        if classes_first is not None and is_vector(classes_first, geometry):
            return Head(output, classes_first)
        return Head(output, output) if is_head else None
    scores = decision.scores
    if decision.inverted or not is_scorable(scores, geometry):
        return None
    rank = len(dims(scores, geometry))
    if is_vector(scores, geometry):
        wide = [i for i, d in enumerate(dims(scores, geometry)) if i and d != 1]
        along = decision.axis is None or wide in ([], [decision.axis % rank])
        return Head(output, scores, decision) if along and not _merges_axes(scores, geometry) else None
    if class_map(scores, geometry) is None:
        return None
    along = decision.axis is None or _class_axis(scores, geometry) == decision.axis % rank
    return Head(output, scores, decision) if along else None


def refuse_least(outputs: Sequence[Value]) -> None:
    """Raises ModelError for an output that names the least of some numbers: less is better there, unlike a score."""
    for output in outputs:
        decision = decision_of(output)
        if decision is not None and decision.inverted:
            raise ModelError(
                f"the output {output.name!r} names the least of {decision.scores.name!r}, which are distances and no "
                f"scores of classes; make that tensor an output of the export, and explain a number of it (--index)"
            )


def _merges_axes(scores: Value, geometry: Geometry) -> bool:
    """Whether a vector lists the numbers of a table, such as those of every query for every class."""
    value = scores
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type not in TRANSPARENT and node.op_type not in FINAL_ACTIVATIONS:
            return False
        value = node.inputs[0]
        if len([d for d in dims(value, geometry)[1:] if d != 1]) > 1:
            return True
    return False


def vector_heads(outputs: Sequence[Value], geometry: Geometry) -> list[Head]:
    """The heads that are class vectors. One number beside a table is no head: it counts the table's rows."""
    heads = [h for v in outputs if (h := head_of(v, geometry)) is not None and is_vector(h.scores, geometry)]
    has_table = any(len(dims(v, geometry)) == 3 and not geometry.has_grid(v) for v in outputs)
    return [h for h in heads if not (has_table and len(dims(h.scores, geometry)) < 2 and size(h.scores, geometry) == 1)]


def best_head(heads: Sequence[Head], geometry: Geometry) -> Head:
    """The class vector that is explained by default: one with a final softmax, else the widest.

    An output from which another one is computed is an embedding, not the logits.
    """
    others = {id(v) for h in heads for v in ancestors(h.scores)}
    ends = [h for h in heads if id(h.scores) not in others] or list(heads)
    ends.sort(key=lambda h: h.decision is not None)  # of equals, the scores themselves
    activated = [h for h in ends if final_activation(h.scores).name in ("softmax", "log_softmax")]
    return max(activated or ends, key=lambda h: (_is_linear(h.scores), size(h.scores, geometry)))


def other_heads(chosen: Head, heads: Sequence[Head]) -> tuple[str, ...]:
    """Names of the outputs of further classes: not those that the chosen ones come from, or that are made of them."""
    names, logits = list[str](), final_activation(chosen.scores).value
    above = {id(v) for v in (logits, *ancestors(logits))}
    for head in heads:
        value = final_activation(head.scores).value
        if id(value) not in above and id(logits) not in {id(v) for v in ancestors(value)}:
            names.append(str(head.output.name))
    return tuple(names)


def _is_linear(output: Value) -> bool:
    """Whether a linear layer computes the output; an embedding is usually normalised after its linear layer."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in ("Gemm", "MatMul", "Conv", "QGemm", "FusedGemm", "FusedMatMul", *FINAL_ACTIVATIONS):
            return True
        if node.op_type not in (*TRANSPARENT, "Add", "DequantizeLinear", "QuantizeLinear"):
            return False
        value = next((v for v in node.inputs if v is not None and v.const_value is None), node.inputs[0])
    return False


def map_heads(outputs: Sequence[Value], geometry: Geometry) -> list[Head]:
    """The heads that are class maps."""
    heads = [h for v in outputs if (h := head_of(v, geometry)) is not None]
    return [h for h in heads if class_map(h.scores, geometry) is not None]


def class_map(scores: Value, geometry: Geometry) -> Activation | None:
    """The end of a class map, whose value is a tensor with the axes of one; None for what is no class map.

    An axis of one class may be squeezed away or moved, so the tensor before that is taken.
    """
    if len(dims(scores, geometry)) <= len(geometry.letters) or is_vector(scores, geometry):
        return None
    numbers = _count(scores, geometry)
    end = final_activation(scores, MOVING)
    if _class_axis(end.value, geometry) is not None and _count(end.value, geometry) == numbers and end.name != "none":
        return end
    if _class_axis(scores, geometry) is not None:
        return Activation(scores, "none", scores)
    value = scores
    while (node := value.producer()) is not None and node.op_type in MOVING and node.inputs[0] is not None:
        value = node.inputs[0]
        axis = _class_axis(value, geometry)
        if axis is not None and _count(value, geometry) == numbers and dims(value, geometry)[axis] == 1:
            return Activation(value, "none", value)
    return None


def _count(value: Value, geometry: Geometry) -> int:
    return math.prod(int(d or 0) for d in dims(value, geometry))


def _class_axis(value: Value, geometry: Geometry) -> int | None:
    """The axis of the classes of a map: the channels, or the one axis beside batch and grid, if that has size 1."""
    axes, shape = geometry.axes_of(value), dims(value, geometry)
    if geometry.is_map(value):
        return axes.index(CHANNEL)
    if not geometry.has_grid(value) or not set(geometry.letters) <= set(axes):
        return None
    rest = [i for i in range(1, len(axes)) if axes[i] not in geometry.letters]
    return rest[0] if len(rest) == 1 and shape[rest[0]] == 1 else None


def described_head(head: Head, kind: Kind | None, geometry: Geometry, why: str) -> Logits:
    """The Logits of a head. kind: the caller's choice; without one a quantity and an embedding are no classes."""
    region = class_map(head.scores, geometry)
    end = region or final_activation(head.scores)
    value, name = end.value, end.name
    single = size(value, geometry) == 1
    check_size(value, image_shape(value, geometry))
    of = Kind.REGION if region is not None else Kind.CLASSES
    if name == "none" and are_probabilities(value) and not (kind is None and single and _is_complement(value)):
        name = "probability"
    if kind is None and region is None and name == "none":
        of = Kind.ELEMENTS if is_distance(value) or (single and is_quantity(value)) else of
        of = Kind.EMBEDDING if not single and has_unit_length(value) else of
    logits = Logits(
        str(value.name), str(head.output.name), name, size(value, geometry), _reason(head, of, name) + why, of,
        image_shape(value, geometry), verified_by=_verified_by(head, end, geometry),
        labels=head.decision.labels if head.decision is not None else (), normalised=is_normalised(value),
        linear=_is_linear(head.scores),
    )  # fmt: skip
    if of is Kind.REGION:
        channel = _class_axis(value, geometry)
        assert channel is not None, "a class map has an axis of classes"
        sideways = [a for a in geometry.axes_of(value) if a in geometry.letters] != list(geometry.letters)
        logits = replace(logits, classes=logits.shape[channel], channel_axis=channel, sideways=sideways)
        if kind is None and name == "none" and logits.classes == 1 and is_quantity(value, MOVING | ENLARGING):
            compared = _threshold(head, end)
            return replace(logits, literal=True, threshold=-math.inf if compared is None else compared)
    if of in (Kind.CLASSES, Kind.REGION) and logits.classes == 1:
        decided = _threshold(head, end)
        even = 0.5 if name == "probability" else 0.0
        return replace(logits, classes=2, two_sided=True, threshold=even if decided is None else decided)
    return logits


def _reason(head: Head, kind: Kind, activation: str) -> str:
    how = f"before the final {activation}" if activation != "none" else "the output itself, no activation follows"
    if activation == "probability":
        how = "the output itself, made of probabilities"
    if head.decision is not None:
        how = f"what {head.decision.operator} chooses from" + (f", {how}" if activation != "none" else "")
    if kind is Kind.ELEMENTS:
        how += "; a quantity, whose number is scored"
    return how + ("; a vector of length 1: an embedding" if kind is Kind.EMBEDDING else "")


def _verified_by(head: Head, end: Activation, geometry: Geometry) -> str:
    """The tensor of the file that has the activated numbers in the order of the scored tensor; '' for the output."""
    plain = final_activation(head.output).activated is end.activated or end.activated is head.output
    same = geometry.shape(end.activated) == geometry.shape(head.output)
    return "" if head.decision is None and plain and same else str(end.activated.name)


def _threshold(head: Head, end: Activation) -> float | None:
    """The logit above which the graph itself decides for the positive side; None where it does not say."""
    compared = threshold_of([head.scores, end.activated, end.value])
    if head.decision is not None and head.decision.threshold is not None:
        compared = (head.decision.scores, head.decision.threshold)
    if compared is None:
        return None
    value, number = compared
    if end.name != "sigmoid" or value is end.value:
        return number
    return math.log(number / (1 - number)) if 0 < number < 1 else None


def _is_complement(value: Value) -> bool:
    """Whether the number is 1 - p, the probability of what the activation does not stand for."""
    node = last_operator(value)
    return node is not None and node.op_type == "Sub" and constant(node.inputs[0]) is not None
