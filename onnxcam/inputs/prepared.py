"""Arrays of the model's own shape, which the caller preprocessed: taken as they are, with a note on doubtful ones.

Options of the preprocessing count for them too. An array that holds pixels is then preprocessed as a picture; of any
other one exactly the options that were given are computed.
"""

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import PresetError
from onnxcam.inputs.arrays import as_float32, check_finite, factor_of_range, float32_and_range, pixel_factor
from onnxcam.inputs.depth import DEEP, Window, windowed
from onnxcam.inputs.presets import Preset
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Image, Note, NoteCode

Numbers = npt.NDArray[Any]
Notes = tuple[Note, ...]

ARITHMETIC = frozenset({"scale", "mean", "std", "color"})
"""Fields of a preset that change numbers."""
LUMA = np.array([0.299, 0.587, 0.114])
BEYOND = 1.5
"""By how much the brightest number of a preset may differ from that of a picture."""


def reads_as_pixels(exact: Numbers, *, computed: bool) -> bool:
    """Whether an array of the model's shape is a picture all the same.

    Bytes are, and whole numbers of up to 16 bits. Floats that are pixels are, if options say what to compute of them.
    """
    if exact.dtype == np.uint8:
        return True
    if exact.dtype.kind in "iu":
        return computed or (int(exact.min()) >= 0 and int(exact.max()) <= DEEP)
    return computed and pixel_factor(exact) is not None


def as_it_is(exact: Numbers, image_input: ImageInput, preset: Preset, name: str) -> tuple[Image, Notes]:
    """The array (C,*size) as float32, and a note if its numbers are not those of a preprocessed image.

    Raises PictureError for NaN, infinity and what float32 does not hold.
    """
    image, low, high = float32_and_range(exact, name)
    if exact.dtype.kind in "iu" and "int" not in image_input.dtype:
        text = (
            f"{name}: {exact.dtype} numbers from {low:g} to {high:g} are taken as they are; "
            f"what is to be computed of them, --scale, --mean and --std say"
        )
        return image, (Note(NoteCode.WHOLE_NUMBERS, text),)
    if len(image_input.sides) != 2 or image_input.channels not in (1, 3) or exact.dtype.kind in "iu" or low == high:
        return image, ()
    factor = factor_of_range(low, high)
    if factor is None:
        return image, ()
    least, most = _range(preset)
    top = 255 / factor
    if least >= -0.1 * top and top / BEYOND <= most <= top * BEYOND:
        return image, ()
    text = (
        f"{name}: its numbers from {low:.3g} to {high:.3g} are those of a picture, where the preset {preset.name} "
        f"gives {least:.3g} to {most:.3g}; floats of the model's size count as preprocessed, so they are taken as they "
        f"are. If they are not, the map is wrong: give the picture as uint8 (height, width, 3), or --scale, --mean and "
        f"--std"
    )
    return image, (Note(NoteCode.VALUE_RANGE, text),)


def calculated(
    exact: Numbers, preset: Preset, changed: Set[str], window: Window | None, name: str
) -> tuple[Image, Notes]:
    """The array (C,*size) after the window and those of scale, mean, std and color that were given, and a note of it.

    Raises PresetError for as many numbers as are neither one nor one a channel.
    """
    check_finite(exact, name)
    values = np.asarray(exact, np.float64) if window is None else windowed(exact, window).astype(np.float64)
    steps = [f"window {window[0]:g} to {window[1]:g}"] if window is not None else []
    if "color" in changed and len(values) == 3:
        steps.append(f"color {preset.color}")
        if preset.color == "bgr":
            values = values[::-1]
        elif preset.color == "gray":
            values = np.broadcast_to(np.tensordot(LUMA, values, 1)[None], values.shape)
    for field, compute in (("scale", np.multiply), ("mean", np.subtract), ("std", np.divide)):
        if field not in changed:
            continue
        number = np.atleast_1d(np.asarray(getattr(preset, field), np.float64))
        if len(number) not in (1, len(values)):
            raise PresetError(f"{field} has {len(number)} numbers, but the model takes {len(values)} channel(s)")
        values = compute(values, number.reshape(-1, *(1,) * (values.ndim - 1)))
        steps.append(f"{field} {', '.join(f'{n:.4g}' for n in number)}")
    text = f"{name}: of the array were computed: {'; '.join(steps)}"
    return as_float32(values, name), (Note(NoteCode.ARRAY_SCALED, text),)


def _range(preset: Preset) -> tuple[float, float]:
    """The least and the greatest number that a pixel becomes."""
    mean, std = np.broadcast_arrays(np.asarray(preset.mean, np.float64), np.asarray(preset.std, np.float64))
    ends = (np.array([[0.0], [255 * preset.scale]]) - mean) / std
    return float(ends.min()), float(ends.max())
