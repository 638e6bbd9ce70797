"""A model repository of NVIDIA's Triton Inference Server, made from a compiled file: the file and its config.pbtxt.

    NAME/config.pbtxt     what Triton asks for before it loads the file
    NAME/1/model.onnx     the file, as version 1

Where every input and output has one entry for each image, Triton adds and checks the batch axis (max_batch_size), and
may gather the images of several requests. Other files, among them those of the methods with a Loop, get whole shapes.
"""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.compiler.interface import Interface, Tensor
from onnxcam.errors import CompileError, OptionError
from onnxcam.outputs.paths import slug
from onnxcam.surgeon.metadata import COMPILED

BATCH = 8
"""The most images of one run, for files that take several."""
TYPES: Mapping[str, str] = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64", "bfloat16": "TYPE_BF16",
    "object": "TYPE_STRING",
}  # fmt: skip
"""Triton's name of an element type, by NumPy's."""

CONTROLS = ("Cc", "Cf", "Zl", "Zp")
"""Unicode's categories of what acts on a terminal or an editor instead of showing."""


def model_name(model: str, method: str) -> str:
    """The usual name of a compiled file in a repository. model: the name of the file that was compiled."""
    return slug(f"{Path(model).stem} {method}")


def repository_paths(folder: str | os.PathLike[str], name: str) -> tuple[Path, Path]:
    """Where config.pbtxt and the file of the model `name` lie. Raises OptionError for a name that is no folder's."""
    if name != Path(name).name or name in ("", ".", ".."):
        raise OptionError(f"{name!r} cannot be a folder of a model repository; give a name without / in it")
    place = Path(folder, name)
    return place / "config.pbtxt", place / "1" / "model.onnx"


def model_config(name: str, interface: Interface, record: Mapping[str, Any]) -> str:
    """The text of config.pbtxt. The file's metadata is among its parameters, which clients can ask the server for.

    Raises CompileError for a tensor of a type that Triton does not have.
    """
    batched = takes_batches(interface, record)
    return "\n".join(
        [
            f"name: {_quoted(name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {BATCH if batched else 0}",
            *_tensors("input", interface.inputs, batched=batched),
            *_tensors("output", interface.outputs, batched=batched),
            "parameters {",
            f"  key: {_quoted(COMPILED)}",
            f"  value {{ string_value: {_quoted(json.dumps(record, separators=(',', ':')))} }}",
            "}",
            "",
        ]
    )


def takes_batches(interface: Interface, record: Mapping[str, Any]) -> bool:
    """Whether every input and output has one entry for each image, along its first axis, and any number of them.

    A model is not taken for one whose other outputs, beside the scores, name that axis otherwise than its image.
    """
    image = next((t for t in interface.inputs if t.name == interface.image), None)
    if image is None or not record["layout"].startswith("N") or record["family"] != "batch":
        return False
    batch = image.shape[0]  # some exporters write -1 in place of a name
    certain = {interface.target, interface.map, interface.map_target, interface.range, record["scores"]["output"]}
    tensors = (*interface.inputs, *interface.outputs)
    return _is_free(batch) and all(
        bool(t.shape) and (_is_free(t.shape[0]) if t.name in certain else t.shape[0] == batch) for t in tensors
    )


def _is_free(side: int | str) -> bool:
    return isinstance(side, str) or side < 0


def _tensors(kind: str, tensors: Sequence[Tensor], *, batched: bool) -> list[str]:
    return [f"{kind} [", ",\n".join(_tensor(t, batched=batched) for t in tensors), "]"]


def _tensor(tensor: Tensor, *, batched: bool) -> str:
    """Triton takes no empty shape: a tensor of one number for each image travels as a row of one."""
    if tensor.dtype not in TYPES:
        raise CompileError(
            f"Triton has no element type for {tensor.name!r} ({tensor.dtype}); it has {', '.join(TYPES)}"
        )
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = ", ".join(str(side) if isinstance(side, int) else "-1" for side in shape)
    lines = [f"    name: {_quoted(tensor.name)}", f"    data_type: {TYPES[tensor.dtype]}"]
    lines += [f"    dims: [ {dims} ]"] if shape else ["    dims: [ 1 ]", "    reshape { shape: [ ] }"]
    return "\n".join(["  {", *lines, "  }"])


def _quoted(text: str) -> str:
    """A string of protobuf's text format, in which control characters are octal numbers of their UTF-8 bytes."""
    escapes = {"\\": r"\\", '"': r"\""}
    return (
        '"' + "".join(escapes.get(c, c if unicodedata.category(c) not in CONTROLS else _octal(c)) for c in text) + '"'
    )


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode())
