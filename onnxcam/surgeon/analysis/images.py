"""Finds which input takes the picture, in which layout, and how large the picture is.

The layout is read from the input's shape, and from the first convolution (entry.py) where the shape is ambiguous: it
tells a picture without batch axis from signals, and frames from volumes. locate.py calls find_image() first; what opens
a model calls it too, to know how to load a picture.
"""

from collections.abc import Sequence

import onnx_ir

from onnxcam.errors import ModelError, NoSpatialFeatures, OptionError, near
from onnxcam.surgeon.analysis.anatomy import Frames, ImageInput
from onnxcam.surgeon.analysis.axes import GRIDS
from onnxcam.surgeon.analysis.entry import Entry, channels_read, find_entry
from onnxcam.surgeon.analysis.factors import BATCH, CHANNEL, SPATIAL
from onnxcam.surgeon.analysis.frames import DEPTH, batch_is_time, frames_of
from onnxcam.surgeon.analysis.sides import DEFAULT_SIDE as DEFAULT_SIDE
from onnxcam.surgeon.analysis.sides import LARGEST_INPUT as LARGEST_INPUT
from onnxcam.surgeon.analysis.sides import resolve_size as resolve_size
from onnxcam.surgeon.analysis.sides import size_notes as size_notes
from onnxcam.surgeon.ir import NUMERIC, Model, Shape, Value, shape_of
from onnxcam.surgeon.metadata import check_not_compiled

LARGEST_SIDE = 2**24
"""Size of an input's spatial axis, as of a long recording; only a damaged file has a larger one."""
LARGEST_BATCH = 4096
LARGEST_CHANNELS = 2**20
"""Of an input's axis of channels, each of which is counted."""
COLOURS = (1, 3, 4)
"""Usual numbers of channels of an image."""

OTHER_TYPES = tuple(onnx_ir.DataType[name] for name in "BFLOAT16 INT8 INT16 UINT16 INT32 INT64".split())
"""Element types that few models take a picture in."""
TIME = "T"
SHORTEST_SIDE, LONGEST_RATIO = 16, 4
"""The shorter side of a grey picture, and how much longer the other one can be, for a picture without channel axis."""


def find_image(model: Model, layout: str | None = None, name: str | None = None) -> ImageInput:
    """The input that takes the image: the first with four axes, else five (a volume), else three (a signal).

    An input of three axes may be one picture without batch axis, too. layout overrides the one that is read from the
    shape and the graph: a letter for each axis of the input, as in NHWC, CHW or NTCHW. name: of the input, if the
    caller chose one. Raises NoSpatialFeatures where no input has such a shape, OptionError for an unknown name, and
    ModelError for a layout that does not fit, and for a compiled file.
    """
    check_not_compiled(model.metadata_props)
    value = _chosen(model, name)
    shape = shape_of(value) or ()
    if value.shape is not None and 0 in tuple(value.shape):
        raise ModelError(f"the input {value.name!r} of shape {value.shape} holds no number; export the model again")
    is_time = layout is None and len(shape) == 4 and batch_is_time(model, value)
    entry = find_entry(model, value) if len(shape) != 4 or is_time or not _is_clear(model, value, shape) else None
    letters = _checked(layout, shape) if layout is not None else _layout_of(entry, shape)
    frames = frames_of(entry, letters)
    if layout is None and entry is not None:
        _check_batch_first(value, entry)
    if is_time and letters[0] == BATCH and frames is None:
        letters, frames = letters.replace(BATCH, DEPTH), Frames.IN_BATCH
    channel = letters.find(CHANNEL)
    if layout is not None and BATCH in letters and _contradicts(channel, shape):
        raise ModelError(f"layout {letters} does not fit the input {value.name!r} of shape {list(shape)}")
    batch = shape[0] if letters[0] == BATCH else 1
    sides = tuple(shape[letters.index(letter)] for letter in SPATIAL if letter in letters)
    channels = 1 if channel < 0 else int(shape[channel] or _channels_read(entry, channel) or 3)
    is_long = any(d is not None and d > LARGEST_SIDE for d in sides)
    if is_long or (batch or 0) > LARGEST_BATCH or channels > LARGEST_CHANNELS:
        raise ModelError(
            f"the input {value.name!r} of shape {list(shape)} is larger than any image; the file may be damaged"
        )
    full = letters if BATCH in letters else BATCH + letters
    full = full if CHANNEL in full else BATCH + CHANNEL + full[1:]
    added = tuple(i for i, letter in enumerate(full) if letter not in letters)
    return ImageInput(str(value.name), _numpy_type(value), full, channels, sides, batch, added, frames)


def picture_inputs(model: Model) -> list[Value]:
    """The inputs that can take a picture, a signal or a volume, the likeliest first."""
    inputs = [v for v in model.graph.inputs if v.shape is not None]
    return [
        v
        for types in (NUMERIC, OTHER_TYPES)
        for rank in (4, 5, 3)
        for v in inputs
        if v.shape is not None and len(v.shape) == rank and v.dtype in types
    ]


def other_pictures(model: Model, image: ImageInput) -> list[str]:
    """Names of further inputs that can take a picture of their own, rather than numbers of the same rank."""
    names = [str(v.name) for v in picture_inputs(model) if v.name != image.name]
    others = [find_image(model, None, name) for name in names]
    return [o.name for o in others if len(o.sides) == len(image.sides) > 1 and min(s or 8 for s in o.sides) >= 8]


def _chosen(model: Model, name: str | None) -> Value:
    candidates = picture_inputs(model)
    if not candidates:
        shown = ", ".join(f"{v.name} {list(shape_of(v) or ())}" for v in model.graph.inputs) or "none"
        raise NoSpatialFeatures(
            f"the model takes no picture: an input such as NCHW, NHWC, NCW or NCDHW is needed, found {shown}"
        )
    by_name = {str(v.name): v for v in candidates}
    if name is not None and name not in by_name:
        raise OptionError(f"no input called {name!r} takes a picture; {near(name, by_name)}")
    return by_name[name] if name is not None else candidates[0]


def _numpy_type(value: Value) -> str:
    """numpy's name of the input's element type; float32 for types that numpy lacks, which are converted."""
    if value.dtype is None or value.dtype == onnx_ir.DataType.BFLOAT16:
        return "float32"
    return value.dtype.numpy().name


def _checked(layout: str, shape: Shape) -> str:
    """The caller's layout in capitals, with D for time. Raises ModelError unless it can be that of the shape."""
    letters = layout.upper().replace(TIME, DEPTH)
    sides = letters.replace(BATCH, "").replace(CHANNEL, "")
    is_possible = (
        len(letters) == len(shape)
        and len(set(letters)) == len(letters)
        and letters.find(BATCH) < 1
        and (len(sides) > 1 or {BATCH, CHANNEL} <= set(letters))
        and "".join(sorted(sides)) in ("W", "HW", "DHW")  # in any order: NWHC is a picture on its side
    )
    if not is_possible:
        usual = "".join(GRIDS[len(shape)])
        raise ModelError(f"layout {layout!r} is not NC{usual} or N{usual}C, nor another order of these letters")
    return letters


def _contradicts(channel: int, shape: Shape) -> bool:
    """Whether another axis than this one has a usual number of channels, and this one has not."""
    return channel > 0 and shape[channel] not in (None, *COLOURS) and shape[1 if channel != 1 else -1] in COLOURS


def _check_batch_first(value: Value, entry: Entry) -> None:
    """Raises ModelError where the graph takes another axis than the first for the batch."""
    clips = len(shape_of(value) or ()) == 5  # whose frames may be the batch
    if not clips and len(entry.batch) == 1 and entry.batch != (0,) and entry.channel is not None:
        shape = [d if d is not None else "?" for d in shape_of(value) or ()]
        raise ModelError(
            f"the batch axis of the input {value.name!r} of shape {shape} is not its first one; export the model with "
            f"(N,C,H,W) or (N,H,W,C)"
        )


def _is_clear(model: Model, value: Value, shape: Shape) -> bool:
    """Whether one axis of a picture's shape has a usual number of channels, and not both that may be the channels.

    The first convolution must not read another number of them: then that axis may be a side.
    """
    if (shape[1] in COLOURS) == (shape[-1] in COLOURS):
        return False
    return channels_read(model, value) in (None, shape[1] if shape[1] in COLOURS else shape[-1])


def _channels_read(entry: Entry | None, channel: int) -> int | None:
    """How many channels a dynamic axis has, if the first convolution reads that axis."""
    return entry.channels if entry is not None and entry.channel == channel else None


def _layout_of(entry: Entry | None, shape: Shape) -> str:
    """A letter for each axis of the input: by the first convolution, else by the shape."""
    letters = _letters_of(entry, shape) if entry is not None else None
    if letters is None and entry is None and len(shape) == 3:
        letters = _without_batch(shape)
    return letters or _layout_of_shape(shape)


def _without_batch(shape: Shape) -> str | None:
    """CHW or HWC where a network without convolutions takes an input of the sizes of one picture in colours."""
    if shape[0] in COLOURS[1:] and None not in shape and _is_picture(shape[1:]):
        return "CHW"
    return "HWC" if shape[2] in COLOURS[1:] and None not in shape and _is_picture(shape[:2]) else None


def _letters_of(entry: Entry, shape: Shape) -> str | None:
    """The layout by what the first convolution reads; None where that does not say."""
    rank, sides = len(shape), entry.sides
    rest = [i for i in range(rank) if i not in (*sides, entry.channel)]
    letters = dict(zip(sides, GRIDS[len(sides) + 2], strict=True))
    if list(sides) != sorted(sides):
        return None
    if entry.channel is not None:
        letters[entry.channel] = CHANNEL
    elif rank == 5 and len(entry.merged) == 2:
        time, colours = entry.merged
        if shape[time] in COLOURS and shape[colours] not in COLOURS:
            time, colours = colours, time
        letters[colours] = CHANNEL  # the frames are the other axis
    elif len(sides) == 3 and rank in (3, 4):
        pass  # a volume of one channel, which the graph adds
    elif rank == 4 and entry.batch in ((0, 1), (1,)):
        letters[1] = DEPTH  # grey frames
    elif rank > 3 or not _is_picture([shape[i] for i in sides]):
        return None
    elif rest and shape[rest[-1]] == 1 and 0 not in entry.batch:
        letters[rest.pop()] = CHANNEL  # one colour, whose axis cannot be told from others of size 1
    rest = [i for i in rest if i not in letters]
    if len(sides) == 2 and len(rest) == 2:
        letters[rest.pop()] = DEPTH  # frames, each of which goes through a convolution of pictures
    if rest not in ([], [0]):
        return None
    return "".join(BATCH if i in rest else letters[i] for i in range(rank))


def _is_picture(sides: Sequence[int | None]) -> bool:
    """Whether sides are those of a picture rather than the channels and the length of a signal."""
    if None in sides:
        return sides.count(None) == len(sides)
    short, long = min(d or 0 for d in sides), max(d or 0 for d in sides)
    return len(sides) == 2 and short >= SHORTEST_SIDE and long <= LONGEST_RATIO * short


def _layout_of_shape(shape: Shape) -> str:
    """The layout by the shape: the channels are the axis that has 1, 3 or 4 entries, else the shorter one."""
    letters = "".join(GRIDS[len(shape)])
    first, final = f"NC{letters}", f"N{letters}C"
    if len(shape) == 5 and shape[2] in COLOURS and shape[1] not in COLOURS and shape[-1] not in COLOURS:
        return "NDCHW"
    if shape[1] in COLOURS or shape[-1] in COLOURS:
        return first if shape[1] in COLOURS else final
    if shape[1] is None or shape[-1] is None:
        return final if shape[1] is None and shape[-1] is not None else first
    return first if shape[1] <= shape[-1] else final
