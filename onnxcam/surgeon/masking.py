"""Masked scoring inside the graph: low-resolution maps go in, one number a map and target comes out.

    U = up(map)                     two small matrices, half-pixel bilinear
    M = (U - min U) / (max U - min U)
    x' = x * M        or            x * M + fill * (1 - M)
    logit, probability = network(x')[targets]

A map that is constant over space has no range to normalise; its mask is all ones, so that it keeps the whole
picture. One run with a map of zeros therefore gives the features and the logits of the picture itself, and one
session serves the whole explanation.
"""

import numpy as np
import onnx_ir as ir

from onnxcam.resampling import bilinear_matrix
from onnxcam.surgeon.anatomy import Anatomy
from onnxcam.surgeon.graph import Builder, Model, Value, edit, find_value, new_input, tidy

IMAGE, MAPS, TARGETS, FILL = "onnxcam/image", "onnxcam/maps", "onnxcam/targets", "onnxcam/fill"
FEATURES, LOGITS = "onnxcam/features", "onnxcam/logits"
LOGIT, PROBABILITY = "onnxcam/logit", "onnxcam/probability"


def scoring_model(
    model: Model, anatomy: Anatomy, size: tuple[int, int], grid: tuple[int, int], *, with_fill: bool
) -> Model:
    """The graph that does a whole Score-CAM.

    Inputs: IMAGE (1,C,H,W) float32 in the model's own axis order; MAPS (N,1,h,w) float32; TARGETS (T,) int64 class
    indices; with_fill adds FILL, of IMAGE's shape. Outputs: LOGIT, PROBABILITY (N,T); LOGITS (N,classes); FEATURES
    (N,...) as the network computes them on the masked picture.
    """
    copy = edit(model)
    b = Builder(copy, "onnxcam")
    network_input = find_value(copy, anatomy.image.name)
    head, features = find_value(copy, anatomy.logits.tensor), find_value(copy, anatomy.features.tensor)
    assert network_input is not None
    assert head is not None
    assert features is not None
    layout = anatomy.image.layout
    sides = {"N": 1, "C": anatomy.image.channels, "H": size[0], "W": size[1]}
    shape = [sides[letter] for letter in layout]
    # A looped model takes one mask a run: the batch stays what it was.
    batch: int | str = anatomy.image.batch or "masks"
    image = new_input(copy, IMAGE, ir.DataType.FLOAT, shape)
    maps = new_input(copy, MAPS, ir.DataType.FLOAT, [batch, 1, *grid])
    targets = new_input(copy, TARGETS, ir.DataType.INT64, ["targets"])
    fill = new_input(copy, FILL, ir.DataType.FLOAT, shape) if with_fill else None

    mask = b.reshape(
        _normalised(b, _upsampled(b, maps, size)),
        [-1 if a == "N" else sides[a] if a != "C" else 1 for a in layout],
    )
    masked = b("Mul", image, mask)
    if fill is not None:
        masked = b("Add", masked, b("Mul", fill, b("Sub", b.constant(1, np.float32), mask)))
    uses = [use for use in network_input.uses() if use.node is not masked.producer()]
    typed = _as_input_type(b, masked, network_input)
    for use in uses:
        use.node.replace_input_with(use.idx, typed)

    copy.graph.outputs.clear()
    _publish(copy, b, _float(b, head), features, targets, anatomy, batch)
    return tidy(copy)


def _upsampled(b: Builder, maps: Value, size: tuple[int, int]) -> Value:
    assert maps.shape is not None
    h, w = (int(d) for d in list(maps.shape)[2:] if isinstance(d, int))
    rows = b.constant(bilinear_matrix(h, size[0]), np.float32)
    columns = b.constant(bilinear_matrix(w, size[1]).T, np.float32)
    return b("MatMul", rows, b("MatMul", maps, columns))


def _normalised(b: Builder, up: Value) -> Value:
    """Min-max to [0,1] over each map; a constant map becomes ones: flat is 1 there, else 0."""
    low = b.reduce("ReduceMin", up, [2, 3])
    extent = b("Sub", b.reduce("ReduceMax", up, [2, 3]), low)
    varies = b.cast(b("Greater", extent, b.constant(0, np.float32)), ir.DataType.FLOAT)
    flat = b("Sub", b.constant(1, np.float32), varies)
    return b("Div", b("Add", b("Sub", up, low), flat), b("Add", extent, flat))


def _as_input_type(b: Builder, masked: Value, network_input: Value) -> Value:
    dtype = network_input.dtype
    if dtype is None or dtype == ir.DataType.FLOAT:
        return masked
    if dtype == ir.DataType.UINT8:
        inside = b("Min", b("Max", masked, b.constant(0, np.float32)), b.constant(255, np.float32))
        masked = b("Add", inside, b.constant(0.5, np.float32))  # Cast truncates: this rounds
    return b.cast(masked, dtype)


def _float(b: Builder, value: Value) -> Value:
    """As float32; a Cast of what is float32 already costs nothing, and not every file tells its types."""
    return b.cast(value, ir.DataType.FLOAT)


def _publish(
    model: Model, b: Builder, head: Value, features: Value, targets: Value, anatomy: Anatomy, batch: int | str
) -> None:
    logits = b("Flatten", head, axis=1, name=LOGITS)
    sigmoid = anatomy.logits.activation == "sigmoid" or anatomy.logits.classes == 1
    everything = b("Sigmoid", logits) if sigmoid else b("Softmax", logits, axis=1)
    classes = anatomy.logits.classes
    outputs: dict[str, tuple[Value, list[int | str | None]]] = {
        LOGIT: (b("Gather", logits, targets, axis=1, name=LOGIT), [batch, "targets"]),
        PROBABILITY: (b("Gather", everything, targets, axis=1, name=PROBABILITY), [batch, "targets"]),
        LOGITS: (logits, [batch, classes]),
        FEATURES: (_renamed(b, features), [batch, *anatomy.features.shape[1:]]),
    }
    for value, shape in outputs.values():
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(shape)
        model.graph.outputs.append(value)


def _renamed(b: Builder, features: Value) -> Value:
    return b("Cast", features, to=int(ir.DataType.FLOAT), name=FEATURES)
