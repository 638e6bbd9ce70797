"""Several targets of one image: what follows a tensor runs once for each map, and what lies before it once.

N images and T targets give R = max(N,T) maps. Every tensor that enters the part behind the given one is repeated where
it has one entry, and the model's own outputs keep N entries.
"""

from collections.abc import Collection, Mapping

import numpy as np

from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.score_gradient import Traces
from onnxcam.surgeon.ir import Model, Node, Shape, Value


def with_rows(
    model: Model, b: Builder, tensor: Value, images: Value, given: Value, traces: Traces, own: Collection[str]
) -> tuple[Value, dict[str, Shape]]:
    """(the tensor with R entries, the shapes of all tensors); the graph behind `tensor` has R entries then.

    images (N,...) and given (T,): the image input and the targets. own: names of the model's outputs. Where the part
    behind the tensor runs no other number of entries than there are images, since it counts them or a node between its
    operators would end a fusion, the inputs are repeated and the whole model runs once for each map. Changes the model.
    """
    shapes = dict(traces.shapes)
    crossing = None if is_quantised(model) else _crossing(model, tensor, traces)
    behind = ir.reached_from(model, str(tensor.name)) - {str(tensor.name)} if crossing is not None else set(own)
    repeated, crossing = tensor, crossing if crossing is not None else _inputs(model, shapes)
    count = _length(b, images)
    rows = b("Max", count, _length(b, given))
    for value, uses in crossing:
        rank = len(shapes[str(value.name)])
        sides = b("Concat", rows, b.constant([1] * (rank - 1), np.int64), axis=0) if rank > 1 else rows
        expanded = b("Expand", value, sides)
        shapes[str(expanded.name)] = shapes[str(value.name)]
        for node, i in uses:
            node.replace_input_with(i, expanded)
        repeated = expanded if value is tensor else repeated
    for i, value in enumerate(list(model.graph.outputs)):
        name = str(value.name)
        if name in own and name in behind and None in shapes.get(name, ()):
            model.graph.outputs[i] = _first(b, value, count, shapes[name].index(None))
            shapes[str(value.name)] = shapes[name]
    model.graph.sort()
    return repeated, shapes


def is_quantised(model: Model) -> bool:
    """Whether the runtime may fuse operators with the rounding to integers around them, which any node between ends."""
    return any("Quantize" in node.op_type or node.op_type.startswith("QLinear") for node in model.graph)


def _length(b: Builder, value: Value) -> Value:
    """(1,) the length of the first axis."""
    return b("Gather", b("Shape", value), b.constant([0], np.int64), axis=0)


def _first(b: Builder, output: Value, count: Value, axis: int) -> Value:
    """The first entries of an output along an axis, under its name."""
    name = str(output.name)
    output.name = f"{name}/rows"
    kept = b("Slice", output, b.constant([0], np.int64), count, b.constant([axis], np.int64))
    kept.name, kept.type, kept.shape = name, output.type, output.shape
    output.shape = None
    return kept


Crossing = list[tuple[Value, list[tuple[Node, int]]]]
"""Tensors with an entry for each image, and who reads them."""


def _inputs(model: Model, shapes: Mapping[str, Shape]) -> Crossing:
    """The model's inputs, with all who read them."""
    batched = [value for value in model.graph.inputs if shapes.get(str(value.name), ())[:1] == (None,)]
    return [(value, [(use.node, use.idx) for use in value.uses()]) for value in batched]


def _crossing(model: Model, tensor: Value, traces: Traces) -> Crossing | None:
    """The tensors with an entry for each image that enter the part behind `tensor`, with who reads them there.

    None where a number that follows from the batch enters it, or a tensor whose first axis is not the batch.
    """
    name = str(tensor.name)
    reached = ir.reached_from(model, name)
    uses: dict[Value, list[tuple[Node, int]]] = {}
    for node in model.graph:
        if not any(str(v.name) in reached - {name} for v in node.outputs) and tensor not in node.inputs:
            continue
        if any(str(v.name) in traces.first.shapes and str(v.name) not in reached for v in ir.captured(node)):
            return None
        for i, value in enumerate(node.inputs):
            if value is not None and (value is tensor or str(value.name) not in reached):
                uses.setdefault(value, []).append((node, i))
    crossing = []
    for value, readers in uses.items():
        shape = traces.shapes.get(str(value.name))
        if value.const_value is not None or str(value.name) in traces.known:
            continue
        if shape is None or str(value.name) in traces.first.values or None in shape[1:]:
            return None
        if shape[:1] == (None,):
            crossing.append((value, readers))
    return crossing
