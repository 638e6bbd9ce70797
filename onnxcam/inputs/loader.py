"""Loads images: from a path or an array to `ModelInput`, the tensor that one model takes.

An `ImageLoader` belongs to one opened model. It reads pictures (images.py) and .npy files, preprocesses pictures
(preprocess.py), checks arrays that the caller preprocessed, and takes arrays on a device (dlpack.py).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import device_of
from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.dlpack import DeviceArray, from_device, is_device_array
from onnxcam.inputs.images import read_picture
from onnxcam.inputs.preprocess import apply
from onnxcam.inputs.presets import Preset
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Image, Placement

ImageLike = str | os.PathLike[str] | npt.NDArray[Any] | DeviceArray
"""What the explainer takes as an image: a path of a picture or of an .npy array; a picture as a uint8 array
(height,width,3) or (height,width); or a preprocessed array (C,H,W), (C,W) or (C,D,H,W), which may lie on a device."""
LARGEST_ARRAY = 2**31
"""Bytes of an .npy file; larger ones are refused."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """An image ready for the model.

    image: (C,H,W) float32. placement: where it lies on the picture; None if it came preprocessed. name: its path, or
    what messages call it. on_device: an OrtValue with the same numbers, if the image came on a device.
    """

    image: Image
    placement: Placement | None
    name: str
    on_device: Any = None


@dataclass(frozen=True)
class ImageLoader:
    """Loads images for one model.

    size: the sides of its input. provider: the short name of the one that runs it. device_index: of its device.
    """

    input: ImageInput
    size: tuple[int, ...]
    preset: Preset
    provider: str = "cpu"
    device_index: int = 0

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Reads and preprocesses an image; name: what it is called in results, by default its path.

        Raises PictureError for what is neither a picture nor an array that fits the model's input, and PresetError for
        a preset that does not fit the model.
        """
        if isinstance(image, str | os.PathLike):
            name = name or os.fspath(image)
            image = read_image(image)
        if is_device_array(image):
            return self._from_device(image, name)
        if not isinstance(image, np.ndarray):
            raise PictureError(f"a picture is a path or an array, not {type(image).__name__}; try numpy.asarray(image)")
        label = name or f"<array {'x'.join(map(str, image.shape))}>"
        array = self._channels_first(image)
        if array is None and image.dtype == np.uint8:
            return self._from_picture(image, label)
        if array is None:
            expected = (self.input.channels, *self.size)
            raise PictureError(
                f"{label}: a preprocessed image is an array of numbers of shape {expected} "
                f"(C,{','.join(self._letters)}), not {image.dtype} {image.shape}; a picture is (height, width, 3) uint8"
            )
        if not np.isfinite(array).all():
            raise PictureError(f"{label}: the preprocessed image holds NaN or infinity")
        return ModelInput(self._in_range(np.ascontiguousarray(array, np.float32)), None, label)

    def _from_device(self, image: Any, name: str | None) -> ModelInput:
        """An image that the caller preprocessed and put where the model runs."""
        shape = (self.input.channels, *self.size)
        host, value = from_device(image, device_of(self.provider, self.device_index), self.provider, shape)
        label = name or f"<device array {'x'.join(map(str, shape))}>"
        return ModelInput(self._in_range(host), None, label, value)

    @property
    def _letters(self) -> tuple[str, ...]:
        return self.input.letters

    def _channels_first(self, array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """(C,*size) of an array in that order or in the model's, or a batch of one; None if it is neither."""
        if array.dtype.kind not in "fiu" or (array.dtype == np.uint8 and self.input.channels == 3 and array.ndim == 3):
            return None  # three channels of bytes are a photograph
        expected = (self.input.channels, *self.size)
        if array.ndim == len(expected) + 1 and len(array) == 1:
            array = array[0]
        if array.shape == expected:
            return array
        layout = self.input.layout.replace("N", "")
        if array.shape == self.input.shape(self.size)[1:]:
            return array.transpose([layout.index(letter) for letter in ("C", *self._letters)])
        return array[None] if array.dtype != np.uint8 and (1, *array.shape) == expected else None

    def _from_picture(self, picture: npt.NDArray[Any], name: str) -> ModelInput:
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise PictureError(f"a uint8 picture is (height, width, 3) RGB, not {picture.shape}")
        if len(self.size) != 2:
            shape = ", ".join(map(str, (self.input.channels, *self.size)))
            raise PictureError(f"{name}: the model takes no pictures but arrays of shape ({shape}); give an .npy file")
        size = (self.size[0], self.size[1])
        image, placement = apply(picture, self.preset, size, self.input.channels)
        return ModelInput(self._in_range(image), placement, name)

    def _in_range(self, image: Image) -> Image:
        """The image itself; raises PresetError for normalised pixels of a uint8 model, where they would wrap around."""
        fractions = image.max() <= 1 and not np.array_equal(image, np.round(image))
        if self.input.dtype == "uint8" and (image.min() < -0.5 or image.max() > 255.5 or fractions):
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
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError, SyntaxError, MemoryError, BadZipFile):
        raise PictureError(f"{path}: not an .npy array of numbers, or a damaged one") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.size == 0:
        raise PictureError(f"{path}: an .npy array of numbers is needed, not one of {getattr(array, 'dtype', 'files')}")
    return array
