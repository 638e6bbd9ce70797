"""A graph as the bytes that a session is opened with, in less memory than those of a file."""

import io
from collections.abc import Iterator

import onnx
import onnx_ir

from onnxcam.errors import ModelError
from onnxcam.surgeon.ir import Model, edit, to_bytes

WORTHWHILE = 2**25
"""Bytes of all large weights from which pieces are written: for less, copying the graph takes longer than it saves."""
LARGE = 2**12
"""Bytes of a weight from which it is a piece of its own."""
MOST = 2**31
"""Protobuf's limit of a message, in bytes."""
GRAPH, INITIALIZER, RAW_DATA = b"\x3a", b"\x2a", b"\x4a"
"""Tags of ModelProto.graph (field 7), GraphProto.initializer (5) and TensorProto.raw_data (9), each before a length."""


def session_bytes(model: Model, addition: bytes = b"") -> bytes:
    """The model for onnxruntime: that of to_bytes(), but each large weight is a further piece of the graph.

    addition: a last piece, in the bytes of a ModelProto.

    Protobuf merges the pieces of a message that occurs more than once
    (https://protobuf.dev/programming-guides/encoding/#last-one-wins). So the result and one weight are all that is in
    memory beside the model; to_bytes() holds every weight twice. Not for files: not every reader merges.
    Raises ModelError above protobuf's limit of 2 GiB.
    """
    size = weight_bytes(model)
    if size < WORTHWHILE:
        return to_bytes(model) + addition
    rest = edit(model)
    weights = {name: tensor for name, tensor, _ in _large(rest)}
    for name in weights:
        del rest.graph.initializers[name]
    start = to_bytes(rest)
    file = io.BytesIO()
    # Room for all at once: what grows leaves holes behind.
    file.seek(size + len(start) + len(weights) * LARGE + len(addition))
    file.write(b"\0")
    file.seek(0)
    file.write(start)
    for name, tensor in weights.items():
        data = tensor.tobytes()
        about = onnx.TensorProto(name=name, dims=tensor.shape.numpy(), data_type=tensor.dtype.value)
        head = about.SerializeToString(deterministic=True) + RAW_DATA + _varint(len(data))
        head = INITIALIZER + _varint(len(head) + len(data)) + head
        file.write(GRAPH + _varint(len(head) + len(data)) + head)
        file.write(data)
        if file.tell() + len(addition) >= MOST:
            raise ModelError("the model is too large for one file (above 2 GiB)")
    file.write(addition)
    file.truncate()
    return file.getvalue()


def weight_bytes(model: Model) -> int:
    """Bytes of the large weights of the main graph, as little as a file of the model takes."""
    return sum(size for _, _, size in _large(model))


def _large(model: Model) -> Iterator[tuple[str, onnx_ir.TensorProtocol, int]]:
    """(name, tensor, bytes) of each large weight of the main graph."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype != onnx_ir.DataType.STRING and (size := tensor.nbytes) >= LARGE:
            yield name, tensor, size


def _varint(number: int) -> bytes:
    """The number as protobuf writes lengths: seven bits a byte, the lowest first."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))
