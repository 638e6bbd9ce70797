"""Follows the meaning of every axis through the graph: batch, channel, height, width, or factors of these.

propagate() starts at the image input, whose axes are known, and gives each tensor the meaning of each axis. The rest of
the analysis needs this to see where the grid is lost: at a node that reads a full grid and returns none, be it pooling,
flattening or attention. factors.py holds what an axis can be, moved_cells.py the operators that take or move cells.
"""

from collections.abc import Callable, Mapping, Sequence

from onnxcam.surgeon.analysis.factors import (
    BATCH,
    CHANNEL,
    SPATIAL,
    Axes,
    Axis,
    Factored,
    factors_of,
    holds,
    is_complete,
    is_spatial,
    named,
    reshaped,
)
from onnxcam.surgeon.analysis.moved_cells import (
    Seen,
    along_axes,
    concatenated,
    gathered,
    resized,
    sliced,
    split,
)
from onnxcam.surgeon.ir import Model, Node, Shape, Shapes, Value, integer, integers
from onnxcam.types import Arrays

GRIDS = {3: ("W",), 4: ("H", "W"), 5: ("D", "H", "W")}
"""The spatial letters of a tensor with batch and channels, by its rank."""

CHANNEL_FIRST = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv FusedConv MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "GlobalLpPool QLinearAveragePool QLinearGlobalAveragePool DepthToSpace SpaceToDepth MaxRoiPool LRN "
    "DeformConv".split()
)
PRODUCTS = frozenset("MatMul Gemm FusedMatMul MatMulInteger QLinearMatMul FusedGemm".split())
RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
SCATTERED = frozenset("GatherElements GatherND NonZero Unique Compress Col2Im".split())
"""Operators whose result has its entries in an order of its own."""


def propagate(model: Model, shapes: Shapes, seeds: Mapping[str, Axes], values: Arrays | None = None) -> dict[str, Axes]:
    """Axes of every top-level tensor that can be followed from the inputs in `seeds`, by name.

    values: the numbers of the tensors that follow from shapes, such as the start of a slice (tracing.py).
    """
    known, seen = dict(seeds), Seen(shapes, values or {})
    for node in model.graph:
        for position, output in enumerate(node.outputs):
            shape = shapes.get(str(output.name))
            if shape is None or (position and node.op_type not in ("Split", "MaxPool")):
                continue
            axes = _axes_of_output(node, position, shape, known, seen)
            if axes is not None and len(axes) == len(shape) and any(a is not None for a in axes):
                known[str(output.name)] = axes
    return known


def has_grid(axes: Axes | None, shape: Shape | None, letters: tuple[str, ...]) -> bool:
    """Whether a tensor is a batch of grids: it has all cells along all spatial letters, and more than one cell."""
    if axes is None or shape is None or axes[:1] != (BATCH,) or not all(is_complete(axes, n) for n in letters):
        return False
    sizes = [d for a, d in zip(axes, shape, strict=True) if is_spatial(a)]
    return None in sizes or any(d != 1 for d in sizes)


def _axes_of_output(node: Node, position: int, shape: Shape, known: Mapping[str, Axes], seen: Seen) -> Axes | None:
    first = str(node.inputs[0].name) if node.inputs and node.inputs[0] is not None else ""
    axes, before = known.get(first), seen.shapes.get(first)
    op = node.op_type
    if op in CHANNEL_FIRST:
        return _channel_first(axes, before, shape)
    if op == "Concat":
        return concatenated(node, shape, known, seen)
    if op in PRODUCTS:
        return _multiplied(node, axes, shape, known, seen)
    if op == "Einsum":
        return _summed(node, shape, known)
    if axes is None or before is None or len(axes) != len(before):
        return None if op in (*RESHAPES, *SCATTERED, "Transpose") else _elementwise(node, shape, seen.shapes, known)
    if op in RESHAPES:
        return reshaped(axes, before, shape, keep_single=op != "Squeeze")
    if op.startswith("Reduce"):
        return _reduced(node, axes, before, seen)
    rules: dict[str, Callable[[], Axes | None]] = {
        "Transpose": lambda: tuple(axes[i] for i in integers(node, "perm") or list(range(len(axes)))[::-1]),
        "Gather": lambda: gathered(node, axes, before, shape, seen),
        "Slice": lambda: sliced(node, axes, before, shape, seen),
        "Split": lambda: split(node, position, axes, before, seen),
        **dict.fromkeys(("Pad", "Resize", "Upsample"), lambda: resized(axes, before, shape)),
        **dict.fromkeys(("Tile", "Expand", "CumSum", "TopK"), lambda: along_axes(node, axes, before, shape)),
        **dict.fromkeys(SCATTERED, lambda: None),
    }
    return rules[op]() if op in rules else _elementwise(node, shape, seen.shapes, known)


def _channel_first(axes: Axes | None, before: Shape | None, shape: Shape) -> Axes | None:
    if axes is not None and before is not None and len(axes) == len(shape):
        # All channels are mixed, and with them the cells that lie among them; windows may lie along the batch.
        lead = axes[0] if holds(axes[0], BATCH) else BATCH
        mixed: Axes = (lead, CHANNEL, *(a if is_spatial(a) else None for a in axes[2:]))
        kept = _named(mixed, before)
        return (kept[0], CHANNEL, *resized(kept, before, shape)[2:])
    # A rank-3 convolution over an unknown tensor may run over channels (ECA), so a grid is assumed from rank 4 on.
    return (BATCH, CHANNEL, *GRIDS[len(shape)]) if len(shape) in (4, 5) else None


def _named(axes: Axes, shape: Shape) -> Axes:
    """The axes with a letter that lost its fast factors as a whole one; as they are where sizes are unknown."""
    if None in shape:
        return axes
    sizes = [int(d or 0) for d in shape]
    return named([a if isinstance(a, Factored) else factors_of(a, d) for a, d in zip(axes, sizes, strict=True)])


def _reduced(node: Node, axes: Axes, before: Shape, seen: Seen) -> Axes | None:
    over = seen.integers(node, "axes", 1)
    rank = len(axes)
    if over is None:
        over = [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    gone = {a % rank for a in over}
    if integer(node, "keepdims", 1):
        sizes = tuple(1 if i in gone else d for i, d in enumerate(before))
        return _named(tuple(None if i in gone and isinstance(a, Factored) else a for i, a in enumerate(axes)), sizes)
    rest = [i for i in range(rank) if i not in gone]
    return _named(tuple(axes[i] for i in rest), tuple(before[i] for i in rest))


def _multiplied(node: Node, axes: Axes | None, shape: Shape, known: Mapping[str, Axes], seen: Seen) -> Axes | None:
    """Axes of a matrix product: all axes of the first operand but the last, e.g. the query tokens of attention.

    The last axis holds channels where it did before (x @ weights) or where the second operand's does; else it has no
    meaning.
    """
    other = node.inputs[3 if node.op_type == "QLinearMatMul" else 1]
    second = known.get(str(other.name)) if other is not None else None
    if axes is not None and len(axes) == len(shape) and other is not None and len(seen.shape(other) or ()) == 2:
        return _named((*axes[:-1], CHANNEL if holds(axes[-1], CHANNEL) else None), shape)
    rank = len(shape)
    rows, columns = (a if a is not None and len(a) == rank else (None,) * rank for a in (axes, second))
    if rank < 2 or (rows == columns == (None,) * rank):
        return None
    # Weights before the picture's channels make channels, too.
    row = CHANNEL if axes is None and holds(columns[-2], CHANNEL) else rows[-2]
    batch = [a if a is not None else b for a, b in zip(rows[:-2], columns[:-2], strict=True)]
    return without_repeats(_named((*batch, row, columns[-1]), shape))


def _summed(node: Node, shape: Shape, known: Mapping[str, Axes]) -> Axes | None:
    """Axes of an Einsum: each letter of the result means what it does in the first operand that it comes from."""
    stored = node.attributes.get("equation")
    equation = stored.as_string().replace(" ", "") if stored is not None else ""
    if "->" not in equation or "." in equation:
        return None
    terms, result = equation.split("->")
    meaning: dict[str, Axis] = {}
    for term, value in zip(terms.split(","), node.inputs, strict=False):
        axes = known.get(str(value.name)) if value is not None else None
        for letter, axis in zip(term, axes or (), strict=False):
            if meaning.get(letter) is None:
                meaning[letter] = axis
    return without_repeats(_named(tuple(meaning.get(letter) for letter in result), shape))


def without_repeats(axes: Axes) -> Axes:
    """The axes without a meaning that an earlier axis has too, as the keys have in a table of attention."""
    seen: set[str] = set()
    result: list[Axis] = []
    for axis in axes:
        letters = {n for n in (CHANNEL, *SPATIAL) if holds(axis, n)}
        # Height and width of windows lie on several axes of one operand, so only whole axes repeat.
        repeats = letters and axis in result
        result.append(None if repeats or (axis in seen) else axis)
        seen |= {str(axis)} if isinstance(axis, str) else set()
    return tuple(result)


def _elementwise(node: Node, shape: Shape, shapes: Shapes, known: Mapping[str, Axes]) -> Axes | None:
    """Axes after broadcasting, aligned from the right: a letter comes from an operand that is not stretched there."""
    axes: list[Axis] = [None] * len(shape)
    for value in _operands(node, known):
        name = str(value.name)
        letters, dims = known[name], shapes.get(name)
        if dims is None or len(letters) > len(shape):
            continue
        offset = len(shape) - len(letters)
        if all(d in (s, 1, None) or s is None for d, s in zip(dims, shape[offset:], strict=True)):
            for i, letter in enumerate(letters):
                if axes[offset + i] is None and (dims[i] == shape[offset + i] or letter == BATCH):
                    axes[offset + i] = letter
    return tuple(axes)


def _operands(node: Node, known: Mapping[str, Axes]) -> Sequence[Value]:
    """The inputs whose axes are known; those with more of the grid come first, else as they stand."""
    inputs = [v for v in node.inputs if v is not None and str(v.name) in known]
    return sorted(inputs, key=lambda v: -sum(is_complete(known[str(v.name)], n) for n in SPATIAL))
