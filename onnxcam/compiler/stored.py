"""Compiled files in the cache folder: the same compilation again is read, neither built nor compared once more.

A file counts for the very model, method, options and pictures that it was made of and compared with, and for the
versions and the code that made it. It is written after the comparison has passed. stored_graphs.py says what else a
file must be to count. Not stored is what an opening does not store either (warm.py), what names a file or is too large,
and what a method or a gradient rule made whose code is not onnxcam's own.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.compiler.compared_pictures import Difference, photographs
from onnxcam.compiler.interface import Interface
from onnxcam.compiler.metadata import read_compiled
from onnxcam.errors import ModelError, OptionError
from onnxcam.explainer.explainer import Explainer, opened_model
from onnxcam.files import PICTURE, file_sha256
from onnxcam.inputs.loader import ModelInput
from onnxcam.logs import module_logger
from onnxcam.methods.blocks import Method
from onnxcam.methods.equality import same
from onnxcam.methods.registry import METHODS
from onnxcam.network import stored_graphs
from onnxcam.surgeon.metadata import COMPILED

BUILT_BY = ("", "compiler", "engine", "explainer", "inputs", "methods", "network", "outputs", "surgeon")
"""The packages whose code decides a file or its comparison; '' stands for the modules of onnxcam itself."""
logger = module_logger(__name__)


@dataclass(frozen=True)
class StoredData:
    """What is stored beside the bytes, as CompiledFile has it."""

    interface: Interface
    record: str
    difference: Difference


@dataclass(frozen=True)
class CompiledFile:
    """A compiled file that was compared. record: the JSON text of its metadata. The rest is as Compiled has it."""

    bytes: bytes
    interface: Interface
    record: str
    difference: Difference


def stored_name(explainer: Explainer, target: int | None, pictures: Sequence[ModelInput], *, raw: bool) -> str | None:
    """What a compiled file is stored as; None where it is not.

    explainer: of the model and the method, whose opening stands for the model file, the layer, the output, the extra
    inputs and the limits. target: as it is baked in, None for an input. pictures: of the caller, on which it is
    compared. raw: the file takes the picture.
    """
    opened, method = opened_model(explainer), explainer.method
    if not opened.stored_as or not _is_built_in(method) or stored_graphs.has_rules_from_outside():
        return None
    choices = (
        method.name, sorted(method.options.items()), target, raw, Path(explainer.model_name).name, explainer.preset,
        str(explainer.preset_origin), explainer.size, tuple(explainer.labels) if explainer.labels is not None else None,
    )  # fmt: skip
    compared = [*map(_digest, pictures), *(file_sha256(path, PICTURE) for path in photographs(explainer, raw=raw))]
    code = stored_graphs.code_of(BUILT_BY)
    return stored_graphs.key("compiled", opened.stored_as, code, repr(choices), *compared)


def load(name: str) -> CompiledFile | None:
    """The compiled file of a name; None if there is none, or if it is not as it was written."""
    stored = stored_graphs.load(name, StoredData)
    if stored is None:
        return None
    data: StoredData = stored.data
    try:
        read_compiled({COMPILED: data.record})
    except ModelError as error:
        logger.info("cache: the compiled file %s is not usable (%s)", name, error)
        return None
    return CompiledFile(stored.graph, data.interface, data.record, data.difference)


def store(name: str, file: CompiledFile) -> None:
    """Stores a compiled file that was compared. What cannot be stored is only logged."""
    stored_graphs.store(name, file.bytes, StoredData(file.interface, file.record, file.difference))


def _is_built_in(method: Method) -> bool:
    """Whether its name and its options make it, of onnxcam's own code."""
    try:
        return method.name in METHODS and same(METHODS[method.name](**method.options), method)
    except (OptionError, TypeError):  # options that the function does not have
        return False


def _digest(image: ModelInput) -> str:
    """SHA-256 of a prepared picture: of the image, the picture that it was made of, and where it lies there."""
    digest = hashlib.sha256(repr(image.placement).encode())
    for array in (image.image, image.picture):
        digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: npt.NDArray[Any] | None) -> bytes:
    if array is None:
        return b"none"
    return f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
