"""Finds which input takes the picture, in which layout, and how large the picture is.

The layout is read from the input's shape. locate.py calls find_image() first; what opens a model calls it too, to know
how to load a picture.
"""

import math
from collections.abc import Sequence

from onnxcam.errors import ModelError, NoSpatialFeatures, PresetError
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.axes import BATCH, CHANNEL, GRIDS
from onnxcam.surgeon.ir import NUMERIC, Model, Shape, shape_of
from onnxcam.types import Note, NoteCode

LARGEST_SIDE = 2**24
"""Size of an input's spatial axis, as of a long recording; only a damaged file has a larger one."""
LARGEST_BATCH = 4096
COLOURS = (1, 3, 4)
"""Usual numbers of channels of an image."""

DEFAULT_SIDE = 224
"""Side of the image for a model that takes any size; signals and volumes have no usual size."""
LARGEST_INPUT = 2**31
"""Places (pixels, samples, voxels) of an input; a larger one has no address in an array."""


def find_image(model: Model, layout: str | None = None) -> ImageInput:
    """The input that takes the image: the first with four axes, else five (a volume), else three (a signal).

    layout overrides the one that is read from the shape. Raises NoSpatialFeatures where no input has such a shape, and
    ModelError for a layout that does not fit.
    """
    ranked = [
        v
        for rank in (4, 5, 3)
        for v in model.graph.inputs
        if v.shape is not None and len(v.shape) == rank and v.dtype in NUMERIC
    ]
    if not ranked:
        shown = ", ".join(f"{v.name} {list(shape_of(v) or ())}" for v in model.graph.inputs) or "none"
        raise NoSpatialFeatures(
            f"the model takes no picture: an input such as NCHW, NHWC, NCW or NCDHW is needed, found {shown}"
        )
    value = ranked[0]
    shape = shape_of(value) or ()
    chosen = (layout if layout is not None else _layout_of(shape)).upper()
    letters = "".join(GRIDS[len(shape)])
    if chosen[:1] != BATCH or sorted(chosen) != sorted(f"NC{letters}") or chosen.replace(CHANNEL, "") != f"N{letters}":
        raise ModelError(f"layout {layout!r} is not NC{letters} or N{letters}C")
    channel = chosen.index(CHANNEL)
    if shape[channel] not in (None, *COLOURS) and shape[1 if channel != 1 else -1] in COLOURS:
        raise ModelError(f"layout {chosen} does not fit the input {value.name!r} of shape {list(shape)}")
    dtype = value.dtype.numpy().name if value.dtype is not None else "float32"
    sides = tuple(d for i, d in enumerate(shape) if i not in (0, channel))
    if any(d is not None and d > LARGEST_SIDE for d in sides) or (shape[0] or 0) > LARGEST_BATCH:
        raise ModelError(
            f"the input {value.name!r} of shape {list(shape)} is larger than any image; the file may be damaged"
        )
    return ImageInput(str(value.name), dtype, chosen, int(shape[channel] or 3), sides, shape[0])


def _layout_of(shape: Shape) -> str:
    """The layout by the shape: the channels are the axis that has 1, 3 or 4 entries, else the shorter one."""
    letters = "".join(GRIDS[len(shape)])
    first, final = f"NC{letters}", f"N{letters}C"
    if shape[1] in COLOURS or shape[-1] in COLOURS:
        return first if shape[1] in COLOURS else final
    if shape[1] is None or shape[-1] is None:
        return final if shape[1] is None and shape[-1] is not None else first
    return first if shape[1] <= shape[-1] else final


def resolve_size(image: ImageInput, size: Sequence[int] | None) -> tuple[int, ...]:
    """The sides of the image, with the dynamic ones filled in from `size`; one number stands for all sides.

    Raises PresetError where a fixed side differs, the number of sides is wrong, a size is needed and missing, or the
    input would have more than LARGEST_INPUT places.
    """
    count = len(image.sides)
    if size is None and count != 2 and None in image.sides:
        raise PresetError(
            f"the model takes any size of {'signal' if count == 1 else 'volume'}; choose one with --size "
            f"{'512' if count == 1 else '16x112x112'}"
        )
    requested = tuple(size or (DEFAULT_SIDE,))
    requested = requested * count if len(requested) == 1 else requested
    shown = "x".join("?" if side is None else str(side) for side in image.sides)
    refused = "x".join(map(str, requested))
    if len(requested) != count:
        raise PresetError(f"the model's input has {count} sides ({shown}), so it cannot take {refused}")
    resolved = tuple(fixed or side for fixed, side in zip(image.sides, requested, strict=True))
    if size is not None and resolved != requested:
        raise PresetError(f"the model's input is {shown}, so it cannot take {refused}; leave the size out")
    if math.prod(resolved) > LARGEST_INPUT:
        raise PresetError(
            f"size {refused} is too large: an input has at most {LARGEST_INPUT} places; give a smaller one"
        )
    return resolved


def size_notes(image: ImageInput, size: Sequence[int] | None) -> tuple[Note, ...]:
    """A note where the size of the image is assumed."""
    if None in image.sides and size is None:
        text = f"the model takes any size; {DEFAULT_SIDE}x{DEFAULT_SIDE} is assumed (--size to change)"
        return (Note(NoteCode.SIZE_ASSUMED, text),)
    return ()
