"""Finds the tensor that is scored: a classifier's logits before the final activation, a class map, boxes, or others.

find_logits() returns it as Logits, with the kind of its targets. locate.py walks back from there, and graphs/ adds the
nodes that turn it into one score for each masked image.
"""

from dataclasses import replace

from onnxcam.errors import ModelError, near
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.candidate_table import CANDIDATES, as_candidates
from onnxcam.surgeon.analysis.chosen_rows import choosing_operator
from onnxcam.surgeon.analysis.class_heads import (
    best_head,
    described_head,
    head_of,
    map_heads,
    other_heads,
    refuse_least,
    vector_heads,
)
from onnxcam.surgeon.analysis.columns import as_boxes, is_beside_prototypes
from onnxcam.surgeon.analysis.decision import is_tensor
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.analysis.output_shapes import checked_shape, dims, is_scorable, is_vector, shown, size
from onnxcam.surgeon.analysis.score_tables import beside_sides, best_table
from onnxcam.surgeon.analysis.selection import CHOOSING
from onnxcam.surgeon.analysis.sequences import sequence_of
from onnxcam.surgeon.ir import Model, Value, ancestors

SHAPES = {
    Kind.CLASSES: "a class vector (N, classes)",
    Kind.REGION: "a class map (N, classes, H, W)",
    Kind.BOXES: "a table of boxes (N, numbers, boxes)",
    Kind.SEQUENCE: "a sequence of class vectors (T, N, classes) or (N, T, classes)",
}
OPTIONS = {Kind.REGION: "--region", Kind.BOXES: "--box", Kind.SEQUENCE: "--timestep"}
"""The command line's option for targets of a kind."""


def find_logits(model: Model, geometry: Geometry, output: str | None = None, kind: Kind | None = None) -> Logits:
    """Finds the tensor that is scored. output and kind are the caller's choice, if any.

    Without one, the first of these wins: a class vector, a class map, a table of boxes. Among several class vectors it
    is the one with a final softmax, else the widest. An output from which another output is computed is an embedding,
    not the logits. Of a table of boxes the columns are read too (columns.py). Raises ModelError.
    """
    logits = _scored(model, geometry, output, kind)
    if logits.output == CANDIDATES:
        return as_candidates(logits, model)
    return as_boxes(model, logits, geometry) if logits.kind is Kind.BOXES else logits


def _scored(model: Model, geometry: Geometry, output: str | None, kind: Kind | None) -> Logits:
    outputs = [v for v in model.graph.outputs if is_tensor(v)]
    if output is not None:
        chosen = next((v for v in outputs if v.name == output), None)
        if chosen is None:
            names = [str(v.name) for v in outputs]
            raise ModelError(f"the model has no output {output!r}; {near(output, names)}")
        head, why = head_of(chosen, geometry), "; the output that was named"
        if head is not None and kind in (None, Kind.CLASSES if is_vector(head.scores, geometry) else Kind.REGION):
            return described_head(head, kind, geometry, why)
        refuse_least([chosen] if kind is None else [])
        sequence = sequence_of(model, chosen, geometry, requested=kind is Kind.SEQUENCE)
        if sequence is not None and kind in (None, Kind.SEQUENCE):
            return replace(sequence, reason=sequence.reason + why)
        return _described(chosen, kind or _kind_of(chosen, geometry), geometry, why)
    outputs = [v for v in outputs if v.const_value is None and v.producer() is not None] or outputs
    if kind in (None, Kind.CLASSES):
        of_boxes = beside_sides(outputs, geometry)
        vectors = vector_heads([v for v in outputs if v not in of_boxes], geometry)
        if vectors:
            why = f"; chosen of {len(outputs)} outputs" if len(outputs) > 1 else ""
            best = best_head(vectors, geometry)
            logits = described_head(best, kind, geometry, why)
            return replace(logits, others=other_heads(best, vectors))
        if kind is Kind.CLASSES:
            raise ModelError(f"no output is a class vector of shape (N, classes); found {shown(outputs, geometry)}")
    return _other(model, outputs, kind, geometry)


def _other(model: Model, outputs: list[Value], kind: Kind | None, geometry: Geometry) -> Logits:
    """The scored tensor of a model without class vector: a sequence, a class map, then boxes; others must be named."""
    if kind in (None, Kind.SEQUENCE):
        read = [sequence_of(model, v, geometry, requested=kind is Kind.SEQUENCE) for v in outputs]
        sequences = [logits for logits in read if logits is not None]
        if sequences:
            return sequences[0]
    maps = sorted(map_heads(outputs, geometry), key=lambda h: h.decision is not None)
    mapped = {id(h.output) for h in maps}
    boxes = [v for v in outputs if len(dims(v, geometry)) == 3 and id(v) not in mapped and is_scorable(v, geometry)]
    outlines = [h.scores for h in maps if geometry.is_map(h.scores)]
    if kind is None and maps and (tables := [v for v in boxes if is_beside_prototypes(model, v, outlines, geometry)]):
        boxes, maps = tables, []
    if maps and kind in (None, Kind.REGION):
        return described_head(maps[0], kind, geometry, "; a map of classes")
    if boxes and kind in (None, Kind.BOXES):
        table, others = best_table(boxes, geometry)
        return replace(_described(table, Kind.BOXES, geometry, "; a table of boxes"), others=others)
    scorable = [v for v in outputs if is_scorable(v, geometry)]
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING) and len(scorable) == 1:
        return _described(scorable[0], kind, geometry, "; the only output of numbers")
    listed = shown(outputs, geometry)
    if kind in (Kind.ELEMENTS, Kind.EMBEDDING):
        raise ModelError(f"the model has several outputs; say which is meant with --output: {listed}")
    if kind is not None:
        what = SHAPES[kind]
        raise ModelError(f"no output is {what}; found {listed}{_other_kind(outputs, kind, geometry)}")
    refuse_least(outputs)
    raise ModelError(
        f"no output is a class vector (N, classes), a class map, a sequence or a table of boxes; found {listed}; "
        f"name a number with onnxcam explain --output NAME --index ..."
    )


def _refuse_chosen(output: Value, geometry: Geometry) -> None:
    """Raises ModelError for an output whose numbers are of other boxes, or classes, for every masked image."""
    operator = choosing_operator(output, geometry)
    if operator is None:
        return
    if head_of(output, geometry) is not None:
        raise ModelError(
            f"what the output {output.name!r} lists is chosen by {operator}, so a number of it is of another class for "
            f"every masked image; leave --index out, and name a class with --target"
        )
    raise ModelError(
        f"the rows of the output {output.name!r} are chosen by {operator}, so a row is another box for every masked "
        f"image; use --box ROW --target CLASS in place of --index"
    )


def _other_kind(outputs: list[Value], kind: Kind, geometry: Geometry) -> str:
    """What the model gives in place of the requested kind, to end an error; '' where it gives no classes either."""
    option = OPTIONS.get(kind)
    if option is None:
        return ""
    if vector_heads(outputs, geometry):
        return f"; leave {option} out: the model gives one vector of classes"
    if kind is not Kind.REGION and map_heads(outputs, geometry):
        return f"; leave {option} out: the model gives a map of classes"
    if kind is not Kind.BOXES and any(len(dims(v, geometry)) == 3 and is_scorable(v, geometry) for v in outputs):
        return f"; leave {option} out, or use --box: the model gives a table of three axes"
    return ""


def _kind_of(output: Value, geometry: Geometry) -> Kind:
    """The kind of an output that is no head of classes."""
    return Kind.BOXES if len(dims(output, geometry)) == 3 else Kind.ELEMENTS


def _described(output: Value, kind: Kind, geometry: Geometry, why: str) -> Logits:
    """The Logits of an output. why ends the reason."""
    shape = checked_shape(output, geometry)
    if kind in (Kind.CLASSES, Kind.REGION, Kind.SEQUENCE):
        raise ModelError(
            f"the output {output.name!r} of shape {list(shape)} is no {SHAPES[kind].removeprefix('a ')}"
            f"{_other_kind([output], kind, geometry)}"
        )
    if kind is Kind.BOXES and len(shape) != 3:
        raise ModelError(
            f"the output {output.name!r} of shape {list(shape)} is no table of boxes (N, numbers, boxes)"
            f"{_other_kind([output], kind, geometry)}"
        )
    if kind is Kind.ELEMENTS:
        _refuse_chosen(output, geometry)
    # Elements, boxes and embeddings are scored as the model returns them, after any activation.
    reason = f"the output itself, no activation follows{why}"
    logits = Logits(str(output.name), str(output.name), "none", size(output, geometry), reason, kind, shape)
    if kind is not Kind.BOXES:
        return logits
    chosen = {n.op_type for v in (output, *ancestors(output)) if (n := v.producer()) is not None} & CHOOSING
    if chosen and min(shape[1:]) <= 7 and output.name != CANDIDATES:
        raise ModelError(
            f"the output {output.name!r} lists boxes that {', '.join(sorted(chosen))} chose, so a row is another box "
            f"for every masked image; explain the export without that step"
        )
    return logits
