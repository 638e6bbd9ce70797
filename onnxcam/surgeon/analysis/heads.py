"""Find the tensor that is scored: the logits before a classifier's final activation, or what else a network answers.

A head is a graph fragment's ground: whatever its kind, masking makes one number a picture of it.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from onnxcam.errors import ModelError, near
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.axes import CHANNEL
from onnxcam.surgeon.analysis.frontier import Traced
from onnxcam.surgeon.ir import NUMBERS, Model, Shape, Value, ancestors, shape_of

FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
CHOOSING = frozenset({"NonMaxSuppression", "TopK", "NonZero"})
"""Operators after which a row of a table is no fixed place any more."""
LARGEST_OUTPUT = 2**26
"""Numbers of one picture's output that can be scored."""


def find_logits(model: Model, traced: Traced, output: str | None = None, kind: Kind | None = None) -> Logits:
    """What is scored. output, kind: as asked for; where they are not, a class vector is looked for, then a class map.

    Among outputs of shape (N, classes), the one with a final softmax, else the widest; an output that another output is
    computed from is an embedding, not the logits. Raises ModelError.
    """
    outputs = list(model.graph.outputs)
    if output is not None:
        chosen = next((v for v in outputs if v.name == output), None)
        if chosen is None:
            names = [str(v.name) for v in outputs]
            raise ModelError(f"the model has no output {output!r}; {near(output, names)} (files are named with -o)")
        return _described(chosen, kind or _kind_of(chosen, traced), traced, "; the output that was named", outputs)
    outputs = [v for v in outputs if v.const_value is None and v.producer() is not None] or outputs
    if kind in (None, Kind.CLASSES):
        vectors = [v for v in outputs if _is_vector(v, traced)]
        if vectors:
            return _classifier(vectors, traced, len(outputs))
        if kind is Kind.CLASSES:
            raise ModelError(f"no output is a class vector of shape (N, classes); found {_shown(outputs, traced)}")
    return _other(outputs, kind, traced)


def _classifier(vectors: list[Value], traced: Traced, outputs: int) -> Logits:
    others = {id(v) for o in vectors for v in ancestors(o)}
    heads = [v for v in vectors if id(v) not in others] or vectors
    activated = [v for v in heads if before_activation(v)[1] in ("softmax", "log_softmax")]
    output = max(activated or heads, key=lambda v: (_is_linear(v), _size(v, traced)))
    why = f"; chosen of {outputs} outputs" if outputs > 1 else ""
    return _described(output, Kind.CLASSES, traced, why)


def _is_linear(output: Value) -> bool:
    """Whether a linear layer ends in it: an embedding is usually normalised after that."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in ("Gemm", "MatMul", "Conv", "QGemm", "FusedGemm", "FusedMatMul", *FINAL_ACTIVATIONS):
            return True
        if node.op_type not in (*TRANSPARENT, "Add", "DequantizeLinear", "QuantizeLinear"):
            return False
        value = next((v for v in node.inputs if v is not None and v.const_value is None), node.inputs[0])
    return False


def _other(outputs: list[Value], kind: Kind | None, traced: Traced) -> Logits:
    """Where no class vector is: a map of classes, then boxes; anything else has to be named."""
    maps = [v for v in outputs if traced.is_map(v) and _measured(v, traced)]
    boxes = [v for v in outputs if len(_dims(v, traced)) == 3 and v not in maps and _measured(v, traced)]
    if maps and kind in (None, Kind.REGION):
        return _described(maps[0], Kind.REGION, traced, "; a map of classes")
    if boxes and kind in (None, Kind.BOXES):
        table = max(boxes, key=lambda v: (_dims(v, traced)[2] != 4, _size(v, traced)))
        return _described(table, Kind.BOXES, traced, "; a table of boxes", outputs)
    found = [v for v in outputs if _measured(v, traced)]
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING) and len(found) == 1:
        return _described(found[0], kind, traced, "; the only output of numbers")
    shown = _shown(outputs, traced)
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING):
        raise ModelError(f"the model has several outputs; say which is meant with --output: {shown}")
    if kind is not None:
        what = "a class map (N, classes, H, W)" if kind is Kind.REGION else "a table of boxes (N, numbers, boxes)"
        raise ModelError(f"no output is {what}; found {shown}")
    raise ModelError(
        f"no output is a class vector (N, classes), a class map or a table of boxes; found {shown}; "
        f"name a number with --output NAME --index ..."
    )


def _kind_of(output: Value, traced: Traced) -> Kind:
    if _is_vector(output, traced):
        return Kind.CLASSES
    if traced.is_map(output):
        return Kind.REGION
    return Kind.BOXES if len(_dims(output, traced)) == 3 else Kind.ELEMENTS


def _described(output: Value, kind: Kind, traced: Traced, why: str, others: Sequence[Value] = ()) -> Logits:
    """others: all outputs, among which the boxes of a table of scores may be."""
    shape = _checked_shape(output, kind, traced)
    # An element, a box or an embedding is meant as it comes out of the model.
    literal = kind in (Kind.ELEMENTS, Kind.BOXES, Kind.EMBEDDING)
    value, activation = (output, "none") if literal else before_activation(output)
    if kind is Kind.REGION and traced.shape(value) != traced.shape(output):
        value, activation = output, "none"
    how = f"before the final {activation}" if activation != "none" else "the output itself, no activation follows"
    found = Logits(str(value.name), str(output.name), activation, _size(output, traced), f"{how}{why}", kind, shape)
    if kind is Kind.REGION:
        channel = traced.axes_of(output).index(CHANNEL)
        return replace(found, classes=shape[channel], channel_axis=channel)
    if kind is not Kind.BOXES:
        return found
    chosen = {n.op_type for v in (output, *ancestors(output)) if (n := v.producer()) is not None} & CHOOSING
    if chosen and min(shape[1:]) <= 7:
        raise ModelError(
            f"the output {output.name!r} lists boxes that {', '.join(sorted(chosen))} chose, so a row is another box "
            f"on every masked picture; explain the export without that step, or a number with --index"
        )
    return _as_boxes(found, others, traced)


def _as_boxes(table: Logits, others: Sequence[Value], traced: Traced) -> Logits:
    """Which way the table lies. Boxes are many and columns few; scores may stand beside their boxes."""
    rows, columns = table.shape[1:]
    for other in others:
        lock_of = _dims(other, traced)[1:] if other.name != table.output else ()
        if lock_of in ((rows, 4), (4, columns)):
            boxes_first = lock_of == (rows, 4)
            reason = f"{table.reason}; its boxes are in {other.name!r}"
            return replace(table, classes=columns if boxes_first else rows, boxes_first=boxes_first, reason=reason)
    boxes_first = rows > columns
    first = 5 if boxes_first else 4
    classes = min(rows, columns) - first
    if classes < 1:
        raise ModelError(f"the output {table.output!r} of shape {list(table.shape)} has no room for boxes and classes")
    reason = f"{table.reason}; {'4 sides, an objectness' if boxes_first else '4 sides'} and {classes} classes a box"
    return replace(table, classes=classes, first_class=first, boxes_first=boxes_first, reason=reason)


def _checked_shape(output: Value, kind: Kind, traced: Traced) -> tuple[int, ...]:
    if not _measured(output, traced):
        raise ModelError(
            f"the output {output.name!r} holds no numbers of a known shape, so nothing in it can be scored"
        )
    shape = tuple(int(d or 0) for d in _dims(output, traced))
    if kind is Kind.REGION and not traced.is_map(output):
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is no class map (N, classes, H, W)")
    if kind is Kind.BOXES and len(shape) != 3:
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is no table of boxes (N, numbers, boxes)")
    if math.prod(shape) > LARGEST_OUTPUT:
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is too large to be scored")
    return shape


def before_activation(output: Value) -> tuple[Value, str]:
    """The tensor that enters the final activation and that activation's name, or the output itself and 'none'."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in FINAL_ACTIVATIONS:
            return node.inputs[0], FINAL_ACTIVATIONS[node.op_type]
        if node.op_type not in TRANSPARENT:
            break
        value = node.inputs[0]
    return output, "none"


def _is_vector(value: Value, traced: Traced) -> bool:
    """(N, classes), with further axes of size 1, or (classes) where the export has squeezed a batch of one away."""
    shape = _dims(value, traced)
    wide = [d for d in (shape if len(shape) == 1 else shape[1:]) if d != 1]
    # A first axis that is not the batch lists something else: rows of points, of proposals.
    if (
        traced.batch is not None
        and shape[:1] not in ((None,), (traced.batch,))
        and not (len(shape) == 1 and traced.batch == 1)
    ):
        return False
    return bool(shape) and len(wide) <= 1 and _measured(value, traced) and not (len(shape) == 1 and not wide)


def _measured(value: Value, traced: Traced) -> bool:
    shape = _dims(value, traced)
    return value.dtype in NUMBERS and None not in shape[1:] and 0 not in shape and bool(shape)


def _dims(value: Value, traced: Traced) -> Shape:
    return traced.shape(value) or shape_of(value) or ()


def _size(value: Value, traced: Traced) -> int:
    """Numbers for one picture."""
    shape = _dims(value, traced)
    return math.prod(int(d or 0) for d in (shape[1:] if len(shape) > 1 else shape))


def _shown(outputs: list[Value], traced: Traced) -> str:
    return ", ".join(f"{v.name} {list(_dims(v, traced))}" for v in outputs)
