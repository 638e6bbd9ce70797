"""Axes after operators that take, move, repeat or join entries: Slice, Gather, Concat, Split, Pad, Resize.

An axis that lists all cells of a letter keeps it while most of them stay in order. One that is rolled or mirrored keeps
it too, with the shift, so that the roll back restores it. Where the order of the cells is not known, an axis has no
meaning any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxcam.surgeon.analysis.factors import SPATIAL, Axes, Axis, Factor, Factored, is_spatial
from onnxcam.surgeon.ir import Node, Shape, Shapes, Value, ancestors, constant, integer, integers, shape_of
from onnxcam.types import Arrays

Known = Mapping[str, Axes]
SMALLEST_CROP = 8
"""A crop of more than the picture's side over this is not the whole picture any more."""


@dataclass(frozen=True)
class Seen:
    """What is known of a model's tensors by name: shapes, and the numbers of those that follow from shapes alone."""

    shapes: Shapes
    values: Arrays = field(default_factory=dict)
    _parts: "dict[Node, list[tuple[int, int | None]]]" = field(default_factory=dict)

    def shape(self, value: Value | None) -> Shape | None:
        """The shape of a computed tensor or weight; None where it is unknown."""
        return None if value is None else self.shapes.get(str(value.name)) or shape_of(value)

    def array(self, value: Value | None) -> npt.NDArray[np.generic] | None:
        """The numbers of a weight, or of a tensor that follows from shapes; None for any other."""
        stored = constant(value)
        return stored if stored is not None or value is None else self.values.get(str(value.name))

    def parts(self, node: Node, axis: int, rank: int) -> list[tuple[int, int | None]]:
        """(start, size) of every output of a Split along the axis; (0, None) from the first unknown size on."""
        if node not in self._parts:  # once for all outputs, of which there may be thousands
            parts, start = list[tuple[int, int | None]](), 0
            for value in node.outputs:
                size = (self.shape(value) or (None,) * rank)[axis]
                known = size is not None and (not parts or parts[-1][1] is not None)
                parts.append((start, size) if known else (0, None))
                start += size or 0
            self._parts[node] = parts
        return self._parts[node]

    def integers(self, node: Node, attribute: str, operand: int) -> list[int] | None:
        """Integers that an operator holds in an attribute or an input; None where absent or not known."""
        stored = integers(node, attribute, operand)
        if stored is not None or operand >= len(node.inputs):
            return stored
        array = self.array(node.inputs[operand])
        return None if array is None else [int(i) for i in array.reshape(-1)]


def resized(axes: Axes, before: Shape, after: Shape) -> Axes:
    """Axes after the sizes have changed: a whole letter stays, a part of one does not."""
    return tuple(_resized(a, p, q) for a, p, q in zip(axes, before, after, strict=True))


def _resized(axis: Axis, before: int | None, after: int | None) -> Axis:
    if before == after or not isinstance(axis, Factored):
        return axis
    if after is None and not axis.before + axis.after:
        return axis
    if len(axis.factors) == 1 and _is_moved(axis) and not axis.factors[0].shift and after is not None:
        f = axis.factors[0]
        return Factored((Factor(f.letter, after, 1, after, 0, f.mirrored),))
    return None


def _is_moved(axis: Axis) -> bool:
    """Whether the axis is all of one letter, rolled or mirrored."""
    if not isinstance(axis, Factored) or len(axis.factors) != 1 or axis.before + axis.after:
        return False
    return axis.factors[0].size == axis.factors[0].extent and axis.factors[0].letter in SPATIAL


def along_axes(node: Node, axes: Axes, before: Shape, after: Shape) -> Axes | None:
    """Axes after Tile, Expand, CumSum or TopK: repeated or sorted cells are no grid."""
    if len(axes) != len(after):
        return None
    ordered = integer(node, "axis", -1) % len(after) if node.op_type == "TopK" else None
    return tuple(
        None if is_spatial(a) and (p != q or i == ordered) else a
        for i, (a, p, q) in enumerate(zip(axes, before, after, strict=True))
    )


def sliced(node: Node, axes: Axes, before: Shape, after: Shape, seen: Seen) -> Axes | None:
    """Axes after Slice."""
    starts, over = seen.integers(node, "starts", 1), seen.integers(node, "axes", 3)
    steps = seen.integers(node, "steps", 4)
    order = over if over is not None else list(range(len(starts or ())))
    result = list(axes)
    for i, axis in enumerate(axes):
        at = [a % len(axes) for a in order].index(i) if i in [a % len(axes) for a in order] else None
        start = starts[at] if starts is not None and at is not None else (0 if at is None else None)
        step = steps[at] if steps is not None and at is not None and at < len(steps) else 1
        result[i] = _taken(axis, before[i], after[i], start, step)
        cropped = step == 1 and isinstance(axis, str) and is_spatial(axis) and result[i] is not None
        if cropped and not _is_border(node, (before[i] or 0) - (after[i] or 0), before[i] or 0, seen):
            result[i] = None
    return tuple(result)


def _is_border(node: Node, removed: int, size: int, seen: Seen) -> bool:
    """Whether so many cells are a border: an eighth of the side at most, or what was padded before."""
    if removed * SMALLEST_CROP <= size:
        return True
    pads = [n for v in ancestors(node.outputs[0]) if (n := v.producer()) is not None and n.op_type == "Pad"]
    for pad in pads:
        amounts = seen.integers(pad, "pads", 1) or []
        rank = len(amounts) // 2
        if any(amounts[i] + amounts[i + rank] >= removed for i in range(rank)):
            return True
    return False


def _taken(axis: Axis, before: int | None, after: int | None, start: int | None, step: int) -> Axis:
    """An axis of which `after` entries were taken from `start` on (None if unknown), every step-th one."""
    if not is_spatial(axis):
        return axis
    if step < 0:
        return _mirrored(axis, after) if before == after and step == -1 else None
    if before == after or before is None or after is None:
        return axis
    if isinstance(axis, Factored):
        first = start + before if start is not None and start < 0 else start
        return _without_extra(axis, first, after) if step == 1 and first is not None else None
    # Half a picture is no picture; every second row is.
    return axis if step > 1 or 2 * after > before else None


def _without_extra(axis: Factored, start: int, size: int) -> Axis:
    """The axis without some of its extra entries; None where cells are gone too, or a part of a letter."""
    cells = axis.size - axis.before - axis.after
    before, after = axis.before - start, size - (axis.before - start) - cells
    if before < 0 or after < 0:
        return None
    return Factored(axis.factors, before, after)


def _mirrored(axis: Axis, size: int | None) -> Axis:
    if isinstance(axis, Factored) and not _is_moved(axis):
        return None
    if size is None:
        return None
    f = axis.factors[0] if isinstance(axis, Factored) else Factor(str(axis), size, 1, size)
    if f.shift:
        return None
    return f.letter if f.mirrored else Factored((Factor(f.letter, size, 1, size, 0, True),))


def gathered(node: Node, axes: Axes, before: Shape, shape: Shape, seen: Seen) -> Axes | None:
    """Axes after Gather: an axis stays where the indices take its entries in a known order."""
    at = integer(node, "axis", 0) % len(axes)
    index = node.inputs[1]
    dims = seen.shape(index)
    rank = len(dims) if dims is not None else len(shape) - len(axes) + 1
    if len(shape) != len(axes) - 1 + rank:
        return None
    kept: tuple[Axis, ...] = (None,) * rank
    if rank == 1:
        kept = (axes[at] if not is_spatial(axes[at]) else _picked(axes[at], before[at], seen.array(index)),)
    elif rank == 2 and axes[at] in SPATIAL:
        kept = _windows(str(axes[at]), seen.array(index))
    return (*axes[:at], *kept, *axes[at + 1 :])


def _windows(letter: str, index: npt.NDArray[np.generic] | None) -> tuple[Axis, Axis]:
    """The two axes of windows that are cut along a letter, as torch.nn.functional.unfold is exported.

    The axis with the longer step lists the windows, which are a coarser grid; the other the places in a window.
    """
    if index is None or min(index.shape) < 2:
        return None, None
    places = index.astype(np.int64)
    steps = [np.unique(np.diff(places, axis=axis)) for axis in (0, 1)]
    if any(len(s) != 1 or s[0] < 1 for s in steps) or steps[0][0] == steps[1][0]:
        return None, None
    return (letter, None) if steps[0][0] > steps[1][0] else (None, letter)


def _picked(axis: Axis, size: int | None, index: npt.NDArray[np.generic] | None) -> Axis:
    """The axis after its entries at these indices were taken."""
    if index is None or size is None or index.size < 2:
        return None
    places = index.astype(np.int64).reshape(-1) % size
    steps = set(np.diff(places).tolist())
    if len(steps) == 1 and (step := steps.pop()) != 0:
        return _taken(axis, size, len(places), int(places[0]), step)
    if len(places) == size and sorted(places) == list(range(size)):
        shift = int(places[0])
        return _rolled(axis, size, shift) if (np.roll(np.arange(size), -shift) == places).all() else None
    nearest = np.floor((np.arange(len(places)) + 0.5) * size / len(places)).astype(np.int64)
    return axis if isinstance(axis, str) and np.abs(nearest - places).max() <= 1 else None


def _rolled(axis: Axis, size: int, shift: int) -> Axis:
    """The axis after entry `shift` became the first."""
    if isinstance(axis, Factored) and not _is_moved(axis):
        return None
    f = axis.factors[0] if isinstance(axis, Factored) else Factor(str(axis), size, 1, size)
    if f.mirrored:
        return None
    shift = (f.shift + shift) % size
    return Factored((Factor(f.letter, size, 1, size, shift),)) if shift else f.letter


def split(node: Node, position: int, axes: Axes, before: Shape, seen: Seen) -> Axes | None:
    """Axes of one output of Split."""
    at = integer(node, "axis", 0) % len(axes)
    start, size = seen.parts(node, at, len(axes))[position]
    if size is None:
        return tuple(None if i == at and is_spatial(a) else a for i, a in enumerate(axes))
    return tuple(_taken(a, before[i], size, start, 1) if i == at else a for i, a in enumerate(axes))


def concatenated(node: Node, shape: Shape, known: Known, seen: Seen) -> Axes | None:
    """Axes after Concat: tokens stay among extra entries, and a rolled letter keeps its shift."""
    inputs = [v for v in node.inputs if v is not None]
    at = integer(node, "axis", 0) % len(shape)
    operands = [known.get(str(v.name), ()) for v in inputs]
    operands = [axes if len(axes) == len(shape) else (None,) * len(shape) for axes in operands]
    if not any(a is not None for axes in operands for a in axes):
        return None
    result = [next((axes[i] for axes in operands if axes[i] is not None), None) for i in range(len(shape))]
    result[at] = _joined(inputs, [axes[at] for axes in operands], at, shape, known, seen)
    return tuple(result)


def _joined(inputs: Sequence[Value], pieces: Sequence[Axis], at: int, shape: Shape, known: Known, seen: Seen) -> Axis:
    """The axis along which the inputs are joined."""
    rolled = _roll(inputs, at, shape, known, seen)
    if rolled is not None:
        return rolled
    spatial = [i for i, a in enumerate(pieces) if is_spatial(a)]
    if not spatial:
        return next((a for a in pieces if a is not None), None)
    first = spatial[0]
    axis = pieces[first]
    if not isinstance(axis, Factored):
        # Two maps side by side are not the picture's; a border of constants is.
        return axis if len(spatial) == 1 else None
    sizes = [_size(v, at, len(shape), seen) for v in inputs]
    if sizes.count(None) == 1 and shape[at] is not None:
        sizes[sizes.index(None)] = (shape[at] or 0) - sum(d for d in sizes if d is not None)
    if None in sizes or _is_moved(axis):
        return None
    front, back = sum(d or 0 for d in sizes[:first]), sum(d or 0 for d in sizes[first + 1 :])
    return Factored(axis.factors, axis.before + front, axis.after + back)


def _size(value: Value, at: int, rank: int, seen: Seen) -> int | None:
    """The size of a computed tensor or weight along an axis."""
    dims = seen.shape(value) or ()
    return dims[at] if len(dims) == rank else None


def _roll(inputs: Sequence[Value], at: int, shape: Shape, known: Known, seen: Seen) -> Axis:
    """The axis where the two inputs are the rear and the front of one tensor, as torch.roll is exported; else None."""
    nodes = [n for v in inputs if (n := v.producer()) is not None and n.op_type == "Slice"]
    if len(nodes) != 2 or len(inputs) != 2:
        return None
    source = nodes[0].inputs[0]
    if source is None or nodes[1].inputs[0] is not source:
        return None
    axes, before = known.get(str(source.name)), seen.shape(source)
    if axes is None or before is None or before[at] is None or before != shape:
        return None
    for node in nodes:
        over, steps = seen.integers(node, "axes", 3), seen.integers(node, "steps", 4)
        if over is None or [a % len(shape) for a in over] != [at] or steps not in (None, [1]):
            return None
    size, front = int(before[at] or 0), _size(inputs[1], at, len(shape), seen)
    start = seen.integers(nodes[1], "starts", 1)
    if front is None or not is_spatial(axes[at]) or start not in (None, [0], [-size]):
        return None
    return _rolled(axes[at], size, front)
