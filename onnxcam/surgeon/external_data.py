"""Reads the weights that a model keeps in files of their own: from the model's folder, and nothing that is not there.

A location is a relative path without `..`. Links are followed as long as they stay in the folder. They may leave it in
one case, that of a Hugging Face cache: the model itself is a link into a folder called `blobs`, and the link of the
weights ends directly in that same folder. Where the model is any other link, its weights may also lie beside the file
that it leads to.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

import onnx
from onnx.external_data_helper import uses_external_data

from onnxcam.errors import ModelError
from onnxcam.files import WEIGHTS, open_inside, read_exactly, size_of
from onnxcam.surgeon.validation import all_tensors, bytes_needed

BLOBS = "blobs"
"""The folder of a Hugging Face cache in which the files lie, each under the hash of its content."""


@dataclass(frozen=True)
class _Part:
    """Where the bytes of a tensor lie: length bytes from offset on in the file of that location."""

    location: str
    offset: int
    length: int


def with_external_data(
    proto: onnx.ModelProto, name: str, path: Path | None, most: int | None = None
) -> onnx.ModelProto:
    """A copy whose tensors hold their bytes. path: of the model. most: bytes of all of them together, None for any.

    All sizes are checked before anything is read. Raises ModelError.
    """
    if path is None:
        raise ModelError(f"{name}: the weights are in external files; give the model's path instead")
    loaded = onnx.ModelProto()
    loaded.CopyFrom(proto)
    files: dict[str, list[tuple[onnx.TensorProto, _Part]]] = {}
    total = 0
    for tensor in all_tensors(loaded):
        if uses_external_data(tensor):
            part = _part(tensor, name)
            files.setdefault(part.location, []).append((tensor, part))
            total += part.length
    if most is not None and total > most:
        raise ModelError(f"{name}: its external weights take {total:,} bytes, more than the limit of {most:,}")
    for location, tensors in files.items():
        with _opened(path, location, tensors[0][0].name, name) as file:
            _read(file, tensors, name)
    return loaded


def _read(file: BinaryIO, tensors: Iterable[tuple[onnx.TensorProto, _Part]], name: str) -> None:
    """Moves the bytes of each tensor from the file into it."""
    size = size_of(file)
    for tensor, part in tensors:
        if part.offset + part.length > size:
            raise ModelError(
                f"{name}: the tensor {tensor.name!r} needs bytes {part.offset:,} to {part.offset + part.length:,} of "
                f"{_short(part.location)!r}, which has {size:,}; get that file again"
            )
        file.seek(part.offset)
        tensor.raw_data = read_exactly(file, part.length, part.location, WEIGHTS)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _part(tensor: onnx.TensorProto, name: str) -> _Part:
    """What the entries of a tensor say. Raises ModelError for repeated ones, and for a length that does not fit."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise ModelError(f"{name}: the tensor {tensor.name!r} repeats a key of its external data; the file is damaged")
    numbers = {key: entries[key] for key in ("offset", "length") if key in entries}
    wrong = [key for key, value in numbers.items() if not re.fullmatch("[0-9]{1,19}", value, re.ASCII)]
    if wrong:
        raise ModelError(f"{name}: the {wrong[0]} of the external tensor {tensor.name!r} is no number of bytes")
    if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise ModelError(f"{name}: the external tensor {tensor.name!r} holds no numbers; the file is damaged")
    needed = bytes_needed(tensor, name)
    length = int(numbers.get("length", needed))
    if length != needed:
        raise ModelError(
            f"{name}: the external tensor {tensor.name!r} of shape {list(tensor.dims)[:8]} needs {needed:,} bytes and "
            f"has {length:,}; the file is damaged"
        )
    return _Part(entries.get("location", ""), int(numbers.get("offset", 0)), length)


def _opened(model: Path, location: str, tensor: str, name: str) -> BinaryIO:
    """The file of weights, opened; raises ModelError for one that is missing or not the model's."""
    outside = ModelError(
        f"{name}: the weights of {tensor!r} point outside the model's folder ({_short(location)!r}); refused. Put the "
        f"file itself beside the model"
    )
    parts = [part for part in location.split("/") if part not in ("", ".")]
    windows = PureWindowsPath(location)
    if not parts or ".." in windows.parts or windows.drive or windows.root or "\0" in location:
        raise outside
    try:
        beside, target = Path(os.path.realpath(model.absolute().parent)), Path(os.path.realpath(model))
        folders = [f for f in dict.fromkeys((target.parent, beside)) if os.path.lexists(f.joinpath(*parts))]
        if not folders:
            raise ModelError(f"{name}: its weights file {_short(location)!r} is missing; put it beside the model")
        file = Path(os.path.realpath(folders[0].joinpath(*parts)))
    except (OSError, ValueError):  # a name that no file can have
        raise ModelError(f"{name}: its weights file {_short(location)!r} is missing; put it beside the model") from None
    if file.is_relative_to(folders[0]) and file != folders[0]:
        return open_inside(folders[0], file.relative_to(folders[0]).parts, WEIGHTS)
    if target.parent.name == BLOBS and target.parent != beside and file.parent == target.parent:
        return open_inside(file.parent, (file.name,), WEIGHTS)
    raise outside


def _short(location: str) -> str:
    return location if len(location) <= 100 else location[:100] + "..."
