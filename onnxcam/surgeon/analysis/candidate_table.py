"""Lays the scores of candidates out as one table: tensors that are joined, then seen as (N,rows,classes).

lay_out() walks back from the tensors that a selection reads (selection.py), over moves that are the same for every
image, to one tensor with an axis of candidates and one of classes. Where there is none, as for several levels of a
pyramid, the tensors are joined.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.anatomy import Logits
from onnxcam.surgeon.analysis.class_axis import REMOVED, class_axis
from onnxcam.surgeon.analysis.queries import is_proposed
from onnxcam.surgeon.analysis.selection import SIDES, Candidates, Path, Tracer
from onnxcam.surgeon.ir import Model, Node, Shape, Value, find_value

CANDIDATES, CANDIDATE_BOXES = "onnxcam/candidates", "onnxcam/candidate_boxes"
"""Names of the outputs of a detector that ends in its candidates (graphs/candidates.py)."""
CANDIDATE_LOGITS = "onnxcam/candidate_logits"
"""What enters the sigmoid of CANDIDATES, where there is one."""


@dataclass(frozen=True)
class Layout:
    """How the table (N,rows,classes) is made.

    sources: tensors that are joined along axis. elementwise: what is applied to their numbers, the first first. joined:
    their shape together. three: the shape with three axes, of which the last two change places if classes_first.
    """

    sources: tuple[Value, ...]
    axis: int
    elementwise: tuple[Node, ...]
    joined: tuple[int, ...]
    three: tuple[int, ...]
    classes_first: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, rows, classes)."""
        images, rows, classes = self.three
        return (images, classes, rows) if self.classes_first else (images, rows, classes)


def lay_out(candidates: Candidates, tracer: Tracer, batch: int) -> Layout:
    """The table of the candidates' scores. Raises ModelError where these fit no table."""
    sources, elementwise, axis = _joined(candidates.paths, tracer, batch)
    shapes = [full_shape(v, tracer) for v in sources]
    joined = list(shapes[0])
    joined[axis] = sum(s[axis] for s in shapes)
    rows = full_shape(candidates.sides, tracer) if candidates.sides is not None else None
    count = math.prod(rows[-2:]) // SIDES if rows is not None else None
    proposed = _of_proposals(tuple(joined), sources[0], tracer) if is_proposed(sources[0]) else None
    three, classes_first = proposed or _as_table(tuple(joined), batch, count)
    return Layout(tuple(sources), axis, elementwise, tuple(joined), three, classes_first)


def as_candidates(logits: Logits, model: Model) -> Logits:
    """The Logits of the output CANDIDATES: (N,rows,classes) without sides, which may be the other output."""
    sides = CANDIDATE_BOXES if find_value(model, CANDIDATE_BOXES) is not None else None
    reason = "the candidates' scores, before detections are chosen among them"
    if find_value(model, CANDIDATE_LOGITS) is not None:
        logits = replace(logits, tensor=CANDIDATE_LOGITS, activation="sigmoid")
    return replace(logits, classes=logits.shape[2], boxes_first=True, sides=None, sides_output=sides, reason=reason)


def full_shape(value: Value, tracer: Tracer) -> tuple[int, ...]:
    """The shape of a tensor of candidates. Raises ModelError where it is unknown."""
    shape = tracer.shape(value)
    if None in shape or not shape:
        raise ModelError(f"the shape of the candidates {value.name!r} is not known")
    return tuple(int(d or 0) for d in shape)


def _joined(paths: Sequence[Path], tracer: Tracer, batch: int) -> tuple[list[Value], tuple[Node, ...], int]:
    """(tensors that joined along an axis hold all candidates' scores, what is applied to their numbers, the axis)."""
    lines = [list(tracer.single_line(p.source)) for p in paths]
    shared = [s for s in lines[0] if all(any(t.source is s.source for t in line) for line in lines[1:])]
    if len({id(p.source) for p in paths}) == 1:
        sizes = {_size(tracer.shape(paths[0].source)), batch * _size(tracer.shape(paths[0].source))}
        shared = [s for s in shared if _size(tracer.shape(s.source)) in sizes]
        if 0 in sizes:  # a run without proposals, where all sizes are alike
            shared = shared[: 1 + sum(1 for _ in takewhile(lambda s: not _is_part(s.source, tracer), shared))]
    best = _most_telling(shared, tracer, batch)
    if best is not None:
        chains = [
            (*next(s.elementwise for s in line if s.source is best.source), *path.elementwise)
            for line, path in zip(lines, paths, strict=True)
        ]
        sources, axis = [best.source], 0
    else:
        steps = _alike(lines, tracer)
        chains = [(*s.elementwise, *p.elementwise) for s, p in zip(steps, paths, strict=True)]
        sources = list({id(s.source): s.source for s in steps}.values())
        axis = _varying_axis([tracer.shape(s) for s in sources])
    kinds = {tuple(n.op_type for n in chain if n.op_type != "Cast") for chain in chains}
    if len(kinds) > 1:
        raise ModelError(
            "the detections' scores are computed in different ways from those of the candidates; explain the export "
            "without non-maximum suppression"
        )
    return sources, chains[0], axis


def _is_part(value: Value, tracer: Tracer) -> bool:
    """Whether the tensor is a part of what it was cut from, such as the columns without the background's."""
    node = value.producer()
    if node is None or node.op_type not in ("Slice", "Gather", "Split") or node.inputs[0] is None:
        return False
    return tracer.shape(node.inputs[0]) != tracer.shape(value)


def _most_telling(steps: Sequence[Path], tracer: Tracer, batch: int) -> Path | None:
    """Of tensors with the same numbers one that has axes for candidates and classes; None if there is none at all."""
    batched = [s for s in steps if tracer.shape(s.source)[:1] == (batch,)]
    for rank, among in ((3, batched), (4, batched), (2, steps)):
        for step in among:
            if len(tracer.shape(step.source)) == rank:
                return step
    return next(iter(steps), None)


def _alike(lines: Sequence[Sequence[Path]], tracer: Tracer) -> list[Path]:
    """From each line one tensor, so that they can be joined along one axis; with an axis of classes if there is one."""
    for rank in (3, 2):
        steps = [next((s for s in line if len(tracer.shape(s.source)) == rank), None) for line in lines]
        chosen = [s for s in steps if s is not None]
        shapes = [tracer.shape(s.source) for s in chosen]
        if len(chosen) < len(lines) or _differing_axes(shapes) > 1:
            continue
        if all(_size(s) == _size(tracer.shape(line[0].source)) for s, line in zip(shapes, lines, strict=True)):
            return chosen
    return [line[0] for line in lines]


def _differing_axes(shapes: Sequence[Shape]) -> int:
    return sum(len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True))


def _varying_axis(shapes: Sequence[Shape]) -> int:
    """The axis along which tensors list different candidates. Raises ModelError where their other axes differ."""
    ranks = {len(s) for s in shapes}
    if len(ranks) != 1:
        raise ModelError("the candidates stand in tensors of different ranks; explain the export without selection")
    differing = [i for i, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(differing) > 1:
        raise ModelError("the candidates stand in tensors that fit no table; explain the export without selection")
    return differing[0] if differing else min(1, ranks.pop() - 1)


def _as_table(shape: tuple[int, ...], batch: int, rows: int | None) -> tuple[tuple[int, ...], bool]:
    """(the shape with three axes, whether its last two have to change places so that rows come first).

    rows: the number of candidates, None if unknown: then the longer axis lists them.
    """
    if len(shape) == 1:
        three: tuple[int, ...] = (1, shape[0], 1)
    elif len(shape) == 2:
        three = (*shape, 1) if shape[0] == batch and (rows is None or shape[1] == rows) else (1, *shape)
    elif len(shape) == 3:
        three = shape
    else:
        three = (shape[0], shape[1], math.prod(shape[2:]))
    if rows is not None and rows in three[1:]:
        return three, three[1] != rows
    return three, three[2] > three[1]


def _of_proposals(shape: tuple[int, ...], table: Value, tracer: Tracer) -> tuple[tuple[int, ...], bool] | None:
    """What _as_table() tells, by the axis of classes: the number of proposals in one run says nothing.

    None where there is no such axis. Raises ModelError where it is not known, and the run had hardly any proposal.
    """
    classes = class_axis(table, tracer)
    if classes is None and len(shape) > 1 and min(shape[-2:]) <= 1 < max(shape[-2:]):
        raise ModelError(
            f"hardly a region was proposed in a test run, so which axis of {table.name!r} lists the classes is not "
            f"known; explain the export without selection (all candidates, with their scores)"
        )
    if classes in (None, REMOVED) or not 2 <= len(shape) <= 3 or len(shape) - classes > 2:
        return None
    three = shape if len(shape) == 3 else (1, *shape)
    return three, classes == len(shape) - 2


def _size(shape: Shape) -> int:
    return math.prod(d or 0 for d in shape)
