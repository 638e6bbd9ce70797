"""Sizes that a model may need although it declares its sides dynamic: those at which its own constants fit.

An exporter that is told that height and width are dynamic writes so, even where the network has 64 position embeddings,
or a linear layer behind a flattened map. candidate_sizes() reads how many cells such constants are made for, and how
many pixels of a side a cell stands for. network/sizes.py tries the candidates.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.ir import Model, Node, Value, constant, integers, shape_of

USUAL = (
    *(
        32,
        48,
        64,
        80,
        96,
        100,
        112,
        120,
        128,
        144,
        150,
        160,
        176,
        192,
        196,
        200,
        208,
        224,
        227,
        240,
        252,
        256,
        260,
        280,
    ),
    *(
        288,
        299,
        300,
        304,
        320,
        336,
        352,
        378,
        380,
        384,
        392,
        400,
        416,
        448,
        456,
        480,
        504,
        512,
        518,
        528,
        544,
        560,
        576,
    ),
    *(600, 608, 640, 672, 700, 704, 728, 736, 768, 784, 800, 832, 896, 960, 1008, 1024),
)
"""Sides that published networks take."""
COMMON = (256, 224, 384, 128, 512, 320, 192, 640, 299, 448, 64, 96, 32)
"""Those that most of them take."""
LIKELY = 12
"""Derived sizes that are tried before the common ones."""
OBLONG = (
    (256, 128),
    (256, 192),
    (128, 64),
    (384, 128),
    (384, 288),
    (160, 64),
    (32, 100),
    (32, 128),
    (48, 320),
    (32, 320),
)
"""Sizes (H,W) of networks that take no squares: persons, poses, lines of text."""
SMALLEST, LARGEST = 8, 2048
EXTRA_TOKENS = (0, 1, 2, 5)
"""Tokens beside the patches: none, a class token, a second one to distil, four registers."""
MOST_OBLONG = 8
"""Longer side over the shorter one, of a grid whose cells are known only by their number."""


def candidate_sizes(model: Model, image: ImageInput) -> list[tuple[int, ...]]:
    """Sizes (H,W) of the image at which the model may run, the likeliest first; those of a picture only."""
    if len(image.sides) != 2:
        return []
    strides = _strides(model, image.name)
    grids = list(dict.fromkeys(_grids(model)))
    derived = [(h * s, w * s) for (h, w), s in product(grids, strides)]
    squares = sorted({(side, side) for side in USUAL}, key=lambda size: abs(math.log(size[0] / 224)))
    sizes: dict[tuple[int, ...], None] = {}
    common = [(side, side) for side in COMMON]
    for size in (*derived[:LIKELY], *common, *derived[LIKELY:], *squares, *OBLONG):
        fitted = tuple(fixed or side for fixed, side in zip(image.sides, size, strict=True))
        if all(SMALLEST <= side <= LARGEST for side in fitted):
            sizes[fitted] = None
    return list(sizes)


def _strides(model: Model, image: str) -> list[int]:
    """Pixels of a side that a cell stands for at any place of the graph, the largest first, then multiples of it."""
    pixels: dict[int, int] = {id(v): 1 for v in model.graph.inputs if v.name == image}
    for node in model.graph:
        before = [pixels[id(v)] for v in node.inputs if v is not None and id(v) in pixels]
        if before:
            step = integers(node, "strides") if node.op_type.endswith(("Conv", "Pool")) else None
            at = max(before) * (step[0] if step else 1)
            pixels.update((id(v), at) for v in node.outputs)
    seen = sorted(set(pixels.values()) - {1}, reverse=True)
    merged = [factor * stride for stride in seen[:1] for factor in (2, 4, 8)]  # patches that are merged by slices
    return [*seen, *(m for m in merged if m not in seen)] or [1]


def _grids(model: Model) -> Iterator[tuple[int, int]]:
    """Grids (h,w) of cells that the graph's constants are made for."""
    channels = _channels(model)
    for node in model.graph:
        if node.op_type in ("Add", "Mul", "Sub"):
            yield from (grid for v in node.inputs if v is not None for grid in _of_positions(v))
        elif node.op_type == "Gather" and node.inputs[0] is not None:
            shape = shape_of(node.inputs[0]) if constant(node.inputs[0]) is not None else None
            if shape is not None and len(shape) == 2:
                yield from _of_tokens(int(shape[0] or 0))
        elif node.op_type == "Reshape":
            yield from _of_reshape(node)
    for node in model.graph:
        if node.op_type in ("Gemm", "MatMul") and (rows := _rows(node)) is not None:
            yield from (grid for c in channels if rows % c == 0 for grid in _factored(rows // c))


def _of_positions(value: Value) -> Iterator[tuple[int, int]]:
    """Grids of a table that is added to features: (1,cells,C), (cells,C), (1,C,h,w), (C,h,w) or (1,h,w,C)."""
    shape = shape_of(value) if value.const_value is not None else None
    if shape is None or None in shape:
        return
    sides = [int(d or 0) for d in shape]
    rest = sides[1:] if len(sides) > 1 and sides[0] == 1 else sides
    if len(rest) == 3 and min(rest) > 1:
        yield from ((rest[1], rest[2]), (rest[0], rest[1]))
    elif len(rest) == 2 and rest[1] > 1:
        yield from _of_tokens(rest[0])


def _of_reshape(node: Node) -> Iterator[tuple[int, int]]:
    """Grids that a constant shape names: two neighbouring sides, or a number of tokens."""
    target = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    sides = [int(d) for d in target.reshape(-1)] if target is not None else integers(node, "shape") or []
    yield from ((a, b) for a, b in pairwise(sides) if a == b and a > 1)
    if len(sides) == 3 and sides[1] > 1:
        yield from _of_tokens(sides[1])


def _of_tokens(count: int) -> Iterator[tuple[int, int]]:
    """Grids of so many tokens, some of which may be no patches: squares first."""
    for squares in (True, False):
        for extra in EXTRA_TOKENS:
            yield from ((h, w) for h, w in _factored(count - extra) if (h == w) == squares)


def _factored(cells: int) -> list[tuple[int, int]]:
    """All (h,w) with so many cells whose longer side is at most MOST_OBLONG times the shorter; the squarest first."""
    if not 4 <= cells <= 2**16:
        return []
    pairs = [(h, cells // h) for h in range(1, cells + 1) if cells % h == 0]
    near = [p for p in pairs if max(p) <= MOST_OBLONG * min(p)]
    return sorted(near, key=lambda p: (max(p) / min(p), p[1]))


def _rows(node: Node) -> int | None:
    """The length of the vectors that a layer with constant weights takes."""
    weights = node.inputs[1]
    shape = shape_of(weights) if weights is not None and constant(weights) is not None else None
    if shape is None or len(shape) != 2:
        return None
    return shape[1] if node.op_type == "Gemm" and _is_transposed(node) else shape[0]


def _is_transposed(node: Node) -> bool:
    return (integers(node, "transB") or [0]) != [0]


def _channels(model: Model) -> Sequence[int]:
    """Channels that the last convolutions make, the last one first."""
    counts: dict[int, None] = {}
    for node in reversed(list(model.graph)):
        weights = node.inputs[1] if node.op_type == "Conv" and len(node.inputs) > 1 else None
        shape = shape_of(weights) if weights is not None else None
        if shape and shape[0]:
            counts[shape[0]] = None
    return list(counts)[:3]
