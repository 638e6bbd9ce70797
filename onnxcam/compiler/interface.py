"""The inputs and outputs of a compiled file: the model's own, and those that the explanation adds.

    target            int64 (T,)            the class of each map; below 0: the prediction
    saliency_map      float32 (maps,*size)  in [0,1]
    saliency_target   int64 (maps,)         the class that each map explains
    saliency_range    float32 (maps,2)      the least and the largest number of the raw map; equal where it is constant
    saliency_box      float32 (4,)          with --raw: left, top, right, bottom of what the model saw, on the picture
    saliency_picture  float32 (maps,H,W)    with --raw: the map on the picture, 0 where the model does not see it
    picture           uint8 (H,W,3)         with --raw, in place of the model's own image

Builders call the tensors by the constants below, which no file has; publish_names() gives them these names, or another
one where the model has an input or an output of that name already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from onnxcam.surgeon.builder import Builder, publish
from onnxcam.surgeon.ir import Model, Value, in_order, infer_shapes, shape_with_names

TARGET = "onnxcam/compiled_target"
MAP = "onnxcam/compiled_map"
MAP_TARGET = "onnxcam/compiled_map_target"
RANGE = "onnxcam/compiled_range"
BOX = "onnxcam/compiled_box"
PICTURE_MAP = "onnxcam/compiled_picture_map"
PICTURE = "onnxcam/compiled_picture"
PUBLIC: Mapping[str, str] = {
    TARGET: "target", MAP: "saliency_map", MAP_TARGET: "saliency_target", RANGE: "saliency_range",
    BOX: "saliency_box", PICTURE_MAP: "saliency_picture", PICTURE: "picture",
}  # fmt: skip
"""The names that users see, by the name that builders use."""


@dataclass(frozen=True)
class Tensor:
    """An input or an output. dtype: as NumPy calls it. shape: a text names an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Interface:
    """What a compiled file takes and gives, and which tensor is which.

    image: the input that takes the preprocessed image; None where the file takes the picture. target: None where the
    class is baked in. map, map_target, range: outputs. box, picture, picture_map: of a file that takes the picture,
    else None.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    image: str | None
    target: str | None
    map: str
    map_target: str
    range: str
    box: str | None = None
    picture: str | None = None
    picture_map: str | None = None


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
