"""Pictures for a model's other inputs, as of a network that compares two: preprocessed as the explained picture is.

Values of extra inputs come as numbers and arrays, or as a picture: a path, or what the Explainer takes as a picture.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PresetError
from onnxcam.inputs.choices import choose_inputs
from onnxcam.inputs.depth import Window
from onnxcam.inputs.loader import ImageLoader, read_array
from onnxcam.inputs.presets import Preset
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.images import find_image, picture_inputs
from onnxcam.surgeon.ir import Model


@dataclass(frozen=True, eq=False)
class InputReader:
    """Reads values of the inputs of one model other than the one that takes the explained picture.

    size: of the explained picture, for inputs whose sides are dynamic. window: (low, high) of deep ones.
    """

    model: Model
    image: ImageInput
    size: tuple[int | None, ...]
    preset: Preset
    window: Window | None = None

    def read(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """The values as arrays by name. Raises OptionError, PictureError or PresetError."""
        pictures = {str(v.name) for v in picture_inputs(self.model)} - {self.image.name}
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, value in inputs.items():
            if _is_array_file(value):
                arrays[name] = read_array(value)
            elif name in pictures and _is_picture(value):
                arrays[name] = self._picture(name, value)
            elif isinstance(value, os.PathLike | bytes):
                raise OptionError(f"the input {name!r} takes no picture, but numbers or an .npy array")
            else:
                arrays |= choose_inputs({name: value})
        return arrays

    def _picture(self, name: str, value: Any) -> npt.NDArray[Any]:
        """A picture as this input of the file takes it."""
        image = find_image(self.model, None, name)
        sides = [side or usual for side, usual in zip(image.sides, self.size, strict=False)]
        size = tuple(side for side in sides if side is not None)
        if len(size) != len(image.sides):
            raise OptionError(f"the size of the input {name!r} is not known; give an .npy array")
        try:
            picture = ImageLoader(image, size, self.preset, window=self.window).prepare(value).image
        except PresetError as error:
            raise PresetError(f"the picture of the input {name!r}: {error}; or give it as an .npy array") from None
        canonical = "NC" + "".join(image.letters)
        batch = picture[None].transpose([canonical.index(letter) for letter in image.layout])
        return np.ascontiguousarray(batch.squeeze(image.added))


def _is_array_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and Path(value).suffix.lower() == ".npy"


def _is_picture(value: Any) -> bool:
    """Whether a value is a picture rather than numbers: a file, an object that is no array, or an array of bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim in (2, 3)
    return not isinstance(value, int | float | list | tuple | np.generic)
