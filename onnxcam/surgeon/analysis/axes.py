"""Follows the meaning of every axis through the graph: batch, channel, height, width, or tokens that were a grid.

propagate() starts at the image input, whose axes are known, and gives each tensor one letter for each axis. The rest of
the analysis needs this to see where the grid is lost: at a node that reads a full grid and returns none, be it pooling,
flattening or attention.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnxcam.surgeon.ir import Model, Node, Shape, Value, integer, integers, shape_of

BATCH, CHANNEL = "N", "C"
GRIDS = {3: ("W",), 4: ("H", "W"), 5: ("D", "H", "W")}
"""The spatial letters of a tensor with batch and channels, by its rank."""


@dataclass(frozen=True)
class Tokens:
    """An axis that lists a grid's cells row by row, with `before` and `after` extra entries (a class token) around."""

    grid: tuple[int, ...]
    before: int = 0
    after: int = 0


@dataclass(frozen=True)
class Folded:
    """An axis that merges several, as group normalisation does. A reshape back to `sizes` restores `axes`."""

    axes: tuple["Axis", ...]
    sizes: tuple[int, ...]


Axis = str | Tokens | Folded | None
Axes = tuple[Axis, ...]

CHANNEL_FIRST = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "GlobalLpPool QLinearAveragePool QLinearGlobalAveragePool DepthToSpace SpaceToDepth MaxRoiPool LRN".split()
)
SAME_AS_FIRST = frozenset("Slice Pad Resize Upsample Concat Split Tile Expand CumSum TopK".split())


def propagate(model: Model, shapes: Mapping[str, Shape], seeds: Mapping[str, Axes]) -> dict[str, Axes]:
    """Axes of every top-level tensor that can be followed from the inputs in `seeds`, by name."""
    known: dict[str, Axes] = dict(seeds)
    for node in model.graph:
        for position, output in enumerate(node.outputs):
            shape = shapes.get(str(output.name))
            if shape is None or (position and node.op_type not in ("Split", "MaxPool")):
                continue
            axes = _axes_of_output(node, shape, shapes, known)
            if axes is not None and len(axes) == len(shape) and any(a is not None for a in axes):
                known[str(output.name)] = axes
    return known


def has_grid(axes: Axes | None, shape: Shape | None, letters: tuple[str, ...]) -> bool:
    """Whether a tensor is a batch of grids: it has all spatial letters, or tokens, and more than one cell."""
    if axes is None or shape is None or axes[:1] != (BATCH,):
        return False
    if any(isinstance(a, Tokens) for a in axes):
        return True
    sizes = [d for a, d in zip(axes, shape, strict=True) if a in letters]
    return set(letters) <= set(axes) and (None in sizes or any(d != 1 for d in sizes))


def _axes_of_output(node: Node, shape: Shape, shapes: Mapping[str, Shape], known: Mapping[str, Axes]) -> Axes | None:
    first = str(node.inputs[0].name) if node.inputs and node.inputs[0] is not None else ""
    axes, before = known.get(first), shapes.get(first)
    op = node.op_type
    if op in CHANNEL_FIRST:
        return _channel_first(axes, shape)
    if op == "Transpose" and axes is not None:
        order = integers(node, "perm") or list(range(len(axes)))[::-1]
        return tuple(axes[i] for i in order)
    if op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and axes is not None and before is not None:
        return reshaped(axes, before, shape)
    if op.startswith("Reduce") and axes is not None:
        return _reduced(node, axes)
    if op == "Gather" and axes is not None:
        return _gathered(node, axes, shapes, shape)
    if op in SAME_AS_FIRST:
        return _along_an_axis(node, shape, shapes, known)
    if op in ("MatMul", "Gemm", "FusedMatMul", "MatMulInteger", "QLinearMatMul", "FusedGemm"):
        return _multiplied(node, axes, shape, shapes, known)
    return _elementwise(node, shape, shapes, known)


def _channel_first(axes: Axes | None, shape: Shape) -> Axes | None:
    if axes is not None and len(axes) == len(shape):
        # Tokens after pooling or striding are no longer the cells of that grid.
        return (BATCH, CHANNEL, *(a if _is_complete(a, d) else None for a, d in zip(axes[2:], shape[2:], strict=True)))
    # A rank-3 convolution over an unknown tensor may run over channels (ECA), so a grid is assumed from rank 4 on.
    return (BATCH, CHANNEL, *GRIDS[len(shape)]) if len(shape) in (4, 5) else None


def _is_complete(axis: Axis, size: int | None) -> bool:
    """Whether an axis of this size holds all of its tokens; True for an axis without tokens."""
    return not isinstance(axis, Tokens) or size is None or size == math.prod(axis.grid) + axis.before + axis.after


def _reduced(node: Node, axes: Axes) -> Axes | None:
    over = integers(node, "axes", 1)
    rank = len(axes)
    if over is None:
        over = [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    gone = {a % rank for a in over}
    if integer(node, "keepdims", 1):
        return tuple(None if i in gone and isinstance(a, Tokens) else a for i, a in enumerate(axes))
    return tuple(a for i, a in enumerate(axes) if i not in gone)


def _gathered(node: Node, axes: Axes, shapes: Mapping[str, Shape], shape: Shape) -> Axes | None:
    at = integer(node, "axis", 0) % len(axes)
    index = node.inputs[1]
    rank = len(shapes.get(str(index.name), ())) if index is not None else 0
    kept = axes[at] if rank == 1 and not isinstance(axes[at], Tokens) else None
    return (*axes[:at], *([kept] * rank), *axes[at + 1 :]) if len(shape) == len(axes) - 1 + rank else None


def _along_an_axis(node: Node, shape: Shape, shapes: Mapping[str, Shape], known: Mapping[str, Axes]) -> Axes | None:
    """Axes after Slice, Pad, Concat ...: letters stay, and tokens stay while all cells of their grid do."""
    inputs = [str(v.name) for v in node.inputs if v is not None]
    source = next((n for n in inputs if n in known and len(known[n]) == len(shape)), None)
    if source is None:
        return None
    axes = list(known[source])
    for i, axis in enumerate(axes):
        if not isinstance(axis, Tokens) or shapes[source][i] == shape[i]:
            continue
        axes[i] = _token_slice(node, axis, i) if node.op_type == "Slice" else None
        if node.op_type == "Concat" and integer(node, "axis", 0) % len(shape) == i:
            sizes = [_dims(v, shapes, len(shape))[i] for v in node.inputs if v is not None]
            if sizes.count(None) == 1 and shape[i] is not None:
                sizes[sizes.index(None)] = (shape[i] or 0) - sum(d for d in sizes if d is not None)
            if None not in sizes:
                at = inputs.index(source)
                front, back = sum(d or 0 for d in sizes[:at]), sum(d or 0 for d in sizes[at + 1 :])
                axes[i] = Tokens(axis.grid, axis.before + front, axis.after + back)
    return tuple(axes)


def _dims(value: Value, shapes: Mapping[str, Shape], rank: int) -> Shape:
    """The shape of a computed tensor or weight, with None for every size where it is unknown."""
    dims = shapes.get(str(value.name)) or shape_of(value) or ()
    return dims if len(dims) == rank else (None,) * rank


def _token_slice(node: Node, axis: Tokens, i: int) -> Tokens | None:
    starts, over = integers(node, "starts", 1), integers(node, "axes", 3)
    steps = integers(node, "steps", 4) or [1]
    if starts is None or (over or [i]) != [i] or steps != [1] or not 0 <= starts[0] <= axis.before or axis.after:
        return None
    return Tokens(axis.grid, axis.before - starts[0])


def _multiplied(
    node: Node, axes: Axes | None, shape: Shape, shapes: Mapping[str, Shape], known: Mapping[str, Axes]
) -> Axes | None:
    """Axes of a matrix product: all axes of the first operand but the last, e.g. the query tokens of attention.

    The last axis holds channels where it did before (x @ weights) or where the second operand's does; else it has no
    meaning.
    """
    other = node.inputs[3 if node.op_type == "QLinearMatMul" else 1]
    if axes is None or other is None or len(axes) != len(shape):
        return None
    name = str(other.name)
    if len(shapes.get(name, other.shape or ())) == 2:
        return (*axes[:-1], CHANNEL if axes[-1] == CHANNEL else None)
    columns = known.get(name, (None,))[-1]
    return (*axes[:-1], CHANNEL if columns == CHANNEL else None)


def _elementwise(node: Node, shape: Shape, shapes: Mapping[str, Shape], known: Mapping[str, Axes]) -> Axes | None:
    """Axes after broadcasting, aligned from the right: a letter comes from an operand that is not stretched there."""
    axes: list[Axis] = [None] * len(shape)
    for value in node.inputs:
        name = str(value.name) if value is not None else ""
        letters, dims = known.get(name), shapes.get(name)
        if letters is None or dims is None or len(letters) > len(shape):
            continue
        offset = len(shape) - len(letters)
        if all(d in (s, 1, None) or s is None for d, s in zip(dims, shape[offset:], strict=True)):
            for i, letter in enumerate(letters):
                if axes[offset + i] is None and (dims[i] == shape[offset + i] or letter == BATCH):
                    axes[offset + i] = letter
    return tuple(axes)


def reshaped(axes: Axes, before: Shape, after: Shape) -> Axes | None:
    """Axes after a reshape: axes that stay, a grid that is flattened to tokens, tokens that become a grid again.

    Splits both shapes into the smallest groups of axes with equal products; axes of size 1 belong to no group. None
    where sizes are unknown and the rank changes.
    """
    if None in before or None in after:
        return _reshaped_by_position(axes, before, after)
    old = [(a, int(d or 0)) for a, d in zip(axes, before, strict=True)]
    result: list[Axis] = [None] * len(after)
    start = 0
    if old and after and old[0][0] == BATCH and old[0][1] == after[0]:
        result[0], old, start = BATCH, old[1:], 1
    elif after and after[0] == 1 and BATCH not in axes and len(after) > 1:
        # The batch axis of one image, which an earlier node had removed, is back.
        result[0], start = BATCH, 1
    old = [(a, d) for a, d in old if d != 1]
    new = [(j, int(after[j] or 0)) for j in range(start, len(after)) if after[j] != 1]
    while old and new:
        merged, split = [old.pop(0)], [new.pop(0)]
        p, q = merged[0][1], split[0][1]
        while p != q:
            if (p < q and not old) or (q < p and not new):
                return tuple(result)
            if p < q:
                merged.append(old.pop(0))
                p *= merged[-1][1]
            else:
                split.append(new.pop(0))
                q *= split[-1][1]
        _name_group(result, merged, split)
    return _fill_single_cells(axes, before, after, result)


def _name_group(result: list[Axis], merged: list[tuple[Axis, int]], split: list[tuple[int, int]]) -> None:
    """Writes the axes of one group: merged are (axis, size) before the reshape, split are (position, size) after."""
    letters = [a for a, _ in merged]
    sizes = tuple(d for _, d in split)
    # A Folded axis that is not the last of its group has been permuted since, so it cannot be restored.
    folded = letters[-1] if isinstance(letters[-1], Folded) else None
    if folded is not None and folded.sizes == sizes:
        for (j, _), letter in zip(split, folded.axes, strict=True):
            result[j] = letter
    elif len(merged) == len(split) == 1:
        result[split[0][0]] = letters[0]
    elif len(split) == 1 and all(a in ("D", "H", "W") for a in letters):
        result[split[0][0]] = Tokens(tuple(d for _, d in merged))
    elif len(merged) == 1 and isinstance(letters[0], Tokens) and letters[0] == Tokens(sizes):
        for (j, _), letter in zip(split, GRIDS[len(sizes) + 2], strict=True):
            result[j] = letter
    elif any(isinstance(a, str | Tokens) for a in letters) and folded is None:
        # The last axis keeps the Folded; a normalisation may reduce the one before it.
        result[split[-1][0]] = Folded(tuple(letters), tuple(d for _, d in merged))


def _fill_single_cells(axes: Axes, before: Shape, after: Shape, result: list[Axis]) -> Axes:
    """Names axes of size 1 as before, e.g. of a map that is one cell high, if the rank stays."""
    if len(before) == len(after):
        for j, (a, d) in enumerate(zip(axes, before, strict=True)):
            if d == after[j] == 1 and result[j] is None:
                result[j] = a
    return tuple(result)


def _reshaped_by_position(axes: Axes, before: Shape, after: Shape) -> Axes | None:
    """Axes after a reshape with unknown sizes: those whose size stays, and None where the rank changes."""
    if len(before) != len(after):
        return None
    return tuple(a if b == c else None for a, b, c in zip(axes, before, after, strict=True))
