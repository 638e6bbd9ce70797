"""What comes in beside the model: pictures and arrays, the preset, the labels, and where each came from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import device_of
from onnxcam.errors import OptionError, PictureError, PresetError
from onnxcam.inputs import bundled
from onnxcam.inputs.dlpack import DeviceArray, is_device_array, taken
from onnxcam.inputs.images import read_picture
from onnxcam.inputs.labels import check_labels, find_labels, find_preset, read_labels
from onnxcam.inputs.preprocess import PRESETS, Preset, apply
from onnxcam.inputs.preprocess import preset as preset_named
from onnxcam.surgeon.analysis.anatomy import ImageInput, Kind, Logits
from onnxcam.surgeon.analysis.locate import DEFAULT_SIDE
from onnxcam.surgeon.loading import ModelFile, read_model
from onnxcam.types import Image, Origin, Placement, Source

ImageLike = str | os.PathLike[str] | npt.NDArray[Any] | DeviceArray
"""A path, of a picture or of an .npy array; an (height,width,3) or (height,width) uint8 array; or a preprocessed array
(C,H,W), (C,W) or (C,D,H,W), which alone may come on a device."""
GIVEN = Origin(Source.GIVEN, "given")
LARGEST_ARRAY = 2**31
"""Bytes of an .npy file that is read."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """A picture made ready: on the model's input, with its way back to the original.

    on_device: an OrtValue with the image's numbers, where the picture came on a device.
    """

    image: Image
    placement: Placement | None
    name: str
    on_device: Any = None


@dataclass(frozen=True)
class ImageLoader:
    """How pictures are made ready for one model: its input, the size chosen for it, and the preprocessing."""

    input: ImageInput
    size: tuple[int, ...]
    preset: Preset
    provider: str = "cpu"

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Read and preprocess; raises PictureError on what fits neither a picture nor the model's input."""
        if isinstance(image, str | os.PathLike):
            name = name or os.fspath(image)
            image = read_image(image)
        if is_device_array(image):
            return self._from_device(image, name)
        if not isinstance(image, np.ndarray):
            raise PictureError(f"a picture is a path or an array, not {type(image).__name__}; try numpy.asarray(image)")
        label = name or f"<array {'x'.join(map(str, image.shape))}>"
        found = self._laid_out(image)
        if found is None and image.dtype == np.uint8:
            return self._from_picture(image, label)
        if found is None:
            expected = (self.input.channels, *self.size)
            raise PictureError(
                f"{label}: a preprocessed image is an array of numbers of shape {expected} "
                f"(C,{','.join(self._letters)}), not {image.dtype} {image.shape}; a picture is (height, width, 3) uint8"
            )
        if not np.isfinite(found).all():
            raise PictureError(f"{label}: the preprocessed image holds NaN or infinity")
        return ModelInput(self._in_range(np.ascontiguousarray(found, np.float32)), None, label)

    def _from_device(self, image: Any, name: str | None) -> ModelInput:
        """Preprocessed by the caller, where the model runs."""
        shape = (self.input.channels, *self.size)
        host, value = taken(image, device_of(self.provider), self.provider, shape)
        label = name or f"<device array {'x'.join(map(str, shape))}>"
        return ModelInput(self._in_range(host), None, label, value)

    @property
    def _letters(self) -> tuple[str, ...]:
        return self.input.letters

    def _laid_out(self, array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """(C,*size) of an array in that order or in the model's own, a batch of one allowed; None if it is neither."""
        if array.dtype.kind not in "fiu" or (array.dtype == np.uint8 and self.input.channels == 3 and array.ndim == 3):
            return None  # three channels of bytes are a photograph
        expected = (self.input.channels, *self.size)
        if array.ndim == len(expected) + 1 and len(array) == 1:
            array = array[0]
        if array.shape == expected:
            return array
        own = self.input.layout.replace("N", "")
        if array.shape == self.input.shape(self.size)[1:]:
            return array.transpose([own.index(letter) for letter in ("C", *self._letters)])
        return array[None] if array.dtype != np.uint8 and (1, *array.shape) == expected else None

    def _from_picture(self, image: npt.NDArray[Any], name: str) -> ModelInput:
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise PictureError(f"a uint8 picture is (height, width, 3) RGB, not {image.shape}")
        if len(self.size) != 2:
            shape = ", ".join(map(str, (self.input.channels, *self.size)))
            raise PictureError(f"{name}: the model takes no pictures but arrays of shape ({shape}); give an .npy file")
        size = (self.size[0], self.size[1])
        found, placement = apply(image, self.preset, size, self.input.channels)
        return ModelInput(self._in_range(found), placement, name)

    def _in_range(self, image: Image) -> Image:
        """A model that takes uint8 pixels must not be given normalised ones: they would wrap around."""
        share = image.max() <= 1 and not np.array_equal(image, np.round(image))
        if self.input.dtype == "uint8" and (image.min() < -0.5 or image.max() > 255.5 or share):
            raise PresetError(
                f"the model takes pixels from 0 to 255, but the image is from {image.min():.3g} to {image.max():.3g}; "
                f"use --preset raw"
            )
        return image


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """A picture as (height,width,3) uint8, or the array of an .npy file."""
    return read_array(path) if Path(path).suffix.lower() == ".npy" else read_picture(path)


def read_array(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """The array of an .npy file; raises PictureError for anything but numbers of a reasonable size."""
    try:
        if Path(path).stat().st_size > LARGEST_ARRAY:
            raise PictureError(f"{path}: the array is larger than {LARGEST_ARRAY >> 30} GiB")
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError, MemoryError, BadZipFile):
        raise PictureError(f"{path}: not an .npy array of numbers, or a damaged one") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub" or found.size == 0:
        raise PictureError(f"{path}: an .npy array of numbers is needed, not one of {getattr(found, 'dtype', 'files')}")
    return found


def choose_inputs(given: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """Further inputs as arrays of numbers; raises OptionError."""
    if not isinstance(given, Mapping):
        raise OptionError(f"extra inputs are given by name, as {{'meta': array}}, not as {type(given).__name__}")
    found = {name: np.asarray(value) for name, value in given.items()}
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            raise OptionError(f"the input {name!r} is not made of numbers")
    return found


def choose_size(image: ImageInput, size: Sequence[int] | None, preset: Preset) -> tuple[tuple[int, ...] | None, Origin]:
    """The sides to ask for and where they came from: what was asked for, the model's, the preset's for dynamic ones."""
    if size is not None:
        return tuple(size), GIVEN
    if None not in image.sides:
        return None, Origin(Source.MODEL, "the model's")
    if len(image.sides) == 2 and preset.size is not None:
        sides = tuple(own or wanted for own, wanted in zip(image.sides, preset.size, strict=True))
        return sides, Origin(Source.PRESET, "the preset's")
    if len(image.sides) == 2:
        text = "assumed: the model takes any size; choose with --size"
        return tuple(side or DEFAULT_SIDE for side in image.sides), Origin(Source.ASSUMED, text)
    return None, Origin(Source.MODEL, "the model's")


def choose_preset(file: ModelFile, preset: Preset | str | None, image: ImageInput) -> tuple[Preset, Origin]:
    """What was asked for, else what travels with the model, else a default; and which of these it is."""
    if isinstance(preset, Preset):
        return preset, GIVEN
    if preset is not None:
        return preset_named(preset), GIVEN
    found = find_preset(file.metadata, file.path)
    if found is not None:
        return found
    if image.dtype == "uint8":
        return PRESETS["raw"], Origin(Source.ASSUMED, "assumed: the model takes raw uint8 pixels")
    if image.channels == 1:
        text = "assumed for a grey picture: nothing beside the model says; choose with --preset"
        return PRESETS["unit"], Origin(Source.ASSUMED, text)
    return PRESETS["imagenet"], Origin(Source.ASSUMED, "assumed: nothing beside the model says; choose with --preset")


def choose_labels(
    file: ModelFile, labels: Sequence[str] | str | os.PathLike[str] | None, logits: Logits
) -> tuple[tuple[str, ...] | None, Origin]:
    """Labels that fit what is scored and where they came from, None where there are none; 'imagenet' is the usual list.

    Raises LabelError for labels of another length; those that travel with the model may be of another of its outputs.
    """
    if labels == "imagenet" and not Path("imagenet").exists():
        found = find_labels(read_model(bundled.model()).metadata, None)
        assert found is not None
        given, origin = found[0], Origin(Source.GIVEN, "imagenet")
    elif labels is not None:
        given = read_labels(Path(labels)) if isinstance(labels, str | os.PathLike) else list(labels)
        origin = Origin(Source.GIVEN, str(labels)) if isinstance(labels, str | os.PathLike) else GIVEN
    else:
        found = find_labels(file.metadata, file.path)
        if found is None or (logits.kind is not Kind.CLASSES and not fits(found[0], logits)):
            return None, Origin(Source.NONE, "none")
        given, origin = found
    if not fits(given, logits):
        check_labels(given, logits.classes, "ImageNet's label list" if labels == "imagenet" else origin.text)
    return tuple(given), origin


def fits(labels: Sequence[str], logits: Logits) -> bool:
    """One a class; a table of boxes may hold more numbers a box than classes."""
    if logits.kind is Kind.BOXES:
        return 0 < len(labels) <= logits.classes
    return logits.kind in (Kind.CLASSES, Kind.REGION) and len(labels) == logits.classes
