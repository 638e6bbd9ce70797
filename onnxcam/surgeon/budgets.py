"""What a model would take, by what it declares: checked before its weights are read, and before it is run.

A few bytes can declare weights or a noise of any size. check_declared() is part of reading a file (loading.py),
check_computed() of its first run (network/dry_run.py).
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir

from onnxcam.errors import ModelError
from onnxcam.limits import Limits, amount_of
from onnxcam.surgeon.ir import Model, captured, constant, recorded_types
from onnxcam.surgeon.shape_inference import infer_shapes
from onnxcam.surgeon.validation import all_parts, nodes_of, sparse_tensors

NUMBER = 4
"""Bytes of a number whose type is not known: float32."""
WIDEST = 16
"""Bytes of the widest number."""
LONGEST_TEXT = 2**20
"""Bytes of a text that joining constants may give; a model of pictures has labels."""


def check_declared(proto: onnx.ModelProto, name: str, limits: Limits) -> None:
    """Raises ModelError where all weights together, by the shapes that they declare, are above the limit of memory.

    External and sparse weights count with what they become; none of them is read. Also where the graph has more nodes
    than the limit.
    """
    total, largest = 0, ("", 0)
    for label, shape, dtype in _declared(proto):
        size = int(math.prod(max(side, 0) for side in shape) * _bytes_of(dtype))
        total, largest = total + size, max(largest, (label, size), key=lambda one: one[1])
    if limits.exceeded("memory", total):
        raise ModelError(
            f"{name}: its weights declare {amount_of(total)}, {amount_of(largest[1])} of them {largest[0]!r}; "
            f"{limits.way_out('memory')}"
        )
    count = sum(1 for _ in nodes_of(proto))
    if limits.exceeded("nodes", count):
        raise ModelError(f"{name}: the graph has {count:,} nodes; {limits.way_out('nodes')}")


def check_computed(model: Model, inputs: Mapping[str, Sequence[int | None]], limits: Limits) -> int:
    """Bytes of the largest tensor when the model runs at these shapes of its inputs, as far as they can be inferred.

    Raises ModelError where an input, or the tensors that are needed at one time, are above the limit of memory, and for
    a text that grows without end. What depends on the numbers of a picture is not known beforehand.
    """
    for name, shape in inputs.items():
        size = NUMBER * _count(shape)
        if limits.exceeded("memory", size):
            raise ModelError(
                f"the input {name!r} of shape {list(shape)} takes {amount_of(size)}; {limits.way_out('memory')}, "
                f"or choose a smaller --size"
            )
    _check_texts(model)
    shapes = infer_shapes(model, inputs, limits)
    most = limits.memory if limits.memory is not None else sys.maxsize
    if WIDEST * sum(_count(shape) for shape in shapes.values()) <= most:
        return NUMBER * max(map(_count, shapes.values()), default=0)
    types = recorded_types(model)
    sizes = {name: int(_count(shape) * _bytes_of(types.get(name))) for name, shape in shapes.items()}
    peak, largest = _peak(model, sizes)
    if limits.exceeded("memory", peak):
        raise ModelError(
            f"the model would need {amount_of(peak)} at one time for one picture, {amount_of(sizes[largest])} of them "
            f"for {largest!r} of shape {list(shapes[largest])}; {limits.way_out('memory')}, or choose a smaller --size"
        )
    return max(sizes.values())


def _peak(model: Model, sizes: Mapping[str, int]) -> tuple[int, str]:
    """(most bytes of computed tensors that are needed at one time, the largest of them), node after node."""
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph):
        last |= {str(value.name): index for value in (*node.inputs, *captured(node)) if value is not None}
    kept, live, peak = {str(value.name) for value in model.graph.outputs}, dict[str, int](), (0, "")
    for index, node in enumerate(model.graph):
        live |= {str(value.name): sizes.get(str(value.name), 0) for value in node.outputs}
        if (total := sum(live.values())) > peak[0]:
            peak = total, max(live, key=lambda name: live[name])
        live = {name: size for name, size in live.items() if last.get(name, -1) > index or name in kept}
    return peak


def _count(shape: Sequence[int | None]) -> int:
    return math.prod(side or 1 for side in shape)


def _bytes_of(dtype: int | None) -> float:
    """Bytes of a number of this type."""
    if dtype is None:
        return NUMBER
    try:
        return float(onnx_ir.DataType(dtype).bitwidth) / 8
    except (ValueError, TypeError):
        return NUMBER


def _declared(proto: onnx.ModelProto) -> Iterator[tuple[str, Sequence[int], int]]:
    """(name, shape, number type) of every weight, in subgraphs and attributes too; of sparse ones as they become."""
    for part in all_parts(proto):
        if isinstance(part, onnx.GraphProto):
            tensors = list(part.initializer)
        else:
            tensors = [*([part.t] if part.HasField("t") else []), *part.tensors]
        for tensor in tensors:
            yield tensor.name or part.name, tensor.dims, tensor.data_type
        for one in sparse_tensors(part):
            yield one.values.name or part.name, one.dims, one.values.data_type


def _check_texts(model: Model) -> None:
    """Raises ModelError where texts are joined, again and again, to more than LONGEST_TEXT bytes."""
    lengths: dict[str, int] = {}

    def length(value: onnx_ir.Value | None) -> int:
        if value is None:
            return 0
        array = constant(value) if value.dtype == onnx_ir.DataType.STRING else None
        if array is None:
            return lengths.get(str(value.name), 0)
        return max((len(text) for text in array.reshape(-1).tolist()), default=0)

    if not any(node.op_type == "StringConcat" for node in model.graph):
        return
    for node in model.graph:
        sizes = [length(value) for value in node.inputs]
        joined = sum(sizes) if node.op_type == "StringConcat" else max(sizes, default=0)
        if joined > LONGEST_TEXT:
            raise ModelError(f"the texts that {node.name or node.op_type!r} joins grow to {joined:,} bytes; refused")
        lengths |= {str(value.name): joined for value in node.outputs}
