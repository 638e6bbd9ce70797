"""The sides of the image: what a fixed input takes, and what stands for dynamic sides."""

import math
from collections.abc import Sequence

from onnxcam.errors import PresetError
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Note, NoteCode

DEFAULT_SIDE = 224
"""Side of the image for a model that takes any size; signals and volumes have no usual size."""
LARGEST_INPUT = 2**31
"""Places (pixels, samples, voxels) of an input; a larger one has no address in an array."""
DEFAULT_FRAMES = 8
"""Frames of a network that takes any number of them."""


def resolve_size(image: ImageInput, size: Sequence[int] | None) -> tuple[int, ...]:
    """The sides of the image, with the dynamic ones filled in from `size`; one number stands for all sides.

    Raises PresetError where a fixed side differs, the number of sides is wrong, a size is needed and missing, or the
    input would have more than LARGEST_INPUT places.
    """
    count = len(image.sides)
    if size is None and count != 2 and image.frames is None and None in image.sides:
        raise PresetError(
            f"the model takes any size of {'signal' if count == 1 else 'volume'}; choose one with --size "
            f"{'512' if count == 1 else '16x112x112'}"
        )
    requested = tuple(size or (DEFAULT_SIDE,))
    requested = requested * min(count, 2 if image.frames is not None else 3) if len(requested) == 1 else requested
    if image.frames is not None and len(requested) == 2:
        requested = (image.sides[0] or DEFAULT_FRAMES, *requested)
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
