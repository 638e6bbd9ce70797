"""Requests as an isolated process gets them: what is sent of a picture, and how a message goes through the pipe.

A picture is looked at before it is sent, as the process will look at it: what is no picture, or is larger than the
limits, costs nothing. Messages are pickled, with their arrays and files beside them, which are never copied.
"""

import io
import os
import pickle
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OnnxCamError, OptionError, OutOfMemory, PictureError
from onnxcam.limits import Limits

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

Part = bytes | memoryview
FileBytes = bytes | bytearray | memoryview

LENGTH = struct.Struct("<Q")
UNSENDABLE = (pickle.PicklingError, AttributeError, TypeError, ValueError, OSError, RecursionError)
"""What pickling raises."""


@dataclass(frozen=True, eq=False)
class Shared:
    """An array that another library shares through DLPack, which the loader takes for preprocessed where it fits."""

    array: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __dlpack__(self, **named: Any) -> Any:
        array = self.array if self.array.flags.writeable else self.array.copy()  # NumPy exports no other
        return array.__dlpack__(**named)

    def __dlpack_device__(self) -> tuple[Any, Any]:
        return self.array.__dlpack_device__()


class NamedFile(io.BytesIO):
    """An open file that was read. name: its path, None where it has none."""

    def __init__(self, content: FileBytes, name: str | None) -> None:
        super().__init__(content)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return NamedFile, (pickle.PickleBuffer(self.getbuffer()), self.name)


@dataclass(frozen=True)
class OpenedPicture:
    """A Pillow image that is opened again there. content: of its file. name: as Pillow has it."""

    content: bytes
    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (pickle.PickleBuffer(self.content), self.name)


@dataclass(frozen=True)
class DecodedPicture:
    """A Pillow image with its pixels. name: as Pillow has it."""

    image: Any
    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _called, (self.image, self.name)


def _called(image: Any, name: str) -> Any:
    image.filename = name
    return image


def _opened_again(content: FileBytes, name: str) -> Any:
    """Raises PictureError for a format that Pillow does not know in this process."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the process is ours, and the number was compared with the limits
    try:
        image = Image.open(io.BytesIO(content))
    except OSError as error:
        raise PictureError(
            f"{name or '<picture>'}: not a picture that can be read; give numpy.asarray(image)"
        ) from error
    return _called(image, name)


def sendable(image: Any, limits: Limits, name: str | None = None) -> Any:
    """The image as it can be sent: of files the bytes, of arrays their numbers in one piece.

    name: what messages call an array. Raises PictureError, as the loader does, for what is no picture, cannot be read
    or is larger than the limits.
    """
    from onnxcam.inputs.sources import fitting, is_file_source, name_of

    with fitting(name or (name_of(image) if is_file_source(image) else "<picture>")):
        if isinstance(image, list | tuple):  # the frames of a clip
            return [_one(each, limits, "<clip>") for each in image]
        return _one(image, limits, name or "<array>")


def _one(image: Any, limits: Limits, name: str) -> Any:
    from PIL.Image import Image as PilImage

    from onnxcam.inputs.sources import is_file_source, path_of

    if isinstance(image, PilImage):
        return _pillow(image, limits)
    if isinstance(image, str | os.PathLike):
        return image if type(image) is str or isinstance(image, PurePath) else path_of(image)
    if is_file_source(image):
        return _file(image, limits)
    return _array(image, limits, name)


def _pillow(image: "PilImage", limits: Limits) -> Any:
    """One that Pillow has opened and not decoded: its file, to be decoded there. Any other: its pixels."""
    from PIL.Image import Image as PilImage

    from onnxcam.inputs.decoding import load
    from onnxcam.inputs.images import content_of_opened
    from onnxcam.inputs.pixel_limit import check_pixels

    name = getattr(image, "filename", "")
    shown = str(name or "<picture>")
    check_pixels(*image.size, shown, limits)
    content = content_of_opened(image, shown, limits)
    if content is not None and image.tile and not image.decoderconfig and not image.tell():  # type: ignore[attr-defined]
        return OpenedPicture(content, name)
    load(image, io.BytesIO(content) if content is not None else None, shown)
    # A copy lacks what its format adds to the class, and can be sent.
    return DecodedPicture(image if type(image) is PilImage else PilImage.copy(image), name)


def _file(source: Any, limits: Limits) -> Any:
    """The bytes of a file, or an open one as it was read, once their number is known to be allowed."""
    from onnxcam.files import ARRAY, PICTURE
    from onnxcam.inputs.arrays import is_array_file
    from onnxcam.inputs.sources import name_of, opened

    with opened(source, name_of(source), ARRAY if is_array_file(source) else PICTURE, limits) as file:
        if isinstance(source, FileBytes):
            return pickle.PickleBuffer(source if isinstance(source, bytes) else file.read())
        name = getattr(source, "name", None)
        return NamedFile(file.read(), name if isinstance(name, str) else None)


def _array(image: Any, limits: Limits, name: str) -> Any:
    from onnxcam.inputs.arrays import HOST, host_array
    from onnxcam.inputs.dlpack import is_device_array, place_of
    from onnxcam.inputs.loader import no_picture
    from onnxcam.inputs.pixel_limit import check_shape

    is_shared = is_device_array(image)
    if is_shared and place_of(image).kind not in HOST:  # sent by its own library, to the same device
        check_shape(tuple(image.shape), getattr(image.dtype, "itemsize", 1), name, limits)
        return image
    array = host_array(image)
    if array is None:
        raise no_picture(image)
    if array.dtype.hasobject:
        raise PictureError(f"{name}: an array of Python objects, not of numbers; give it as float32 or uint8")
    check_shape(array.shape, array.dtype.itemsize, name, limits)
    # What the runtime cannot take as it lies is an array like any other to the loader.
    if is_shared and array.flags.c_contiguous and not getattr(image, "requires_grad", False):
        return Shared(array)
    return array if array.flags.forc else array.copy(order="C")


def plain_error(error: OnnxCamError) -> OnnxCamError:
    """The error with its message alone, of the nearest class that onnxcam.errors has."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == OnnxCamError.__module__)
    return kind(str(error))  # type: ignore[no-any-return]


def no_more() -> list[Part]:
    """Says that no picture follows."""
    return packed_request("no_picture", {})


def packed_request(name: str, arguments: Mapping[str, Any]) -> list[Part]:
    """The parts of a message: the number of those that follow, and of each its length and itself.

    Raises OptionError for what cannot be pickled, and OutOfMemory.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = pickle.dumps((name, arguments), protocol=5, buffer_callback=buffers.append)
        parts: list[Part] = [pickle.dumps(present_folder()), content, *(buffer.raw() for buffer in buffers)]
    except UNSENDABLE as error:
        raise OptionError(
            f"an argument cannot be sent to the isolated process ({str(error)[:300]}); give paths, bytes, arrays "
            f"and named functions of modules"
        ) from None
    except MemoryError:
        raise OutOfMemory("a request to the isolated process does not fit into memory") from None
    pieces: list[Part] = [LENGTH.pack(len(parts))]
    for part in parts:
        pieces += [LENGTH.pack(part.nbytes if isinstance(part, memoryview) else len(part)), part]
    return pieces


def present_folder() -> str | None:
    """The working directory; None where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


@dataclass(frozen=True, eq=False)
class Request:
    """A message that is not unpickled yet. folder: the parent's working directory. arrays: what lies beside it."""

    folder: str | None
    content: bytes | bytearray
    arrays: Sequence[bytearray] = ()

    def loaded(self) -> tuple[str, Any]:
        """The name and the arguments. Raises OptionError for what this process cannot import."""
        try:
            return pickle.loads(self.content, buffers=self.arrays)  # type: ignore[no-any-return]
        except (AttributeError, ImportError, pickle.UnpicklingError) as error:
            raise OptionError(
                f"the isolated process cannot read an argument ({str(error)[:300]}); its functions and classes must be "
                f"those of a module that can be imported, not of the program itself"
            ) from None


def received(file: BinaryIO) -> Request | None:
    """The next request; None where the parent has ended."""
    try:
        (count,) = LENGTH.unpack(_read(file, LENGTH.size))
        folder, content, *arrays = [_read(file, LENGTH.unpack(_read(file, LENGTH.size))[0]) for _ in range(count)]
    except EOFError:
        return None
    return Request(pickle.loads(folder), content, arrays)


def _read(file: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    if file.readinto(data) < size:  # type: ignore[attr-defined]  # a buffered one fills it
        raise EOFError
    return data
