"""Sequences: outputs with a class vector at every step, as recognisers of text give them, (T,N,C) or (N,T,C).

sequence_of() tells them from tables of boxes by what the graph shows: the batch is their second axis, a softmax over
the classes of a step, a recurrent layer behind them, or steps that are the columns of the picture.
"""

from onnxcam.surgeon.analysis.activations import final_activation, last_operator
from onnxcam.surgeon.analysis.anatomy import Kind, Logits
from onnxcam.surgeon.analysis.factors import BATCH, CHANNEL
from onnxcam.surgeon.analysis.frontier import Geometry
from onnxcam.surgeon.analysis.output_shapes import check_size, dims, is_scorable
from onnxcam.surgeon.ir import Model, Value, ancestors, integer

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def sequence_of(model: Model, output: Value, geometry: Geometry, *, requested: bool = False) -> Logits | None:
    """The output as a sequence of class vectors, or None. requested: the caller says that it is one."""
    shape = dims(output, geometry)
    if not is_scorable(output, geometry):
        return None
    wide = _wide_axes(model, output, geometry)
    if wide is None:
        return None
    batch, first, second = wide
    end = final_activation(output)
    if dims(end.value, geometry) != shape:
        end = final_activation(output, frozenset())
    softmax = _softmax_axis(end.activated, len(shape)) if end.name in ("softmax", "log_softmax") else None
    evidence = requested or batch == 1 or softmax in (first, second)
    evidence = evidence or _spatial_steps(output, geometry, (first, second)) or _is_recurrent(output)
    if not evidence or (_has_sides(model, output, geometry) and not requested):
        return None
    classes = softmax if softmax in (first, second) else _class_axis(output, geometry, (first, second))
    steps = first if classes == second else second
    sizes = tuple(int(d or 0) for d in shape)
    check_size(output, sizes)
    how = f"before the final {end.name}" if end.name != "none" else "the output itself, no activation follows"
    return Logits(
        str(end.value.name), str(output.name), end.name, sizes[classes],
        f"{how}; a sequence of {sizes[steps]} steps with {sizes[classes]} classes each", Kind.SEQUENCE, sizes,
        channel_axis=classes, step_axis=steps, batch_axis=batch,
    )  # fmt: skip


def _wide_axes(model: Model, output: Value, geometry: Geometry) -> tuple[int, int, int] | None:
    """(batch axis, two other axes) of (T,N,C), (N,T,C), (N,C,T), or of (N,C,1,T) whose height is gone."""
    shape = dims(output, geometry)
    if len(shape) == 4 and len(geometry.letters) == 2 and geometry.is_map(output):
        height = geometry.axes_of(output).index(geometry.letters[0])
        rest = [i for i in (1, 2, 3) if i != height]
        return (0, rest[0], rest[1]) if shape[height] == 1 and all((shape[i] or 0) > 1 for i in rest) else None
    if len(shape) != 3:
        return None
    return (1, 0, 2) if _is_time_first(model, output, geometry) else (0, 1, 2)


def _is_time_first(model: Model, output: Value, geometry: Geometry) -> bool:
    """Whether the batch is the second axis: by its name in the file, by what is traced, or by its size alone."""
    shape, axes = dims(output, geometry), geometry.axes_of(output)
    if axes and BATCH in axes:
        return axes.index(BATCH) == 1
    recorded, image = output.shape, next(iter(model.graph.inputs)).shape
    if recorded is not None and image is not None and len(recorded) == 3 and not isinstance(image[0], int):
        symbol = image[0].value
        names = [None if isinstance(d, int) else d.value for d in recorded]
        if symbol is not None and symbol in names:
            return names.index(symbol) == 1
    return geometry.batch is not None and shape[0] != geometry.batch and shape[1] == geometry.batch


def _softmax_axis(activated: Value, rank: int) -> int | None:
    node = activated.producer()
    return integer(node, "axis", -1) % rank if node is not None and node.op_type in ("Softmax", "LogSoftmax") else None


def _class_axis(output: Value, geometry: Geometry, wide: tuple[int, int]) -> int:
    """The axis of the classes: the channels, what is not a side of the picture, else the last."""
    axes = geometry.axes_of(output)
    if axes:
        sides = [i for i in wide if axes[i] in geometry.letters]
        if len(sides) == 1:
            return wide[0] if sides[0] == wide[1] else wide[1]
        if CHANNEL in axes and axes.index(CHANNEL) in wide:
            return axes.index(CHANNEL)
    return wide[1]


def _spatial_steps(output: Value, geometry: Geometry, wide: tuple[int, int]) -> bool:
    """Whether the steps are the columns, or the rows, of a picture."""
    axes = geometry.axes_of(output)
    return len(geometry.letters) == 2 and bool(axes) and sum(axes[i] in geometry.letters for i in wide) == 1


def _is_recurrent(output: Value) -> bool:
    return any((n := v.producer()) is not None and n.op_type in RECURRENT for v in ancestors(output))


def _has_sides(model: Model, output: Value, geometry: Geometry) -> bool:
    """Whether another output holds four sides for each row, as a detector's does; or this one does itself."""
    shape = dims(output, geometry)
    others = [dims(v, geometry) for v in model.graph.outputs if v is not output]
    node = last_operator(output)
    joined = node is not None and node.op_type == "Concat"
    return joined or any(len(o) == 3 and 4 in o[1:] and set(o[1:]) & set(shape[1:]) for o in others)
