"""Gives a graph the inputs and outputs of an explanation, which interface.py lists, and reads off what a file has."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from onnxcam.compiler.interface import (
    BOX,
    MAP,
    MAP_TARGET,
    PICTURE,
    PICTURE_MAP,
    PUBLIC,
    RANGE,
    TARGET,
    Interface,
    Tensor,
)
from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.ir import Model, Value, in_order, shape_with_names
from onnxcam.surgeon.shape_inference import infer_shapes


def publish_explanation(
    model: Model, b: Builder, shown: Value, raw: Value, target: Value, size: Sequence[int], maps: int | str
) -> None:
    """Adds the outputs of an explanation: maps (maps,1,*size) in [0,1], the raw ones (maps,1,...), classes (maps,)."""
    ends = [b.reduce(f"Reduce{end}", raw, range(1, 2 + len(size)), keepdims=False) for end in ("Min", "Max")]
    shape = b.constant([-1, *size], np.int64)
    publish(model, b("Reshape", shown, shape, name=MAP), onnx_ir.DataType.FLOAT, [maps, *size])
    publish(model, b("Identity", target, name=MAP_TARGET), onnx_ir.DataType.INT64, [maps])
    extent = b("Concat", *(b.unsqueeze(end, [1]) for end in ends), axis=1, name=RANGE)
    publish(model, extent, onnx_ir.DataType.FLOAT, [maps, 2])


def publish_names(model: Model) -> dict[str, str]:
    """Gives the tensors of the explanation their public names; inner tensors of such a name get another one.

    Changes the model. Returns the public names by those of PUBLIC, of the tensors that the model has.
    """
    graph = model.graph
    ends = {str(v.name): v for v in (*graph.inputs, *graph.outputs)}
    own = set(ends) - set(PUBLIC)
    names = {inner: _free(public, own) for inner, public in PUBLIC.items() if inner in ends}
    taken = set(names.values())
    for value in _inner_values(model):
        if str(value.name) in taken:
            _rename(value, f"{value.name}/of_the_model")
    for inner, public in names.items():
        ends[inner].name = public
    in_order(model)
    return names


def record_shapes(model: Model) -> None:
    """Records the shapes of outputs without one, such as the tensor in place of a map of labels, as far as they follow.

    onnx's checker asks for them. Changes the model.
    """
    missing = [v for v in model.graph.outputs if isinstance(v.type, onnx_ir.TensorType) and v.shape is None]
    shapes = infer_shapes(model, {}) if missing else {}
    for value in missing:
        if (shape := shapes.get(str(value.name))) is not None:
            value.shape = onnx_ir.Shape(shape)


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken."""
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def _inner_values(model: Model) -> list[Value]:
    graphs = [model.graph, *model.graph.subgraphs()]
    weights = [value for graph in graphs for value in graph.initializers.values()]
    values = [*weights, *(v for node in model.graph.all_nodes() for v in node.outputs)]
    return [v for v in values if not v.is_graph_output() or v.graph is not model.graph]


def _rename(value: Value, name: str) -> None:
    """Renames a tensor; a weight is registered under its new name."""
    old, graph = str(value.name), value.graph
    if graph is not None and graph.initializers.get(old) is value:
        del graph.initializers[old]
        value.name = name
        graph.register_initializer(value)
    else:
        value.name = name


def interface_of(model: Model, names: Mapping[str, str], image: str) -> Interface:
    """The interface of a finished graph. names: as publish_names() returned them. image: the model's own input."""
    inputs, outputs = tuple(map(_tensor, model.graph.inputs)), tuple(map(_tensor, model.graph.outputs))
    return Interface(
        inputs, outputs, image if PICTURE not in names else None, names.get(TARGET), names[MAP], names[MAP_TARGET],
        names[RANGE], names.get(BOX), names.get(PICTURE), names.get(PICTURE_MAP),
    )  # fmt: skip


def _tensor(value: Value) -> Tensor:
    dtype = value.dtype if value.dtype is not None else onnx_ir.DataType.FLOAT
    return Tensor(str(value.name), str(dtype.numpy()), tuple(shape_with_names(value) or ()))
