"""Two graphs of a detector that chooses its detections: one that ends in its candidates, one that tells which it chose.

    candidates      image -> CANDIDATES (N,rows,classes), CANDIDATE_BOXES (N,rows,4) if they are known before the choice
    detections      image -> PLACES, SCORES, BOXES and LABELS of the detections

The first is explained like a detector without selection. The second is the model itself, run once on the unmasked
picture. PLACES has the shape of SCORES: for each number 1 + its place in the table of one image, flattened, and 0 where
it is no candidate's score.

Where a detector predicts for queries that it chooses by TopK, the rows of CANDIDATES are the cells that they are chosen
from: a cell has the scores of its query, 0 where it has none. Where it predicts for regions that it proposes, the one
row of CANDIDATES has the best score of each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.candidate_table import (
    CANDIDATE_BOXES,
    CANDIDATE_LOGITS,
    CANDIDATES,
    Layout,
    full_shape,
    lay_out,
)
from onnxcam.surgeon.analysis.queries import Follow, Followed, followed_by
from onnxcam.surgeon.analysis.selection import SIDES, Candidates, Tracer, find_candidates, find_queries
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.places import PlacesMoved
from onnxcam.surgeon.graphs.tensor_names import ADDED as ADDED
from onnxcam.surgeon.graphs.tensor_names import BOXES as BOXES
from onnxcam.surgeon.graphs.tensor_names import CELLS as CELLS
from onnxcam.surgeon.graphs.tensor_names import LABELS as LABELS
from onnxcam.surgeon.graphs.tensor_names import PLACES as PLACES
from onnxcam.surgeon.graphs.tensor_names import SCORES as SCORES
from onnxcam.surgeon.ir import Model, Shapes, Value, ancestors, edit, tidy

ABSENT = -20.0
"""The logit of a cell without a query: a probability of 2e-9."""
INT64, FLOAT = onnx_ir.DataType.INT64, onnx_ir.DataType.FLOAT


@dataclass(frozen=True, eq=False)
class SelectionGraphs:
    """The two graphs. outputs: names of the model's outputs that list detections.

    shape: of the table, (1,rows,classes). follow: what its rows are. every_row: whether the model returns every row of
    its own table, so that no detection was left out. batched: whether the outputs have a batch axis.
    """

    candidates: Model
    detections: Model
    outputs: tuple[str, ...]
    shape: tuple[int, int, int]
    follow: Follow
    every_row: bool
    batched: bool


def split_at_selection(
    model: Model, shapes: Shapes, batch: int | None, output: str | None = None
) -> SelectionGraphs | None:
    """Splits a detector before it chooses among its candidates; None for a model that does not choose.

    shapes: of every tensor, from a run. batch: that of the image input, None if dynamic. output: the name of the output
    that is asked for, if any. Raises ModelError where the
    detections cannot be led back to candidates.
    """
    copy = edit(model)
    tracer = Tracer.of(copy, shapes)
    chosen = find_candidates(copy, tracer)
    candidates = chosen or find_queries(copy, tracer, output)
    if candidates is None:
        return None
    layout = lay_out(candidates, tracer, batch or 1)
    rows = layout.shape[1]
    followed = followed_by(layout.sources[0], rows, tracer)
    if chosen is None and followed.by is Follow.ROW:
        return None
    table = _Table(copy, tracer, candidates, layout, followed)
    outputs = tuple(dict.fromkeys(str(v.name) for v in (candidates.scores, candidates.boxes)))
    detections = _detection_graph(copy, table, candidates)
    return SelectionGraphs(
        _candidate_graph(copy, table, batch), detections, outputs, table.shape, followed.by,
        every_row=chosen is None, batched=len(tracer.shape(candidates.boxes)) == 3,
    )  # fmt: skip


def _detection_graph(model: Model, table: "_Table", candidates: Candidates) -> Model:
    b = table.b
    outputs = [b("Identity", table.places(), name=PLACES)]
    scores = b.cast(candidates.scores, FLOAT)
    outputs.append(b("Identity", scores, name=SCORES))
    if candidates.boxes is not candidates.scores:
        outputs.append(b("Cast", candidates.boxes, to=int(FLOAT), name=BOXES))
    if table.cells is not None:
        outputs.append(b("Cast", table.cells, to=int(INT64), name=CELLS))
    if candidates.labels is not None:
        outputs.append(b("Cast", candidates.labels, to=int(INT64), name=LABELS))
    model.graph.outputs.clear()
    for value in outputs:
        value.type = onnx_ir.TensorType(INT64 if value.name in (PLACES, LABELS, CELLS) else FLOAT)
        model.graph.outputs.append(value)
    return tidy(edit(model))


def _candidate_graph(model: Model, table: "_Table", batch: int | None) -> Model:
    sizes: Sequence[int | str | None] = ["N" if batch is None else batch, *table.shape[1:]]
    model.graph.outputs.clear()
    scores = table.b("Identity", table.value, name=CANDIDATE_LOGITS if table.are_logits else None)
    publish(model, table.b("Sigmoid" if table.are_logits else "Identity", scores, name=CANDIDATES), FLOAT, sizes)
    if table.sides is not None:
        sides = table.b("Identity", table.sides, name=CANDIDATE_BOXES)
        publish(model, sides, FLOAT, [*sizes[:2], SIDES])
    names = [str(v.name) for v in model.graph.inputs]
    # A branch that was removed still counts as a reader of the tensors around it, but not in a copy.
    pruned = tidy(edit(tidy(model)))
    if not pruned.graph.inputs:
        raise ModelError(f"no candidate of the detector depends on {names[0]!r}; name an output with --output")
    return pruned


class _Table:
    """The table of candidates in a copy of the model.

    value: (N,rows,classes) float32. sides: (N,rows,4), None if unknown. shape: for one image. are_logits: whether rows
    that are followed have logits, to which a sigmoid is added, so that 0 stands for what is not there.
    """

    def __init__(
        self, model: Model, tracer: Tracer, candidates: Candidates, layout: Layout, followed: Followed
    ) -> None:
        self.b = Builder(model, ADDED)
        self._model, self._tracer, self._candidates, self._layout, self._followed = (
            model, tracer, candidates, layout, followed,
        )  # fmt: skip
        self._joined = layout.sources[0]
        if len(layout.sources) > 1:
            self._joined = self.b("Concat", *layout.sources, axis=layout.axis)
        _, rows, classes = layout.shape
        scores, sides = self._scores(), self._sides(rows)
        self.are_logits = followed.by is not Follow.ROW and not self._are_probabilities()
        self._absent = ABSENT if self.are_logits else 0.0
        self.cells = followed.cells
        self._own = scores  # (N,rows,classes) by the model's own rows
        if followed.by is Follow.CELL:
            scores = self._by_cell(scores, self._absent)
            sides = self._by_cell(sides, 0.0) if sides is not None else None
            rows = followed.count
        elif followed.by is Follow.BEST:
            scores, sides, rows = self._best(scores), None, 1
        self.value, self.sides, self.shape = scores, sides, (1, rows, classes)

    def _are_probabilities(self) -> bool:
        """Whether the scores come from a sigmoid or a softmax, perhaps without the background's column."""
        lines = [step.source.producer() for step in self._tracer.single_line(self._layout.sources[0])]
        nodes = [*self._layout.elementwise, *(n for n in lines if n is not None)]
        return any(n.op_type in ("Sigmoid", "HardSigmoid", "Softmax") for n in nodes)

    def _scores(self) -> Value:
        """The layout's table."""
        value, layout = self._joined, self._layout
        for node in layout.elementwise:
            attributes = list(node.attributes.values())
            clone = onnx_ir.Node(node.domain, node.op_type, [value, *node.inputs[1:]], attributes)
            clone.name = clone.outputs[0].name = f"{ADDED}/{node.op_type}_of_{value.name}"
            self._model.graph.append(clone)
            value = clone.outputs[0]
        if self._followed.by is Follow.BEST and layout.three == (1, *layout.joined):
            value = self.b.unsqueeze(value, [0])  # whose sizes are those of one run
        elif layout.joined != layout.three:
            value = self.b.reshape(value, [-1 if layout.three[0] != 1 or len(layout.joined) > 2 else 1,
                                           *self._open(layout.three[1:])])  # fmt: skip
        if layout.classes_first:
            value = self.b("Transpose", value, perm=[0, 2, 1])
        return self.b.cast(value, FLOAT)

    def _open(self, sides: Sequence[int]) -> list[int]:
        """Sizes of a Reshape: proposals may be more or fewer for another image."""
        return [-1, sides[1]] if self._followed.by is Follow.BEST else list(sides)

    def _sides(self, rows: int) -> Value | None:
        """The candidates' boxes as (N,rows,4)."""
        sides = self._candidates.sides
        if sides is None:
            return None
        shape = full_shape(sides, self._tracer)
        value = self.b.cast(sides, FLOAT)
        if len(shape) == 2:
            value = self.b.unsqueeze(value, [0])
        if shape[-1] != SIDES:
            value, shape = self.b("Transpose", value, perm=[0, 2, 1]), (*shape[:-2], shape[-1], shape[-2])
        # Boxes may be scaled by an input of their own, such as the picture's size, which no score needs.
        needed = {id(v) for source in self._layout.sources for v in ancestors(source) if v.is_graph_input()}
        alone = any(v.is_graph_input() and id(v) not in needed for v in ancestors(sides))
        return value if shape[-2] == rows and not alone else None

    def _by_cell(self, rows: Value, absent: float) -> Value:
        """Rows (N,queries,numbers) at their cells (N,cells,numbers), with the number `absent` at the others."""
        b, cells = self.b, self._followed.cells
        assert cells is not None
        index = b("Expand", b.unsqueeze(cells, [2]), b("Shape", rows))
        shape = b("Shape", rows)
        ends = [b("Gather", shape, b.constant([i], np.int64), axis=0) for i in (0, 2)]
        blank = b("Concat", ends[0], b.constant([self._followed.count], np.int64), ends[1], axis=0)
        return b("ScatterElements", b("Expand", b.constant(absent, np.float32), blank), index, rows, axis=1)

    def _best(self, rows: Value) -> Value:
        """The largest number of each column (N,1,classes); absent where there is no row."""
        b = self.b
        classes = self._layout.shape[2]
        some = b("Concat", rows, b.constant(np.full((1, 1, classes), self._absent), np.float32), axis=1)
        return b.reduce("ReduceMax", some, [1])

    def places(self) -> Value:
        """For each number of the scores' output 1 + its place in the flattened table, 0 where it has none."""
        b, layout = self.b, self._layout
        images, rows, classes = layout.shape
        columns = np.arange(1, classes + 1, dtype=np.int64).reshape(1, 1, classes)
        if self._followed.by is Follow.ROW:
            places = b.constant(np.arange(1, images * rows * classes + 1).reshape(layout.shape), np.int64)
        elif self._followed.by is Follow.CELL:
            assert self._followed.cells is not None
            first = np.arange(images).reshape(-1, 1, 1) * self._followed.count * classes + columns
            by_cell = b("Mul", b.unsqueeze(self._followed.cells, [2]), b.constant(classes, np.int64))
            places = b("Add", by_cell, b.constant(first, np.int64))
        else:
            places = b("Expand", b.constant(columns, np.int64), b("Shape", self._own))
        if layout.classes_first:
            places = b("Transpose", places, perm=[0, 2, 1])
        places = b("Reshape", places, b("Shape", self._joined))
        moved, start = dict[int, Value](), 0
        for source in layout.sources:
            stop = start + full_shape(source, self._tracer)[layout.axis]
            bounds = [b.constant([i], np.int64) for i in (start, stop, layout.axis)]
            moved[id(source)] = b("Slice", places, *bounds) if len(layout.sources) > 1 else places
            start = stop
        return PlacesMoved(b, self._model, self._tracer, moved).of(self._candidates.scores)
