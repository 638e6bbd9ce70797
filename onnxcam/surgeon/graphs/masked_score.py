"""Masked scoring inside the graph: low-resolution maps go in, one number a map and target comes out.

    U = up(map)                     a small matrix a side, half-pixel linear
    M = (U - min U) / (max U - min U)
    x' = x * M        or            x * M + fill * (1 - M)
    logit, probability = fragment(network(x'))

Masks that a method makes itself come without the second step (arrays.MaskForm). A map that is constant over space has
no range to normalise; its mask is all ones, so that it keeps the whole picture. One run with a map of zeros therefore
gives the features and the logits of the picture itself, and one session serves the whole explanation.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from onnxcam.errors import UnknownLayer
from onnxcam.resampling import bilinear_matrix, is_small, neighbours
from onnxcam.surgeon.analysis.anatomy import Anatomy
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.score_heads import LOGIT, LOGITS, PROBABILITY, REFERENCES, REGIONS, TARGETS, scored
from onnxcam.surgeon.ir import Model, Value, edit, find_value, new_input, tidy
from onnxcam.surgeon.passes.quantised import dequantised
from onnxcam.types import MaskForm

OF_FEATURES = MaskForm()
IMAGE, MAPS, FILL, FEATURES = "onnxcam/image", "onnxcam/maps", "onnxcam/fill", "onnxcam/features"

__all__ = ["FEATURES", "FILL", "IMAGE", "LOGIT", "LOGITS", "MAPS", "PROBABILITY", "REFERENCES", "REGIONS", "TARGETS"]


def scoring_model(
    model: Model,
    anatomy: Anatomy,
    size: tuple[int, ...],
    *,
    with_fill: bool,
    batch: int | None = None,
    extra: Mapping[str, bool] | None = None,
    form: MaskForm = OF_FEATURES,
) -> Model:
    """The graph that does a whole Score-CAM.

    Inputs: IMAGE (1,C,*size) float32 in the model's own axis order, or (N,C,*size) with a picture for each map; MAPS
    (N,1,*grid) float32; TARGETS, REGIONS, REFERENCES as the fragment needs them; with_fill adds FILL, of IMAGE's shape.
    Outputs: LOGIT, PROBABILITY (N,T); LOGITS (N,numbers); FEATURES (N,...) as the network computes them on the masked
    picture. batch: the number of masks that the network is fixed to, None where it takes any. further: the model's
    other inputs, each with whether its first axis is the batch; these take one picture's value. form: of the masks,
    which decides their grid.
    """
    copy = edit(model)
    b = Builder(copy, "onnxcam")
    network_input = value_of(copy, anatomy.image.name)
    head, features = value_of(copy, anatomy.logits.tensor), value_of(copy, anatomy.features.tensor)
    grid = form.grid(anatomy.features.grid, size)
    # A looped model takes one mask a run: the batch stays what it was.
    count: int | str = batch or "masks"
    shape = anatomy.image.shape(size)
    pictures = ["pictures" if a == "N" else d for a, d in zip(anatomy.image.layout, shape, strict=True)]
    image = new_input(copy, IMAGE, onnx_ir.DataType.FLOAT, pictures)
    maps = new_input(copy, MAPS, onnx_ir.DataType.FLOAT, [count, 1, *grid])
    fill = new_input(copy, FILL, onnx_ir.DataType.FLOAT, pictures) if with_fill else None

    mask_shape = [-1 if a == "N" else 1 if a == "C" else d for a, d in zip(anatomy.image.layout, shape, strict=True)]
    up = upsampled(b, maps, grid, size)
    mask = b.reshape(_normalised(b, up, len(size)) if form.normalised else up, mask_shape)
    masked = b("Mul", image, mask)
    if fill is not None:
        masked = b("Add", masked, b("Mul", fill, b("Sub", b.constant(1, np.float32), mask)))
    rewire(network_input, as_input_type(b, masked, network_input))
    for name, batched in (extra or {}).items():
        if batched:
            _spread(b, value_of(copy, name), maps)

    copy.graph.outputs.clear()
    _publish(copy, b, real(b, head), features, anatomy, count)
    return tidy(copy)


def value_of(model: Model, name: str) -> Value:
    found = find_value(model, name)
    if found is None:
        raise UnknownLayer(f"no tensor is called {name!r}")
    return found


def rewire(old: Value, new: Value) -> None:
    """All that read `old` read `new` instead, what makes `new` itself left out."""
    own, stack = set(), [new]
    while stack:
        node = stack.pop().producer()
        if node is not None and id(node) not in own:
            own.add(id(node))
            stack.extend(v for v in node.inputs if v is not None)
    for use in [u for u in old.uses() if id(u.node) not in own]:
        use.node.replace_input_with(use.idx, new)


def _spread(b: Builder, value: Value, maps: Value) -> None:
    """One picture's value for every mask."""
    assert value.shape is not None
    rest = [int(d) if isinstance(d, int) else 1 for d in list(value.shape)[1:]]
    value.shape = onnx_ir.Shape([1, *rest])
    masks = b("Gather", b("Shape", maps), b.constant([0], np.int64), axis=0)
    target = b("Concat", masks, b.constant(rest, np.int64), axis=0) if rest else masks
    rewire(value, b("Expand", value, target))


def upsampled(b: Builder, maps: Value, grid: tuple[int, ...], size: tuple[int, ...]) -> Value:
    """(N,1,*grid) to (N,1,*size), one side after the other from the last."""
    up = maps
    for axis in reversed(range(len(grid))):
        source, target = grid[axis], size[axis]
        sides = [*grid[:axis], target, *size[axis + 1 :]]
        if source == target:
            continue
        if not is_small(source, target):
            up = _interpolated(b, up, axis, len(grid), source, target)
        elif axis == len(grid) - 1:
            up = b("MatMul", up, b.constant(bilinear_matrix(source, target).T, np.float32))
        elif axis == len(grid) - 2:
            up = b("MatMul", b.constant(bilinear_matrix(source, target), np.float32), up)
        else:  # the depth: rows of flattened pictures
            flat = b.reshape(up, [-1, 1, source, math.prod(size[axis + 1 :])])
            deep = b("MatMul", b.constant(bilinear_matrix(source, target), np.float32), flat)
            up = b.reshape(deep, [-1, 1, *sides])
    return up


def _interpolated(b: Builder, x: Value, side: int, sides: int, source: int, target: int) -> Value:
    """The same for one side without a matrix."""
    low, high, share = neighbours(source, target)
    share = share.reshape(-1, *[1] * (sides - 1 - side))
    at = 2 + side
    below = b("Mul", b("Gather", x, b.constant(low, np.int64), axis=at), b.constant(1 - share, np.float32))
    above = b("Mul", b("Gather", x, b.constant(high, np.int64), axis=at), b.constant(share, np.float32))
    return b("Add", below, above)


def _normalised(b: Builder, up: Value, sides: int) -> Value:
    """Min-max to [0,1] over each map; a constant map becomes ones: flat is 1 there, else 0."""
    space = list(range(2, 2 + sides))
    low = b.reduce("ReduceMin", up, space)
    extent = b("Sub", b.reduce("ReduceMax", up, space), low)
    varies = b.cast(b("Greater", extent, b.constant(0, np.float32)), onnx_ir.DataType.FLOAT)
    flat = b("Sub", b.constant(1, np.float32), varies)
    return b("Div", b("Add", b("Sub", up, low), flat), b("Add", extent, flat))


def as_input_type(b: Builder, masked: Value, network_input: Value) -> Value:
    dtype = network_input.dtype
    if dtype is None or dtype == onnx_ir.DataType.FLOAT:
        return masked
    if dtype == onnx_ir.DataType.UINT8:
        inside = b("Min", b("Max", masked, b.constant(0, np.float32)), b.constant(255, np.float32))
        masked = b("Add", inside, b.constant(0.5, np.float32))  # Cast truncates: this rounds
    return b.cast(masked, dtype)


def real(b: Builder, value: Value) -> Value:
    """As float32; a Cast of what is float32 already costs nothing, and not every file tells its types."""
    return b.cast(dequantised(b, value), onnx_ir.DataType.FLOAT)


def _publish(model: Model, b: Builder, head: Value, features: Value, anatomy: Anatomy, count: int | str) -> None:
    found = scored(model, b, head, anatomy.logits)
    exposed = b("Cast", dequantised(b, features), to=int(onnx_ir.DataType.FLOAT), name=FEATURES)
    outputs: Sequence[tuple[Value, Sequence[int | str | None]]] = [
        (found.logit, [count, "targets"]),
        (found.probability, [count, "targets"]),
        (found.logits, [count, found.numbers]),
        (exposed, [count, *anatomy.features.shape[1:]]),
    ]
    for value, shape in outputs:
        publish(model, value, onnx_ir.DataType.FLOAT, shape)
