"""Loads images: from what a person gives to `ModelInput`, the tensor that one model takes.

An `ImageLoader` belongs to one opened model. It reads pictures (images.py), bands (bands.py) and arrays (arrays.py),
preprocesses them (preprocess.py), and takes tensors where the model runs (dlpack.py). What the caller preprocessed is
taken as it is (prepared.py), unless options say what else to do with it.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pil

from onnxcam.engine.devices import device_of
from onnxcam.errors import PictureError, PresetError
from onnxcam.inputs.arrays import (
    CHANNELS,
    as_float32,
    check_finite,
    host_array,
    is_array_file,
    is_picture_shape,
    picture_of,
    pixel_factor,
)
from onnxcam.inputs.arrays import read_array as read_array
from onnxcam.inputs.bands import Bands, bands_first, composed, composite, read_bands
from onnxcam.inputs.clips import Frames, chosen, frames_of, shared_placement, stacked, unchanged
from onnxcam.inputs.decoding import Reading
from onnxcam.inputs.depth import Window, windowed
from onnxcam.inputs.dlpack import DeviceArray, from_device, is_device_array, lies_ready
from onnxcam.inputs.images import read, read_file, read_picture, read_pillow
from onnxcam.inputs.pixel_limit import check_shape
from onnxcam.inputs.prepared import ARITHMETIC, as_it_is, calculated, reads_as_pixels
from onnxcam.inputs.preprocess import apply, apply_bands
from onnxcam.inputs.presets import Preset
from onnxcam.inputs.sources import FileSource, fitting, is_file_source, name_of, opened, path_of
from onnxcam.limits import SAFE, Limits
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.types import Image, Note, NoteCode, Placement

ImageLike = FileSource | Pil.Image | npt.NDArray[Any] | DeviceArray
"""What the explainer takes as an image.

A picture: the path of a file, its bytes, the open file; a Pillow image; an array (height,width,3) or (3,height,width)
of bytes or of floats in [0,1]. Or a preprocessed array (C,H,W), (C,W) or (C,D,H,W), also as an .npy file: floats of the
model's size, in that order or in the model's, count as preprocessed whatever their numbers are. For a network that
takes clips, also a folder or a list of pictures. Arrays may be those of any library, and may lie on a device."""


@dataclass(frozen=True, eq=False)
class ModelInput:
    """An image ready for the model.

    image: (C,H,W) float32. placement: where it lies on the picture, or on each frame; None if it came preprocessed or
    frames differ. name: its path, or what messages call it. on_device: an OrtValue with the same numbers, if the image
    came on a device. picture: what maps are drawn over, if it has a placement; of a clip its frames (3,T,H,W) as the
    model sees them. bands: those that are red, green and blue, if they were chosen. window: what became black and
    white, if that was chosen. notes: what to doubt. file: the absolute path of a photograph that can be
    read again.
    """

    image: Image
    placement: Placement | None
    name: str
    on_device: Any = None
    picture: npt.NDArray[Any] | None = None
    bands: Bands | None = None
    window: Window | None = None
    notes: tuple[Note, ...] = ()
    file: Path | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether it came preprocessed."""
        return self.placement is None and self.picture is None

    @property
    def drawn(self) -> npt.NDArray[Any]:
        """What maps are drawn over: the picture, or the bands that were chosen of the preprocessed array, or all."""
        if self.picture is not None:
            return self.picture
        return self.image if self.bands is None else self.image[[number - 1 for number in self.bands]]

    def kept(self) -> npt.NDArray[Any] | Path:
        """What a result keeps, to be drawn later: the file of a photograph, else a copy of what maps are drawn over.

        A copy, since the caller may read the next frame into the same memory.
        """
        return self.file if self.file is not None else self.drawn.copy()


@dataclass(frozen=True)
class ImageLoader:
    """Loads images for one model.

    size: the sides of its input. provider: the short name of the one that runs it. device_index: of its device.
    changed: the preset's fields that the caller set, which count for arrays too. window: (low, high), what becomes
    black and white. bands: which are red, green and blue of a picture with many. limits: how large a picture may be.
    """

    input: ImageInput
    size: tuple[int, ...]
    preset: Preset
    provider: str = "cpu"
    device_index: int = 0
    changed: frozenset[str] = field(default_factory=frozenset)
    window: Window | None = None
    bands: Bands | None = None
    limits: Limits = SAFE

    def prepare(self, image: ImageLike, name: str | None = None) -> ModelInput:
        """Reads and preprocesses an image; name: what it is called in results, by default its path.

        Raises PictureError for what is neither a picture nor an array that fits the model's input, and PresetError for
        a preset that does not fit the model.
        """
        with fitting(name or (name_of(image) if is_file_source(image) else "<picture>")):
            return self._prepared(image, name)

    def _prepared(self, image: ImageLike, name: str | None) -> ModelInput:
        if self._takes_clips and (frames := self._frames_of(image)) is not None:
            return self._from_frames(frames, name or (name_of(image) if is_file_source(image) else "<clip>"))
        if isinstance(image, Pil.Image):
            return self._from_picture(
                lambda: read_pillow(image, self.window, self.bands, self.limits), name or _label(image)
            )
        if is_file_source(image):
            name = name or name_of(image)
            if not is_array_file(image):
                return self._from_file(image, name)
            return self._from_array(read_array(image, self.limits), name)
        if is_device_array(image) and not self.changed & ARITHMETIC and self.window is None:
            shape = (self.input.channels, *self.size)
            if lies_ready(image, device_of(self.provider, self.device_index), shape):
                return self._from_device(image, name)
        array = host_array(image)
        if array is None:
            raise no_picture(image)
        check_shape(array.shape, array.dtype.itemsize, name or "<array>", self.limits)
        return self._from_array(array, name or f"<array {'x'.join(map(str, array.shape))}>")

    def several(self, images: Iterable[ImageLike] | ImageLike) -> Iterable[ImageLike]:
        """The images as several; one that is no array counts as several. Raises PictureError for an array of one."""
        if is_file_source(images) or isinstance(images, Pil.Image):
            return [images]
        shape = getattr(images, "shape", None)
        if isinstance(shape, tuple) and self._is_one(shape, str(getattr(images, "dtype", ""))):
            raise PictureError(f"batch() takes several pictures, not one of shape {shape}; pass a list: [picture]")
        return images  # type: ignore[return-value]

    def _is_one(self, shape: tuple[int, ...], dtype: str) -> bool:
        """Whether an array of this shape is one picture: of bytes, or with the model's channels first or last."""
        if dtype.endswith("uint8") and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            return True
        several = self.input.channels == 1 or len(self.size) != 2 or len(shape) != 3
        return not several and self.input.channels in (shape[0], shape[2])

    def _from_device(self, image: Any, name: str | None) -> ModelInput:
        """An image that the caller preprocessed and put where the model runs."""
        shape = (self.input.channels, *self.size)
        host, value = from_device(image, device_of(self.provider, self.device_index), self.provider, shape)
        label = name or f"<device array {'x'.join(map(str, shape))}>"
        checked, notes = as_it_is(host, self.input, self.preset, label)
        return ModelInput(self._in_range(checked), None, label, value, bands=self.bands, notes=notes)

    def _from_file(self, source: FileSource, name: str) -> ModelInput:
        if len(self.size) == 2 and self.input.channels not in (1, 3):
            with opened(source, name, limits=self.limits) as file:
                return self._from_bands(read_bands(file, name, self.limits), name)
        model_input = self._from_picture(lambda: read_file(source, self.window, self.bands, self.limits), name)
        if not isinstance(source, str | os.PathLike) or model_input.window is not None or self.bands is not None:
            return model_input
        return replace(model_input, file=Path(os.path.abspath(path_of(source))))

    def _from_picture(self, read: Callable[[], Reading], name: str, preset: Preset | None = None) -> ModelInput:
        if len(self.size) != 2:
            raise self._no_pictures(name)
        reading, size = read(), (self.size[0], self.size[1])
        image, placement = apply(reading.picture, preset or self.preset, size, self.input.channels)
        return ModelInput(
            self._in_range(image), placement, name, picture=reading.picture, bands=self.bands, window=reading.window,
            notes=reading.notes,
        )  # fmt: skip

    @property
    def _takes_clips(self) -> bool:
        """Whether the model takes pictures in time, rather than a volume of other numbers."""
        return len(self.size) == 3 and (self.input.frames is not None or self.input.channels == 3)

    def _frames_of(self, image: Any) -> Frames | None:
        count = self.size[0]
        return frames_of(image, lambda each: read(each, limits=self.limits).picture, count, self.limits)

    def _from_frames(self, frames: Frames, name: str) -> ModelInput:
        """The frames of a clip, each preprocessed as a picture."""
        count, *sides = self.size
        pictures, notes = chosen(frames, count, name, self.limits)
        size, channels = (sides[0], sides[1]), self.input.channels
        images, places = zip(*(apply(picture, self.preset, size, channels) for picture in pictures), strict=True)
        placement, doubts = shared_placement(places, name)
        pixels = [apply(picture, unchanged(self.preset), size, 3)[0] for picture in pictures]
        drawn = stacked(pixels)
        return ModelInput(self._in_range(stacked(images)), placement, name, picture=drawn, notes=(*notes, *doubts))

    def _from_array(self, array: npt.NDArray[Any], name: str) -> ModelInput:
        exact = self._channels_first(array)
        pictures = len(self.size) == 2 and self.input.channels in (1, 3)
        computed = bool(self.changed & ARITHMETIC) or self.window is not None
        if pictures and (exact is None or reads_as_pixels(exact, computed=computed)):
            return self._from_pixels(array, name, fitted=exact is not None and exact.dtype.kind == "f")
        if exact is None and len(self.size) == 2 and not pictures and self._is_bands(array):
            return self._from_bands(bands_first(array, self.input.channels), name)
        if exact is None:
            raise self._misfit(array, name)
        if computed:
            image, notes = calculated(exact, self.preset, self.changed, self.window, name)
        else:
            image, notes = as_it_is(exact, self.input, self.preset, name)
        return ModelInput(self._in_range(image), None, name, bands=self.bands, window=self.window, notes=notes)

    def _from_pixels(self, array: npt.NDArray[Any], name: str, *, fitted: bool) -> ModelInput:
        """An array that is a picture. fitted: it has the model's size already, so that nothing of it is cut."""
        if self.bands is not None and array.ndim == 3:
            reading = composed(bands_first(array), self.bands, self.window, name)
            return self._from_picture(lambda: reading, name)
        if not is_picture_shape(array):
            raise self._misfit(array, name)
        if array.dtype.kind == "f" and self.window is None and pixel_factor(array) is None:
            check_finite(array, name)
            raise self._misfit(array, name)
        picture, notes = picture_of(array, self.window, name)
        preset = replace(self.preset, resize="squash", crop=1.0) if fitted else self.preset
        if (
            array.dtype.kind == "f"
            and self.window is None
            and not fitted
            and array.shape[-1] not in CHANNELS
            and array.ndim > 2
        ):
            text = f"{name}: floats in [0,1] of another size than the model's are taken for a picture"
            notes = (*notes, Note(NoteCode.VALUE_RANGE, text))
        if fitted:
            text = f"{name}: its floats were taken for pixels and preprocessed as {preset.name} does, without a crop"
            notes = (*notes, Note(NoteCode.ARRAY_SCALED, text))
        return self._from_picture(lambda: Reading(picture, notes, self.window), name, preset)

    def _from_bands(self, bands: npt.NDArray[Any], name: str) -> ModelInput:
        """Bands (C,height,width) of any size, for a model of as many channels."""
        if len(bands) != self.input.channels:
            raise PictureError(f"{name}: has {len(bands)} band(s), but the model takes {self.input.channels}")
        check_finite(bands, name)
        picture = composite(bands, self.bands, self.window, name)
        values = as_float32(bands, name) if self.window is None else windowed(bands, self.window)
        image, placement = apply_bands(values, self.preset, (self.size[0], self.size[1]))
        return ModelInput(self._in_range(image), placement, name, picture=picture, bands=self.bands, window=self.window)

    def _is_bands(self, array: npt.NDArray[Any]) -> bool:
        """Whether the first axis or the last holds the model's channels, and the other two are a picture's."""
        return array.ndim == 3 and self.input.channels in (len(array), array.shape[2]) and array.dtype.kind in "fiu"

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
            return array.transpose([layout.index(letter) for letter in ("C", *self.input.letters)])
        return array[None] if array.dtype != np.uint8 and (1, *array.shape) == expected else None

    def _misfit(self, array: npt.NDArray[Any], name: str) -> PictureError:
        """An array that is neither a picture nor preprocessed for this model, with the way out."""
        expected = (self.input.channels, *self.size)
        if array.dtype == np.uint8 and len(self.size) != 2:
            return self._no_pictures(name)
        letters = ",".join(self.input.letters)
        text = (
            f"{name}: a preprocessed image is an array of numbers of shape {expected} (C,{letters}), "
            f"not {array.dtype} {array.shape}"
        )
        if len(self.size) == 2 and array.ndim == 3 and (*array.shape[2:], *array.shape[:2]) == expected:
            return PictureError(f"{text}; numpy.moveaxis(image, -1, 0) gives that")
        if len(self.size) == 2 and self.input.channels in (1, 3):
            text += "; a picture is (height, width, 3) of uint8, or of floats in [0,1]"
        if array.dtype.kind == "f" and array.size:
            text += f", and these go from {array.min():.4g} to {array.max():.4g}"
        if None in self.input.sides and array.ndim == len(expected):
            text += "; the model takes other sizes too: --size"
        return PictureError(text)

    def _no_pictures(self, name: str) -> PictureError:
        shape = ", ".join(map(str, (self.input.channels, *self.size)))
        return PictureError(f"{name}: the model takes no pictures but arrays of shape ({shape}); give an .npy file")

    def _in_range(self, image: Image) -> Image:
        return in_range(image, self.input)


def in_range(numbers: Image, image: ImageInput) -> Image:
    """The numbers themselves. Raises PresetError for normalised pixels of a uint8 model: they would wrap around."""
    if image.dtype != "uint8":
        return numbers
    fractions = numbers.max() <= 1 and not np.array_equal(numbers, np.round(numbers))
    if numbers.min() < -0.5 or numbers.max() > 255.5 or fractions:
        raise PresetError(
            f"the model takes pixels from 0 to 255, but the image is from {numbers.min():.3g} to {numbers.max():.3g}; "
            f"use --preset raw"
        )
    return numbers


def no_picture(image: object) -> PictureError:
    """The error of what is neither a file nor an array."""
    kind = type(image).__name__
    return PictureError(f"a picture is a path, bytes, an image or an array, not {kind}; try numpy.asarray(image)")


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """A picture as (height,width,3) uint8, or the array of an .npy file."""
    return read_array(path) if is_array_file(path) else read_picture(path)


def _label(image: Pil.Image) -> str:
    return str(getattr(image, "filename", "") or f"<picture {image.width}x{image.height}>")
