"""Pictures for a model's other inputs, as of a network that compares two: fitted as the explained picture is.

Values of extra inputs come as numbers and arrays, or as a picture: a path, or what the Explainer takes as a picture.
Where the graph normalises one input by itself and not the other, each picture gets what its own input takes.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, PresetError
from onnxcam.explainer.arguments import adjusted
from onnxcam.inputs.choices import choose_inputs, choose_preset
from onnxcam.inputs.depth import Window
from onnxcam.inputs.graph_preset import ArrayNotes, preset_notes
from onnxcam.inputs.loader import ImageLoader, read_array
from onnxcam.inputs.presets import Preset
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.loading import ModelFile
from onnxcam.types import Note, NoteCode

ARITHMETIC = ("scale", "mean", "std", "color")


@dataclass(frozen=True, eq=False)
class InputReader:
    """Reads values of the inputs of one model other than the one that takes the explained picture.

    size: of the explained picture, for inputs whose sides are dynamic. used: its preset, made of what the caller gave:
    preset and adjust. window: (low, high) of deep pictures. limits: how large a picture or an array may be.
    """

    file: ModelFile
    image: ImageInput
    size: tuple[int | None, ...]
    used: Preset
    preset: Preset | str | None
    adjust: Callable[[Preset], Preset] | None
    window: Window | None = None
    limits: Limits = SAFE

    def read(self, inputs: Mapping[str, Any]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, tuple[Note, ...]]]:
        """The values as arrays, and what to doubt of each, by name.

        Raises OptionError, PictureError or PresetError.
        """
        pictures = set(self.file.pictures) - {self.image.name}
        arrays: dict[str, npt.NDArray[Any]] = {}
        notes: dict[str, tuple[Note, ...]] = {}
        for name, value in inputs.items():
            value = read_array(value, self.limits) if _is_array_file(value) else value
            if name in pictures and _is_picture(value):
                arrays[name], notes[name] = self._picture(name, value)
            elif isinstance(value, os.PathLike | bytes):
                raise OptionError(f"the input {name!r} takes no picture, but numbers or an .npy array")
            else:
                arrays |= choose_inputs({name: value})
                notes[name] = ()
        return arrays, notes

    def _picture(self, name: str, value: Any) -> tuple[npt.NDArray[Any], tuple[Note, ...]]:
        """A picture as this input of the file takes it, and what to doubt."""
        image = self.file.image(None, name)
        sides = [side or usual for side, usual in zip(image.sides, self.size, strict=False)]
        size = tuple(side for side in sides if side is not None)
        if len(size) != len(image.sides):
            raise OptionError(f"the size of the input {name!r} is not known; give an .npy array")
        preset, doubts = self._preset(image)
        try:
            prepared = ImageLoader(image, size, preset, window=self.window, limits=self.limits).prepare(value)
        except PresetError as error:
            raise PresetError(f"the picture of the input {name!r}: {error}; or give it as an .npy array") from None
        if prepared.is_prepared:
            doubts = ArrayNotes(self.file.normalisations(image), image)(prepared.image)
        notes = tuple(Note(note.code, f"the input {name!r}: {note}") for note in (*doubts, *prepared.notes))
        canonical = "NC" + "".join(image.letters)
        batch = prepared.image[None].transpose([canonical.index(letter) for letter in image.layout])
        return np.ascontiguousarray(batch.squeeze(image.added)), notes

    @property
    def _is_automatic(self) -> bool:
        """Whether the explained picture has the numbers that it would have if no preset were given, as of a record."""
        try:
            return self.preset is None or _alike(choose_preset(self.file, None, self.image)[0], self.used)
        except PresetError:  # what travels with the model is damaged
            return False

    def _preset(self, image: ImageInput) -> tuple[Preset, tuple[Note, ...]]:
        """(the numbers that this input takes, fitted as the explained picture is; what to doubt)."""
        preset = None if self._is_automatic else self.preset
        numbers, origin = adjusted(*choose_preset(self.file, preset, image), self.adjust)
        doubts = preset_notes(self.file.normalisations(image), image, numbers, origin)
        if _alike(numbers, self.used):
            return self.used, doubts
        padding = self.used.padding if image.channels == self.image.channels else numbers.padding
        fit = {field: getattr(self.used, field) for field in ("resize", "crop", "interpolation", "size")}
        text = f"its picture is preprocessed as {numbers.name} ({origin}), and fitted as the explained one"
        return replace(numbers, padding=padding, **fit), (Note(NoteCode.OTHER_PICTURES, text), *doubts)


def _alike(preset: Preset, other: Preset) -> bool:
    """Whether both make the same numbers of a pixel."""
    return all(getattr(preset, field) == getattr(other, field) for field in ARITHMETIC)


def _is_array_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and Path(value).suffix.lower() == ".npy"


def _is_picture(value: Any) -> bool:
    """Whether a value is a picture rather than numbers: a file, an object that is no array, or an array of bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim in (2, 3)
    return not isinstance(value, int | float | list | tuple | np.generic)
