"""Finds the tensor that is scored: a classifier's logits before the final activation, a class map, boxes, or others.

find_logits() returns it as Logits, with the kind of its targets. locate.py walks back from there, and graphs/ adds the
nodes that turn it into one score for each masked image.
"""

import math
from dataclasses import replace

from onnxcam.errors import ModelError, near
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.columns import as_boxes, is_beside_prototypes
from onnxcam.surgeon.analysis.factors import CHANNEL
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.ir import NUMERIC, Model, Shape, Value, ancestors, shape_of

FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
TRANSPARENT = frozenset({"Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
CHOOSING = frozenset({"NonMaxSuppression", "TopK", "NonZero"})
"""Operators that choose boxes, after which a row of the table is another box for every image."""
LARGEST_OUTPUT = 2**26
"""Numbers of an output for one image; a larger output cannot be scored."""


def find_logits(model: Model, geometry: Geometry, output: str | None = None, kind: Kind | None = None) -> Logits:
    """Finds the tensor that is scored. output and kind are the caller's choice, if any.

    Without one, the first of these wins: a class vector, a class map, a table of boxes. Among several class vectors it
    is the one with a final softmax, else the widest. An output from which another output is computed is an embedding,
    not the logits. Of a table of boxes the columns are read too (columns.py). Raises ModelError.
    """
    logits = _scored(model, geometry, output, kind)
    return as_boxes(model, logits, geometry) if logits.kind is Kind.BOXES else logits


def _scored(model: Model, geometry: Geometry, output: str | None, kind: Kind | None) -> Logits:
    outputs = list(model.graph.outputs)
    if output is not None:
        chosen = next((v for v in outputs if v.name == output), None)
        if chosen is None:
            names = [str(v.name) for v in outputs]
            raise ModelError(f"the model has no output {output!r}; {near(output, names)}")
        return _described(chosen, kind or _kind_of(chosen, geometry), geometry, "; the output that was named")
    outputs = [v for v in outputs if v.const_value is None and v.producer() is not None] or outputs
    if kind in (None, Kind.CLASSES):
        vectors = [v for v in outputs if _is_vector(v, geometry)]
        if vectors:
            return _classifier(vectors, geometry, len(outputs))
        if kind is Kind.CLASSES:
            raise ModelError(f"no output is a class vector of shape (N, classes); found {_shown(outputs, geometry)}")
    return _other(model, outputs, kind, geometry)


def _classifier(vectors: list[Value], geometry: Geometry, outputs: int) -> Logits:
    others = {id(v) for o in vectors for v in ancestors(o)}
    heads = [v for v in vectors if id(v) not in others] or vectors
    activated = [v for v in heads if before_activation(v)[1] in ("softmax", "log_softmax")]
    output = max(activated or heads, key=lambda v: (_is_linear(v), _size(v, geometry)))
    why = f"; chosen of {outputs} outputs" if outputs > 1 else ""
    return _described(output, Kind.CLASSES, geometry, why)


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


def _other(model: Model, outputs: list[Value], kind: Kind | None, geometry: Geometry) -> Logits:
    """The scored tensor of a model without class vector: a class map, then boxes; others must be named."""
    maps = [v for v in outputs if geometry.is_map(v) and _is_scorable(v, geometry)]
    boxes = [v for v in outputs if len(_dims(v, geometry)) == 3 and v not in maps and _is_scorable(v, geometry)]
    if kind is None and maps and (tables := [v for v in boxes if is_beside_prototypes(model, v, maps, geometry)]):
        boxes, maps = tables, []
    if maps and kind in (None, Kind.REGION):
        return _described(maps[0], Kind.REGION, geometry, "; a map of classes")
    if boxes and kind in (None, Kind.BOXES):
        table = max(boxes, key=lambda v: (_dims(v, geometry)[2] != 4, _size(v, geometry)))
        return _described(table, Kind.BOXES, geometry, "; a table of boxes")
    scorable = [v for v in outputs if _is_scorable(v, geometry)]
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING) and len(scorable) == 1:
        return _described(scorable[0], kind, geometry, "; the only output of numbers")
    shown = _shown(outputs, geometry)
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING):
        raise ModelError(f"the model has several outputs; say which is meant with --output: {shown}")
    if kind is not None:
        what = "a class map (N, classes, H, W)" if kind is Kind.REGION else "a table of boxes (N, numbers, boxes)"
        raise ModelError(f"no output is {what}; found {shown}")
    raise ModelError(
        f"no output is a class vector (N, classes), a class map or a table of boxes; found {shown}; "
        f"name a number with onnxcam explain --output NAME --index ..."
    )


def _kind_of(output: Value, geometry: Geometry) -> Kind:
    if _is_vector(output, geometry):
        return Kind.CLASSES
    if geometry.is_map(output):
        return Kind.REGION
    return Kind.BOXES if len(_dims(output, geometry)) == 3 else Kind.ELEMENTS


def _described(output: Value, kind: Kind, geometry: Geometry, why: str) -> Logits:
    """The Logits of an output. why ends the reason."""
    shape = _checked_shape(output, kind, geometry)
    # Elements, boxes and embeddings are scored as the model returns them, after any activation.
    literal = kind in (Kind.ELEMENTS, Kind.BOXES, Kind.EMBEDDING)
    value, activation = (output, "none") if literal else before_activation(output)
    if kind is Kind.REGION and geometry.shape(value) != geometry.shape(output):
        value, activation = output, "none"
    how = f"before the final {activation}" if activation != "none" else "the output itself, no activation follows"
    logits = Logits(str(value.name), str(output.name), activation, _size(output, geometry), f"{how}{why}", kind, shape)
    if kind is Kind.REGION:
        channel = geometry.axes_of(output).index(CHANNEL)
        return replace(logits, classes=shape[channel], channel_axis=channel)
    if kind is not Kind.BOXES:
        return logits
    chosen = {n.op_type for v in (output, *ancestors(output)) if (n := v.producer()) is not None} & CHOOSING
    if chosen and min(shape[1:]) <= 7:
        raise ModelError(
            f"the output {output.name!r} lists boxes that {', '.join(sorted(chosen))} chose, so a row is another box "
            f"for every masked image; explain the export without that step, or a number (onnxcam explain --index)"
        )
    return logits


def _checked_shape(output: Value, kind: Kind, geometry: Geometry) -> tuple[int, ...]:
    """The output's shape. Raises ModelError where the kind cannot be scored in it."""
    if not _is_scorable(output, geometry):
        raise ModelError(
            f"the output {output.name!r} holds no numbers of a known shape, so nothing in it can be scored"
        )
    shape = tuple(int(d or 0) for d in _dims(output, geometry))
    if kind is Kind.REGION and not geometry.is_map(output):
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is no class map (N, classes, H, W)")
    if kind is Kind.BOXES and len(shape) != 3:
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is no table of boxes (N, numbers, boxes)")
    if math.prod(shape) > LARGEST_OUTPUT:
        raise ModelError(f"the output {output.name!r} of shape {list(shape)} is too large to be scored")
    return shape


def before_activation(output: Value) -> tuple[Value, str]:
    """(tensor, activation): what enters the final activation and its name, or the output itself and 'none'."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in FINAL_ACTIVATIONS:
            return node.inputs[0], FINAL_ACTIVATIONS[node.op_type]
        if node.op_type not in TRANSPARENT:
            break
        value = node.inputs[0]
    return output, "none"


def _is_vector(value: Value, geometry: Geometry) -> bool:
    """Whether the shape is (N, classes), with any axes of size 1, or (classes) of an export without batch axis."""
    shape = _dims(value, geometry)
    wide = [d for d in (shape if len(shape) == 1 else shape[1:]) if d != 1]
    # A first axis of another size than the batch lists something else, such as points or proposals.
    if (
        geometry.batch is not None
        and shape[:1] not in ((None,), (geometry.batch,))
        and not (len(shape) == 1 and geometry.batch == 1)
    ):
        return False
    return bool(shape) and len(wide) <= 1 and _is_scorable(value, geometry) and not (len(shape) == 1 and not wide)


def _is_scorable(value: Value, geometry: Geometry) -> bool:
    """Whether the tensor holds numbers of a known shape."""
    shape = _dims(value, geometry)
    return value.dtype in NUMERIC and None not in shape[1:] and 0 not in shape and bool(shape)


def _dims(value: Value, geometry: Geometry) -> Shape:
    return geometry.shape(value) or shape_of(value) or ()


def _size(value: Value, geometry: Geometry) -> int:
    """Numbers for one image."""
    shape = _dims(value, geometry)
    return math.prod(int(d or 0) for d in (shape[1:] if len(shape) > 1 else shape))


def _shown(outputs: list[Value], geometry: Geometry) -> str:
    return ", ".join(f"{v.name} {list(_dims(v, geometry))}" for v in outputs)
