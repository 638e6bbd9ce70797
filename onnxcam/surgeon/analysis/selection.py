"""Leads the detections that a model chose back to the candidates that it chose them from.

A detector that ends in non-maximum suppression or TopK returns other boxes for every image, so a row of its output is
nothing that masked images can be scored by. But its numbers are only moved there: Gather, TopK, GatherND and others
take them out of a table with one row for each candidate. find_candidates() walks back along these moves to that table;
graphs/candidates.py ends the model there and tells for each detection which candidate it is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.decision import COMPARISONS
from onnxcam.surgeon.analysis.tracing import free_of_data
from onnxcam.surgeon.ir import (
    Model,
    Node,
    Shape,
    Shapes,
    Value,
    ancestors,
    constant,
    integers,
    recorded_types,
    shape_of,
)

CHOOSING = frozenset({"NonMaxSuppression", "TopK", "NonZero", "Compress"})
"""Operators that choose among rows by the numbers of the image."""
ELEMENTWISE = frozenset({"Sigmoid", "Sqrt", "Exp", "Log", "Cast", "Neg", "HardSigmoid", "Softplus"})
"""Operators on single numbers, which commute with moving them."""
REAL = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.DOUBLE)
SIDES = 4
"""Numbers of a box."""
NARROWEST_TABLE = 6
"""Columns of a list of detections in one tensor: four sides, a score and a class."""


@dataclass(frozen=True)
class Move:
    """An operator that moves numbers. data: inputs that are moved, () for all; chosen_by: those that say where from.

    TopK and ReduceMax are moves too, of their largest numbers.
    """

    data: tuple[int, ...] = (0,)
    chosen_by: tuple[int, ...] = ()


MOVES: Mapping[str, Move] = {
    **dict.fromkeys(("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), Move()),
    **dict.fromkeys(("Split", "Expand", "Tile", "Pad"), Move()),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "Compress"), Move(chosen_by=(1,))),
    "Slice": Move(chosen_by=(1, 2)),
    "Concat": Move(()),
    "Where": Move((1, 2), chosen_by=(0,)),
    **dict.fromkeys(("ScatterND", "ScatterElements"), Move((0, 2))),
    "TopK": Move(),
    "ReduceMax": Move(),
}
ALWAYS_CHOOSES = frozenset({"TopK", "ReduceMax"})


@dataclass(frozen=True)
class Path:
    """How numbers come from the tensor before a selection. elementwise: what is applied to them, the first first."""

    source: Value
    elementwise: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """What a detector chooses from, and where its choice is returned.

    scores: the output with the scores of the detections, (D), (N,D) or columns of (N,D,columns); boxes: the output with
    their sides, which may be the same one. paths: how the scores come from the candidates' scores. sides: the tensor of
    the candidates' boxes, (N,rows,4), (N,4,rows) or (rows,4), None where boxes are computed after the selection.
    labels: the output with their classes; None where `scores` lists them too, or none does.
    """

    scores: Value
    boxes: Value
    labels: Value | None
    paths: tuple[Path, ...]
    sides: Value | None


@dataclass(frozen=True, eq=False)
class Tracer:
    """Walks back in one graph. fixed: names of the tensors that follow from shapes and constants alone."""

    shapes: Shapes
    types: Mapping[str, onnx_ir.DataType | None]
    fixed: frozenset[str]

    @classmethod
    def of(cls, model: Model, shapes: Shapes) -> "Tracer":
        """Raises ModelError where the types of the graph contradict each other."""
        return cls(shapes, recorded_types(model), frozenset(free_of_data(model)))

    def shape(self, value: Value) -> Shape:
        """The shape, () where it is unknown."""
        return self.shapes.get(str(value.name), ())

    def is_real(self, value: Value) -> bool:
        """Whether the tensor holds real numbers."""
        return (self.types.get(str(value.name)) or value.dtype) in REAL

    def is_fixed(self, value: Value) -> bool:
        """Whether the tensor is the same for every image."""
        return constant(value) is not None or str(value.name) in self.fixed

    def chooses(self, node: Node) -> bool:
        """Whether the node moves numbers from places that the image decides."""
        if node.op_type in ALWAYS_CHOOSES or node.op_type == "Mul":
            return True
        move = MOVES.get(node.op_type)
        indices = [node.inputs[i] for i in move.chosen_by if i < len(node.inputs)] if move is not None else []
        return any(v is not None and not self.is_fixed(v) for v in indices)

    def moved(self, value: Value) -> list[Value]:
        """The inputs whose numbers the value's producer only moved to it; [] where it computes new ones."""
        node = value.producer()
        if node is None:
            return []
        if node.op_type == "Mul":
            # A product with zeros and ones only blanks numbers.
            return [v for v in node.inputs if v is not None and _is_switch(_other(node, v))][:1]
        move = MOVES.get(node.op_type)
        if move is None or (node.op_type in ALWAYS_CHOOSES and not self._takes_largest(node, value)):
            return []
        places = move.data or range(len(node.inputs))
        inputs = [node.inputs[i] for i in places if i < len(node.inputs)]
        computed = [v for v in inputs if v is not None and constant(v) is None]
        if node.op_type == "Where" and sum(not self.is_fixed(v) for v in computed) != 1:
            return []  # of two computed tensors it makes a new one, such as an activation
        return computed

    def _takes_largest(self, node: Node, value: Value) -> bool:
        """Whether the value holds the largest numbers along one axis: not the indices of a TopK."""
        if node.op_type == "TopK":
            return value is node.outputs[0]
        axes = integers(node, "axes", 1)
        return axes is not None and len(axes) == 1

    def paths(self, value: Value) -> list[Path]:
        """The paths from the tensors before the first selection to the value; [] where none is on the way."""
        paths: dict[int, list[Path]] = {}
        # A tensor is done once all that its numbers are moved from is done; chains may be long, so no recursion.
        stack = [value]
        while stack:
            last = stack[-1]
            before = self._before(last)
            waiting = [v for v in before if id(v) not in paths]
            if id(last) in paths or not waiting:
                stack.pop()
                if id(last) not in paths:
                    paths[id(last)] = self._extended(last, [p for v in before for p in paths[id(v)]])
            else:
                stack += waiting
        return paths[id(value)]

    def _before(self, value: Value) -> list[Value]:
        """The inputs that the value's numbers come from one by one, moved or changed by themselves."""
        node = value.producer()
        if node is not None and node.op_type in ELEMENTWISE and node.inputs[0] is not None:
            return [node.inputs[0]]
        return self.moved(value)

    def _extended(self, value: Value, paths: list[Path]) -> list[Path]:
        node = value.producer()
        if node is None:
            return []
        if node.op_type in ELEMENTWISE:
            return [Path(p.source, (*p.elementwise, node)) for p in paths]
        moved = self.moved(value)
        if not paths and moved and self.chooses(node):
            return [Path(moved[0])]
        return list({(id(p.source), p.elementwise): p for p in paths}.values())

    def origins(self, value: Value) -> dict[int, Value]:
        """By id the tensors that the value's numbers come from, one by one, itself among them."""
        seen: dict[int, Value] = {}
        ahead = [value]
        while ahead:
            current = ahead.pop()
            if id(current) not in seen:
                seen[id(current)] = current
                ahead += self._before(current)
        return seen

    def single_line(self, value: Value) -> Iterator[Path]:
        """The value, then what it comes from along moves that every image makes alike, each from one tensor."""
        elementwise: tuple[Node, ...] = ()
        while True:
            yield Path(value, elementwise)
            node, before = value.producer(), self._before(value)
            if node is None or len(before) != 1 or self.chooses(node) or node.op_type == "Concat":
                return
            if node.op_type in ELEMENTWISE:
                elementwise = (node, *elementwise)
            value = before[0]


def _other(node: Node, value: Value) -> Value | None:
    """The other factor of a product."""
    return next((v for v in node.inputs if v is not value), None)


def _is_switch(value: Value | None) -> bool:
    """Whether the tensor holds zeros and ones that a comparison made, as where only peaks are kept."""
    node = value.producer() if value is not None else None
    compared = node.inputs[0].producer() if node is not None and node.op_type == "Cast" and node.inputs[0] else None
    return compared is not None and compared.op_type in (*COMPARISONS, "Equal", "Not", "And")


def may_choose(model: Model) -> bool:
    """Whether the model may choose detections, by what the graph says without a run."""
    if not any(n.op_type in CHOOSING or n.op_type == "ReduceMax" for n in model.graph):
        return False
    outputs = [v for v in model.graph.outputs if v.producer() is not None and v.const_value is None]
    shapes = [shape_of(v) for v in outputs]
    if not any(s is None or None in s[-1:] or _is_list_of_boxes(s) for s in shapes):
        return False
    tracer = Tracer({}, {}, frozenset(free_of_data(model)))
    return any(n.op_type == "TopK" for n in model.graph) or any(tracer.paths(v) for v in outputs)


def find_candidates(model: Model, tracer: Tracer) -> Candidates | None:
    """The candidates of a detector that chooses its detections; None for a model that is no such detector.

    Raises ModelError where detections that non-maximum suppression chose cannot be led back.
    """
    outputs = [v for v in model.graph.outputs if v.producer() is not None and v.const_value is None]
    lineage = [v for o in outputs for v in (o, *ancestors(o))]
    nodes = list({id(n): n for v in lineage if (n := v.producer()) is not None}.values())
    if not any(n.op_type in CHOOSING or n.op_type == "ReduceMax" for n in nodes):
        return None
    boxes = [o for o in outputs if tracer.is_real(o) and _is_list_of_boxes(tracer.shape(o))]
    if not boxes:
        return None
    ranked = {i for n in nodes for v in _ranked_by(n) for i in tracer.origins(v)}
    scores = sorted(_score_outputs(outputs, boxes, ranked, tracer), key=lambda pair: len(tracer.shape(pair[0])))
    if not scores:
        chosen = {n.op_type for o in boxes for v in (o, *ancestors(o)) if (n := v.producer()) is not None}
        if "NonMaxSuppression" not in chosen or any(len(tracer.shape(o)) == 3 for o in boxes):
            return None
        raise ModelError(
            f"the output {boxes[0].name!r} lists boxes that non-maximum suppression chose, and their scores cannot be "
            f"led back to the candidates; explain the export without that step (all candidates, with their scores)"
        )
    output, paths = scores[0]
    aside = [o for o in boxes if o is not output and tracer.shape(o)[-1] == SIDES] or [output]
    labels = _labels(outputs, output, aside[0], tracer)
    return Candidates(output, aside[0], labels, tuple(paths), _sides(aside[0], paths, tracer))


def _labels(outputs: Sequence[Value], scores: Value, boxes: Value, tracer: Tracer) -> Value | None:
    """The output with the classes of the detections: as many numbers as scores, whole ones rather than real ones."""
    if scores is boxes:
        return None
    alike = [o for o in outputs if o not in (scores, boxes) and _lists_alike(tracer.shape(o), tracer.shape(boxes))]
    return min(alike, key=tracer.is_real, default=None)


def find_queries(model: Model, tracer: Tracer, output: str | None = None) -> Candidates | None:
    """The outputs (N,queries,classes) and (N,queries,4) of a detection transformer; None where there are no such.

    Its queries may be chosen among the cells of the encoder (queries.py). output: the name of the scores to take.
    """
    outputs = [v for v in model.graph.outputs if v.producer() is not None and v.const_value is None]
    if not any(n.op_type == "TopK" for n in model.graph):
        return None
    tables = [o for o in outputs if tracer.is_real(o) and len(tracer.shape(o)) == 3]
    # An output that another one is computed from is no table of scores but an embedding of the queries.
    earlier = {id(a) for v in outputs for a in ancestors(v)}
    ends = [v for v in tables if id(v) not in earlier]
    for scores in [v for v in tables if v.name == output] or ends:
        for boxes in tables:
            if tracer.shape(boxes)[2] == SIDES and scores is not boxes and _of_same_rows(scores, boxes, tracer):
                return Candidates(scores, boxes, None, (Path(scores),), boxes)
    return None


def _of_same_rows(scores: Value, boxes: Value, tracer: Tracer) -> bool:
    return tracer.shape(scores)[:2] == tracer.shape(boxes)[:2]


def _is_list_of_boxes(shape: Shape) -> bool:
    """Whether the shape is (D,4), (N,D,4), or that of detections with score and class beside the sides."""
    return len(shape) in (2, 3) and (shape[-1] == SIDES or (shape[-1] or 0) >= NARROWEST_TABLE)


def _score_outputs(
    outputs: Sequence[Value], boxes: Sequence[Value], ranked: set[int], tracer: Tracer
) -> Iterator[tuple[Value, list[Path]]]:
    """Outputs with scores of detections, and how they come from those of the candidates by which these were ranked."""
    for output in outputs:
        shape = tracer.shape(output)
        beside = [o for o in boxes if o is not output and tracer.shape(o)[-1] == SIDES]
        alike = any(_lists_alike(shape, tracer.shape(o)) for o in beside)
        is_table = not alike and output in boxes and shape[-1] != SIDES
        if not tracer.is_real(output) or not (alike or is_table):
            continue
        if is_table and not _joins_other_numbers(output, ranked, tracer):
            continue  # rows of scores alone, such as what an encoder gives its chosen queries
        paths = [p for p in tracer.paths(output) if id(p.source) in ranked and tracer.is_real(p.source)]
        if paths:
            yield output, paths


def _joins_other_numbers(output: Value, ranked: set[int], tracer: Tracer) -> bool:
    """Whether columns that are no scores of candidates are joined to those that are."""
    for value in tracer.origins(output).values():
        node = value.producer()
        parts = [v for v in node.inputs if v is not None] if node is not None and node.op_type == "Concat" else []
        scored = [any(id(p.source) in ranked for p in tracer.paths(v)) for v in parts]
        if any(scored) and not all(scored):
            return True
    return False


def _lists_alike(scores: Shape, boxes: Shape) -> bool:
    """Whether the scores, (D), (N,D) or (N,D,1), are of as many detections as the boxes (D,4) or (N,D,4)."""
    # Axes of size 1 come and go, as where an export of one image gets a batch axis.
    return [d for d in scores if d != 1] == [d for d in boxes[:-1] if d != 1]


def _ranked_by(node: Node) -> list[Value]:
    """The tensors by which a node ranks or admits candidates."""
    places: tuple[int, ...] = ()
    if node.op_type in ("TopK", "ReduceMax", "ArgMax"):
        places = (0,)
    elif node.op_type == "NonMaxSuppression":
        places = (1,)
    elif node.op_type in COMPARISONS:
        places = (0, 1)
    return [v for i in places if (v := node.inputs[i]) is not None and constant(v) is None]


def _sides(output: Value, paths: Sequence[Path], tracer: Tracer) -> Value | None:
    """The candidates' boxes: the first tensor of boxes that a selection reads on the way to the output."""
    sources = {id(p.source): p.source for p in paths}
    sizes = {d or 0 for v in sources.values() for d in tracer.shape(v)}
    total = sum(math.prod(d or 0 for d in tracer.shape(v)) for v in sources.values())
    for value in reversed(_in_order([output, *ancestors(output)])):
        node = value.producer()
        data = tracer.moved(value)[:1] if node is not None and tracer.chooses(node) else []
        for before in data:
            shape = tracer.shape(before)
            if id(before) in sources or not tracer.is_real(before) or len(shape) not in (2, 3) or None in shape:
                continue
            rows = math.prod(d or 0 for d in shape) // SIDES
            # A row for each candidate: an axis of the scores, or what these were before they were flattened.
            fits = rows in sizes or (len(sources) == 1 and rows and total % rows == 0)
            if SIDES in shape[-2:] and rows in shape[-2:] and fits:
                return before
    return None


def _in_order(values: Sequence[Value]) -> list[Value]:
    """The computed values, the last of the graph first."""
    computed = [v for v in values if v.producer() is not None]
    graph = computed[0].producer().graph if computed else None  # type: ignore[union-attr]
    place = {id(n): i for i, n in enumerate(graph or ())}
    return sorted(computed, key=lambda v: -place.get(id(v.producer()), 0))
