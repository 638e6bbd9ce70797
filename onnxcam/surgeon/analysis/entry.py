"""Traces the axes of an input to the first convolution, which says what each of them is: colours, sides, batch or time.

The shape of an input often leaves this open: (3,64,64) may be a batch of signals or one picture, (8,3,64,64) eight
pictures or eight frames of one. images.py asks where the shape is ambiguous. Only the nodes up to the first convolution
are looked at.
"""

from dataclasses import dataclass

from onnxcam.errors import ModelError
from onnxcam.surgeon.analysis.axes import propagate
from onnxcam.surgeon.analysis.factors import BATCH, Axes, Axis, Factored
from onnxcam.surgeon.ir import Model, Node, Shape, Value, edit, find_value, integers, shape_of, tidy
from onnxcam.surgeon.shape_inference import infer_shapes

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv", "FusedConv"})
TRIAL_SIDES = (48, 80, 112, 144, 176)
"""Sizes by which dynamic axes are told apart, by the position of the axis."""


@dataclass(frozen=True)
class Entry:
    """What the first convolution reads, in terms of the axes 0, 1, 2 ... of the input.

    batch: the axes that are folded into the convolution's first one, () if the graph adds that axis itself. channel:
    the axis that holds the channels, None if it cannot be followed or is none of the input's. sides: the axes of the
    convolution's sides, in its order. shape: of what the convolution reads.
    merged: the axes that the convolution's channels are folded from, if they are several. channels: how many it reads,
    None if its weights are not known.
    """

    batch: tuple[int, ...]
    channel: int | None
    sides: tuple[int, ...]
    shape: Shape
    merged: tuple[int, ...] = ()
    channels: int | None = None


def find_entry(model: Model, value: Value) -> Entry | None:
    """How the input enters the first convolution; None where there is none, or its axes cannot be followed to it."""
    node = _first_convolution(model, value)
    if node is None or node.inputs[0] is None:
        return None
    name, shape = str(value.name), shape_of(value) or ()
    trial = [d if d is not None else TRIAL_SIDES[i % len(TRIAL_SIDES)] for i, d in enumerate(shape)]
    before = _until(model, str(node.inputs[0].name))
    try:
        shapes = infer_shapes(before, {name: trial})
    except ModelError:
        return None
    axes = propagate(before, shapes, {name: tuple(str(i) for i in range(len(shape)))})
    read = str(node.inputs[0].name)
    return _entry(axes[read], shapes[read], _channels(node)) if read in axes and read in shapes else None


def channels_read(model: Model, value: Value) -> int | None:
    """How many channels the first convolution behind an input reads; None where that is not known."""
    node = _first_convolution(model, value)
    return _channels(node) if node is not None else None


def _channels(node: Node) -> int | None:
    place = 3 if node.op_type == "QLinearConv" else 1
    weights = node.inputs[place] if len(node.inputs) > place else None
    shape = shape_of(weights) if weights is not None else None
    if not shape or len(shape) < 2 or shape[1] is None:
        return None
    return shape[1] * (integers(node, "group") or [1])[0]


def _entry(axes: Axes, shape: Shape, channels: int | None) -> Entry | None:
    batch = () if axes[0] == BATCH else _numbers(axes[0])
    sides = [_number(axis) for axis in axes[2:]]
    known = [side for side in sides if side is not None]
    if batch is None or len(known) != len(sides):
        return None
    channel = _number(axes[1])
    merged = _numbers(axes[1]) if channel is None and axes[1] is not None else None
    return Entry(batch, channel, tuple(known), shape, merged or (), channels)


def _number(axis: Axis) -> int | None:
    return int(axis) if isinstance(axis, str) and axis.isdigit() else None


def _numbers(axis: Axis) -> tuple[int, ...] | None:
    """The input's axes that this one is, or is folded from."""
    parts = [_number(a) for a in ([f.letter for f in axis.factors] if isinstance(axis, Factored) else [axis])]
    known = tuple(part for part in parts if part is not None)
    return known if len(known) == len(parts) else None


def _first_convolution(model: Model, value: Value) -> Node | None:
    """The first convolution, in the order of the graph, whose picture depends on the value."""
    reached = {id(value)}
    for node in model.graph:
        if any(v is not None and id(v) in reached for v in node.inputs):
            if node.op_type in CONVOLUTIONS and id(node.inputs[0]) in reached:
                return node
            reached.update(id(v) for v in node.outputs)
    return None


def _until(model: Model, name: str) -> Model:
    """The part of the graph that computes this tensor."""
    copy = edit(model)
    end = find_value(copy, name)
    assert end is not None
    copy.graph.outputs.clear()
    copy.graph.outputs.append(end)
    return tidy(copy)
