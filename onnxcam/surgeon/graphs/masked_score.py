"""The scoring graph, where the mask meets the image: low-resolution masks in, one score per mask and target out.

    U = upsample(mask)                          half-pixel linear, one small matrix per side
    M = (U - min U) / (max U - min U)
    x' = x * M        or        x * M + fill * (1 - M)
    logit, probability = score_head(model(x'))

scoring_model() builds it around a copy of the user's model. The second step is left out for masks that are already in
[0,1] (`MaskForm.normalised` is False). Where it is kept, a constant mask has no range: it becomes 1 everywhere and
keeps the image. So a constant mask (one of ones, without the second step) gives the features and logits of the unmasked
image, and one session is enough for a whole explanation. score_heads.py holds the last step.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir

from onnxcam.errors import UnknownLayer
from onnxcam.resampling import LARGEST_MATRIX, bilinear_matrix, is_small, neighbours
from onnxcam.surgeon.analysis.anatomy import Anatomy, ImageInput
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.graphs.score_heads import add_score_head
from onnxcam.surgeon.graphs.tensor_names import FEATURES as FEATURES
from onnxcam.surgeon.graphs.tensor_names import FILL as FILL
from onnxcam.surgeon.graphs.tensor_names import IMAGE as IMAGE
from onnxcam.surgeon.graphs.tensor_names import LOGIT as LOGIT
from onnxcam.surgeon.graphs.tensor_names import LOGITS as LOGITS
from onnxcam.surgeon.graphs.tensor_names import MAPS as MAPS
from onnxcam.surgeon.graphs.tensor_names import PROBABILITY as PROBABILITY
from onnxcam.surgeon.graphs.tensor_names import REFERENCES as REFERENCES
from onnxcam.surgeon.graphs.tensor_names import REGIONS as REGIONS
from onnxcam.surgeon.graphs.tensor_names import TARGETS as TARGETS
from onnxcam.surgeon.ir import Model, Value, edit, find_value, new_input, tidy
from onnxcam.surgeon.passes.quantised import dequantise
from onnxcam.types import FEATURE_MASKS as FEATURE_MASKS
from onnxcam.types import MaskForm

BYTES = {onnx_ir.DataType.UINT8: (0, 255), onnx_ir.DataType.INT8: (-128, 127)}
"""The range of the element types of one byte."""


def scoring_model(
    model: Model,
    anatomy: Anatomy,
    size: tuple[int, ...],
    *,
    with_fill: bool,
    batch: int | None = None,
    extra: Mapping[str, bool] | None = None,
    form: MaskForm = FEATURE_MASKS,
    keep: Collection[str] = (),
) -> Model:
    """The graph that scores N masks of an image for T targets in one run.

    Inputs, float32 unless noted:
        IMAGE       (1,C,*size), or (N,C,*size) with one image per map; in the model's axis order
        MAPS        (N,1,*grid); the grid follows from `form`
        FILL        as IMAGE; only if with_fill
        TARGETS     (T,) int64; REGIONS (places,T); REFERENCES (T,numbers): those that the score head reads
        the model's extra inputs, one sample each
    Outputs, float32:
        LOGIT, PROBABILITY   (N,T)
        LOGITS               (N,numbers): the model's output, flattened
        FEATURES             (N,...): the feature tensor of the masked images, in the model's axis order

    size: of the image's sides. batch: the N that the model is fixed to, None if it takes any. extra: names of the
    model's extra inputs, True where the first axis is the batch; a single sample is repeated for every mask. keep:
    outputs of the model that stay outputs, behind these.
    """
    copy = edit(model)
    kept = [value for value in copy.graph.outputs if value.name in keep]
    b = Builder(copy, "onnxcam")
    network_input = tensor_named(copy, anatomy.image.name)
    head, features = tensor_named(copy, anatomy.logits.tensor), tensor_named(copy, anatomy.features.tensor)
    grid = form.grid(anatomy.features.grid, size)
    # A model whose batch size is fixed gets that many masks per run.
    count: int | str = batch or "masks"
    shape = anatomy.image.shape(size)
    image_dims = ["images" if a == "N" else d for a, d in zip(anatomy.image.layout, shape, strict=True)]
    image = new_input(copy, IMAGE, onnx_ir.DataType.FLOAT, image_dims)
    maps = new_input(copy, MAPS, onnx_ir.DataType.FLOAT, [count, 1, *grid])
    fill = new_input(copy, FILL, onnx_ir.DataType.FLOAT, image_dims) if with_fill else None

    up = upsampled(b, maps, grid, size)
    mask = in_layout(b, _normalised(b, up, len(size)) if form.normalised else up, anatomy.image, size)
    feed_network(copy, b, network_input, blended(b, image, mask, fill), maps, extra or {})

    copy.graph.outputs.clear()
    _set_outputs(copy, b, as_float(b, head), features, anatomy, count)
    copy.graph.outputs.extend(kept)
    return tidy(copy)


def feed_network(
    model: Model, b: Builder, network_input: Value, images: Value, samples: Value, extra: Mapping[str, bool]
) -> None:
    """Makes the network read `images` in place of its own input, and repeats its batched extra inputs.

    samples: a tensor with one entry a sample. extra: as scoring_model() takes it.
    """
    rewire(network_input, as_input_type(b, images, network_input))
    for name, batched in extra.items():
        if batched:
            _repeat_for_samples(b, tensor_named(model, name), samples)


def in_layout(b: Builder, mask: Value, image: ImageInput, size: tuple[int, ...]) -> Value:
    """A mask (N,1,*size) in the axis order of the image, with one entry along the channels."""
    canonical = f"NC{''.join(image.letters)}"
    if image.layout.replace("C", "") != canonical.replace("C", ""):  # width before height
        return b("Transpose", mask, perm=[canonical.index(letter) for letter in image.layout])
    sizes = zip(image.layout, image.shape(size), strict=True)
    return b.reshape(mask, [-1 if a == "N" else 1 if a == "C" else d for a, d in sizes])


def blended(b: Builder, image: Value, mask: Value, fill: Value | None) -> Value:
    """image * mask, plus fill * (1 - mask) if there is a fill. A mask of 1 keeps the pixel."""
    masked = b("Mul", image, mask)
    if fill is not None:
        masked = b("Add", masked, b("Mul", fill, b("Sub", b.constant(1, np.float32), mask)))
    return masked


def tensor_named(model: Model, name: str) -> Value:
    """The tensor of this name. Raises UnknownLayer."""
    value = find_value(model, name)
    if value is None:
        raise UnknownLayer(f"no tensor is called {name!r}")
    return value


def rewire(old: Value, new: Value) -> None:
    """Makes all readers of `old` read `new` instead, except the nodes that compute `new`."""
    producers, stack = set(), [new]
    while stack:
        node = stack.pop().producer()
        if node is not None and id(node) not in producers:
            producers.add(id(node))
            stack.extend(v for v in node.inputs if v is not None)
    for use in [u for u in old.uses() if id(u.node) not in producers]:
        use.node.replace_input_with(use.idx, new)


def _repeat_for_samples(b: Builder, value: Value, samples: Value) -> None:
    """The extra input `value` takes a single sample (1,...), which is repeated for every entry of `samples`."""
    assert value.shape is not None
    declared = list(value.shape)[1:]
    rest = [d for d in declared if isinstance(d, int)]
    value.shape = onnx_ir.Shape([1, *declared])
    count = b("Gather", b("Shape", samples), b.constant([0], np.int64), axis=0)
    if len(rest) == len(declared):
        sides = b.constant(rest, np.int64)
    else:
        places = b.constant(np.arange(1, len(declared) + 1), np.int64)
        sides = b("Gather", b("Shape", value), places, axis=0)
    target = b("Concat", count, sides, axis=0) if declared else count
    rewire(value, b("Expand", value, target))


def upsampled(
    b: Builder, maps: Value, grid: tuple[int, ...], size: tuple[int, ...], largest: int = LARGEST_MATRIX
) -> Value:
    """Maps (N,1,*grid) to (N,1,*size), one side after the other, the last first.

    largest: entries of a matrix that the graph may store for one side.
    """
    up = maps
    for axis in reversed(range(len(grid))):
        source, target = grid[axis], size[axis]
        sides = [*grid[:axis], target, *size[axis + 1 :]]
        if source == target:
            continue
        if not is_small(source, target, largest):
            up = _interpolated(b, up, axis, len(grid), source, target)
        elif axis == len(grid) - 1:
            up = b("MatMul", up, b.constant(bilinear_matrix(source, target).T, np.float32))
        elif axis == len(grid) - 2:
            up = b("MatMul", b.constant(bilinear_matrix(source, target), np.float32), up)
        else:  # the depth of a volume: its slices are flattened to rows
            flat = b.reshape(up, [-1, 1, source, math.prod(size[axis + 1 :])])
            deep = b("MatMul", b.constant(bilinear_matrix(source, target), np.float32), flat)
            up = b.reshape(deep, [-1, 1, *sides])
    return up


def _interpolated(b: Builder, x: Value, side: int, sides: int, source: int, target: int) -> Value:
    """Upsamples one side without a matrix, from its two neighbours; for sides whose matrix would be large."""
    low, high, share = neighbours(source, target)
    share = share.reshape(-1, *[1] * (sides - 1 - side))
    at = 2 + side
    below = b("Mul", b("Gather", x, b.constant(low, np.int64), axis=at), b.constant(1 - share, np.float32))
    above = b("Mul", b("Gather", x, b.constant(high, np.int64), axis=at), b.constant(share, np.float32))
    return b("Add", below, above)


def _normalised(b: Builder, up: Value, sides: int) -> Value:
    """Scales each map to [0,1] by its minimum and maximum. A constant map becomes ones: `flat` is 1 there, else 0."""
    space = list(range(2, 2 + sides))
    low = b.reduce("ReduceMin", up, space)
    extent = b("Sub", b.reduce("ReduceMax", up, space), low)
    varies = b.cast(b("Greater", extent, b.constant(0, np.float32)), onnx_ir.DataType.FLOAT)
    flat = b("Sub", b.constant(1, np.float32), varies)
    return b("Div", b("Add", b("Sub", up, low), flat), b("Add", extent, flat))


def as_input_type(b: Builder, masked: Value, network_input: Value) -> Value:
    """The float32 tensor cast to the element type of the model's input; rounded for integers, and clipped for bytes."""
    dtype = network_input.dtype
    if dtype is None or dtype == onnx_ir.DataType.FLOAT:
        return masked
    if dtype in BYTES:
        low, high = BYTES[dtype]
        inside = b("Min", b("Max", masked, b.constant(low, np.float32)), b.constant(high, np.float32))
        masked = b("Add", inside, b.constant(0.5, np.float32))  # Cast truncates: this rounds
        masked = b("Floor", masked) if low < 0 else masked
    elif dtype.is_integer():
        masked = b("Floor", b("Add", masked, b.constant(0.5, np.float32)))
    return b.cast(masked, dtype)


def as_float(b: Builder, value: Value) -> Value:
    """The tensor, dequantised and cast to float32. The Cast is always added: not every file records element types."""
    return b.cast(dequantise(b, value), onnx_ir.DataType.FLOAT)


def _set_outputs(model: Model, b: Builder, head: Value, features: Value, anatomy: Anatomy, count: int | str) -> None:
    scores = add_score_head(model, b, head, anatomy.logits)
    exposed = b("Cast", dequantise(b, features), to=int(onnx_ir.DataType.FLOAT), name=FEATURES)
    outputs: Sequence[tuple[Value, Sequence[int | str | None]]] = [
        (scores.logit, [count, "targets"]),
        (scores.probability, [count, "targets"]),
        (scores.logits, [count, scores.numbers]),
        (exposed, [count, *anatomy.features.shape[1:]]),
    ]
    for value, shape in outputs:
        publish(model, value, onnx_ir.DataType.FLOAT, shape)
