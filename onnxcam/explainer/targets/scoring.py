"""Targets made ready: from what a person names to what the scoring graph is fed.

One function a kind of head. Each reads the network's answer for the unmasked picture, since 'top1', a segmentation's
region and a detector's boxes are about that answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import TargetError
from onnxcam.explainer.targets.values import Box, ClassLike, Element, Region, Similarity, TargetLike, resolve
from onnxcam.network.scorer import probabilities
from onnxcam.outputs.saliency import ScoredTarget
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.graphs.masked_score import REFERENCES, REGIONS, TARGETS
from onnxcam.types import Arrays, Placement

Vector = npt.NDArray[np.float64]
OVERLAP = 0.5
"""Intersection over union from which two boxes are of one object."""
LEAST = 1e-6
"""Length below which an embedding has no direction."""


@dataclass(frozen=True)
class HeadOutput:
    """The network's answer for the unmasked picture. size: of the network's input; placement: on the picture."""

    logits: Logits
    values: Vector
    labels: Sequence[str] | None
    size: tuple[int, ...]
    placement: Placement | None


def kind_of(target: TargetLike, default: Kind) -> tuple[Kind, str | None]:
    """The kind of head that a target needs, and the output that it names."""
    for wanted, kind in (
        (Element, Kind.ELEMENTS),
        (Box, Kind.BOXES),
        (Region, Kind.REGION),
        (Similarity, Kind.EMBEDDING),
    ):
        if isinstance(target, wanted):
            return kind, target.output
    return default, None


def targets(wanted: Sequence[TargetLike], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    """What the graph is fed for these targets of one kind of head, and what each is called.

    A Target's logit and probability are of the unmasked picture; where the tensor's own number is scored they are that
    number. Raises TargetError.
    """
    kind = seen.logits.kind
    if kind is Kind.CLASSES:
        return _classes(wanted, seen)
    if kind is Kind.REGION:
        return _regions([t if isinstance(t, Region) else Region(_class(t)) for t in wanted], seen)
    if kind is Kind.BOXES:
        return _boxes([t if isinstance(t, Box) else _best_box(_class(t)) for t in wanted], seen)
    if kind is Kind.ELEMENTS:
        return _elements([_element(t) for t in wanted], seen)
    raise TargetError("an embedding is compared with references, which are arrays: see similarity()")


def similarity(
    references: Sequence[npt.NDArray[np.generic]], seen: HeadOutput, names: Sequence[str] = ()
) -> tuple[Arrays, list[ScoredTarget]]:
    """Of the picture's embedding with each of the references, which are embeddings too."""
    rows = np.stack([_direction(np.asarray(r, np.float64).reshape(-1), seen) for r in references])
    own = _direction(seen.values, seen)
    names = names or [f"reference {i}" for i in range(len(rows))]
    found = [
        ScoredTarget(i, f"similarity to {names[i]}", c, c, Kind.EMBEDDING) for i, c in enumerate((rows @ own).tolist())
    ]
    return {REFERENCES: rows.astype(np.float32)}, found


def _direction(vector: Vector, seen: HeadOutput) -> Vector:
    if vector.size != seen.values.size or not np.isfinite(vector).all():
        raise TargetError(
            f"a reference is an embedding of {seen.values.size} finite numbers, as the output {seen.logits.output!r} "
            f"gives them; this one has {vector.size}"
        )
    length = float(np.linalg.norm(vector))
    if length < LEAST:
        raise TargetError("the embedding is zero, so it has no direction to compare with")
    return np.asarray(vector / length)


def _class(target: TargetLike) -> ClassLike:
    """Anything that is no class is told so by resolve()."""
    return target  # type: ignore[return-value]


def _classes(wanted: Sequence[TargetLike], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    given = probabilities(seen.values, seen.logits.activation)
    index = [resolve(_class(t), seen.values, seen.labels) for t in wanted]
    found = [ScoredTarget(i, _label(seen, i), float(given[i]), float(seen.values[i])) for i in index]
    return {TARGETS: np.asarray(index, np.int64)}, found


def _label(seen: HeadOutput, index: int) -> str | None:
    return seen.labels[index] if seen.labels is not None else None


def _element(target: TargetLike) -> Element:
    if isinstance(target, Element):
        return target
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        return Element((int(target),))
    raise TargetError(f"an element of an output is named by its index, not by {target!r}; use --index, or Element(...)")


def _elements(wanted: Sequence[Element], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    shape = seen.logits.shape[1:] if len(seen.logits.shape) > 1 else seen.logits.shape
    flat = []
    for element in wanted:
        index = tuple(i + d if i < 0 else i for i, d in zip(element.index, shape, strict=False))
        if len(element.index) != len(shape) or not all(0 <= i < d for i, d in zip(index, shape, strict=True)):
            raise TargetError(
                f"index {list(element.index)} is not inside the output {seen.logits.output!r}, whose shape for one "
                f"picture is {list(shape)}"
            )
        flat.append(int(np.ravel_multi_index(index, shape)))
    names = [f"{seen.logits.output}[{', '.join(map(str, e.index))}]" for e in wanted]
    return _literal(flat, names, seen)


def _literal(flat: Sequence[int], names: Sequence[str], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    found = [
        ScoredTarget(i, name, float(seen.values[i]), float(seen.values[i]), seen.logits.kind)
        for i, name in zip(flat, names, strict=True)
    ]
    return {TARGETS: np.asarray(flat, np.int64)}, found


def _regions(wanted: Sequence[Region], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    table = seen.values.reshape(-1, seen.logits.classes)
    given = probabilities(table, seen.logits.activation)
    predicted = table.argmax(axis=1) if seen.logits.classes > 1 else np.where(table[:, 0] > 0, 0, 1)
    votes = np.bincount(predicted, minlength=seen.logits.classes)[: seen.logits.classes].astype(np.float64)
    columns, found, index = [], [], []
    for region in wanted:
        i = resolve(region.label, votes, seen.labels)
        inside = (predicted == i) if region.where is None else _inside(region.where, seen)
        if not inside.any():
            what = (
                "the class is predicted nowhere"
                if region.where is None
                else "the region holds no cell of what the model sees (a crop may have cut it off)"
            )
            raise TargetError(f"{what}, so there is nothing to score; give another class or region")
        weights = inside / inside.sum()
        found.append(
            ScoredTarget(i, _label(seen, i), float(weights @ given[:, i]), float(weights @ table[:, i]), Kind.REGION)
        )
        columns.append(weights)
        index.append(i)
    return {TARGETS: np.asarray(index, np.int64), REGIONS: np.stack(columns, axis=1).astype(np.float32)}, found


def _inside(
    where: tuple[float, float, float, float] | npt.NDArray[np.generic], seen: HeadOutput
) -> npt.NDArray[np.bool_]:
    """(places,) whether a cell of the class map lies, by its centre, in the region of the picture."""
    if len(seen.size) != 2:
        raise TargetError("a region is given on pictures only; leave it out to score where the class is predicted")
    rows, columns = ((np.arange(n) + 0.5) / n for n in seen.logits.space)
    left, top, right, bottom = seen.placement.box if seen.placement is not None else (0, 0, seen.size[1], seen.size[0])
    y, x = top + rows * (bottom - top), left + columns * (right - left)
    if isinstance(where, tuple):
        return np.outer((y >= where[1]) & (y < where[3]), (x >= where[0]) & (x < where[2])).reshape(-1)
    picture = seen.placement.picture if seen.placement is not None else seen.size
    if where.shape != tuple(picture):
        raise TargetError(
            f"a region's mask has the picture's shape {tuple(picture)} (height, width), not {where.shape}"
        )
    i, j = np.clip(y.astype(int), 0, picture[0] - 1), np.clip(x.astype(int), 0, picture[1] - 1)
    seen_at = np.outer((y >= 0) & (y < picture[0]), (x >= 0) & (x < picture[1]))
    return np.asarray((where[np.ix_(i, j)] != 0) & seen_at).reshape(-1)


def _best_box(label: ClassLike) -> Box:
    """'top2' and None are about boxes, anything else is a class whose best box is meant."""
    if isinstance(label, str) and label.strip().lower().startswith("top"):
        return Box(label)
    return Box("top1", label)


def _boxes(wanted: Sequence[Box], seen: HeadOutput) -> tuple[Arrays, list[ScoredTarget]]:
    rows, columns = seen.logits.shape[1:]
    by_column, first = not seen.logits.boxes_first, seen.logits.first_class
    table = seen.values.reshape(rows, columns)
    table = table.T if by_column else table  # (boxes, numbers)
    # Further columns than there are labels are something else, such as a mask's coefficients.
    last = first + (len(seen.labels) if seen.labels is not None else seen.logits.classes)
    sides = table[:, :4] if first else None
    flat, names = [], []
    for box in wanted:
        # Ranked by what detectors rank by: where there is an objectness, times it.
        scores = table[:, first:last] * (table[:, 4:5] if first == 5 else 1)
        c = resolve(box.label, scores.max(axis=0), seen.labels) if box.label is not None else None
        i = _box_index(box.box, sides, scores.max(axis=1) if c is None else scores[:, c])
        c = int(scores[i].argmax()) if c is None else c
        flat.append((first + c) * columns + i if by_column else i * columns + first + c)
        names.append(f"{_label(seen, c) or f'class {c}'} in box {i}")
    return _literal(flat, names, seen)


def _box_index(wanted: int | str, boxes: Vector | None, scores: Vector) -> int:
    """boxes (B,4) as centre x, y, width, height; None where the table holds scores alone, which are only ranked."""
    if isinstance(wanted, str) and wanted.strip().lower().startswith("top"):
        kept = suppressed(boxes, scores) if boxes is not None else [int(i) for i in np.argsort(-scores, kind="stable")]
        return kept[resolve(wanted, np.arange(len(kept), 0, -1.0), None)]
    try:
        return resolve(wanted, scores, None)
    except TargetError:
        raise TargetError(f"box {wanted!r} is none of the boxes 0 to {len(scores) - 1}, nor 'top1'") from None


def suppressed(boxes: Vector, scores: Vector, most: int = 100) -> list[int]:
    """Indices of the best boxes, best first, without those that overlap a better one (non-maximum suppression)."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    area = np.prod(np.maximum(high - low, 0), axis=1)
    left = [int(i) for i in np.argsort(-scores, kind="stable")]
    kept: list[int] = []
    while left and len(kept) < most:
        best = left.pop(0)
        kept.append(best)
        rest = np.asarray(left, int)
        shared = np.prod(np.maximum(np.minimum(high[rest], high[best]) - np.maximum(low[rest], low[best]), 0), axis=1)
        union = area[rest] + area[best] - shared
        left = [i for i, s, u in zip(left, shared, union, strict=True) if not s > OVERLAP * u]
    return kept
