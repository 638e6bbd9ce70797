"""The element types of the model's own file, in a graph that was made in float32: inputs, outputs and weights."""

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.graphs.masked_score import rewire
from onnxcam.surgeon.ir import Graph, Model, Value

FILLED = 1024
"""Bytes, of all weights of one shape and one number everywhere, from which on they are made by one node."""
SMALL = 256
"""Numbers of a weight below which half precision would save less than its Cast takes."""


def with_file_types(model: Model, original: Model) -> Model:
    """Gives inputs, outputs and weights the element types that they have in `original`, by a Cast of each.

    Changes the model and returns it. Weights only where no number changes. The graph in between computes as before.
    """
    b = Builder(model, "onnxcam/compiled_types")
    _cast_inputs(model, b, {str(v.name): v for v in original.graph.inputs})
    _cast_outputs(model, b, {str(v.name): v for v in original.graph.outputs})
    for i, graph in enumerate([model.graph, *model.graph.subgraphs()]):  # whose names must differ
        inside = Builder(Model(graph, ir_version=model.ir_version), f"onnxcam/compiled_weights_{i}")
        if ir.computes_in_half(original):
            _store_in_half(graph, inside)
        _make_fills(graph, inside)
    return ir.in_order(model)


def _cast_inputs(model: Model, b: Builder, original: dict[str, Value]) -> None:
    for i, value in enumerate(list(model.graph.inputs)):
        of_file = original.get(str(value.name))
        if of_file is None or of_file.dtype in (None, value.dtype) or value.dtype is None:
            continue
        dtype = value.dtype
        value.type = onnx_ir.TensorType(of_file.dtype)
        cast = b.cast(value, dtype)
        rewire(value, cast)
        model.graph.inputs[i] = value


def _cast_outputs(model: Model, b: Builder, original: dict[str, Value]) -> None:
    for i, value in enumerate(list(model.graph.outputs)):
        of_file = original.get(str(value.name))
        if of_file is None or of_file.dtype in (None, value.dtype) or value.dtype is None:
            continue
        name = str(value.name)
        value.name = f"{name}/float32"
        cast = b.cast(value, of_file.dtype)
        cast.name, cast.type, cast.shape = name, of_file.type, value.shape
        model.graph.outputs[i] = cast


def _store_in_half(graph: Graph, b: Builder) -> None:
    """Weights in float32 that half precision holds exactly, in half precision with a Cast behind them.

    The runtime folds the Cast when it opens the file.
    """
    for name, value in list(graph.initializers.items()):
        array = ir.constant(value)
        if array is None or array.dtype != np.float32 or array.size < SMALL or value.is_graph_output():
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), array, equal_nan=True):
            continue
        stored = b.constant(half, np.float16)
        cast = b.cast(stored, onnx_ir.DataType.FLOAT)
        onnx_ir.convenience.replace_all_uses_with(value, cast)
        del graph.initializers[name]


def _make_fills(graph: Graph, b: Builder) -> None:
    """Real weights that hold one number everywhere become ConstantOfShape, as the model's own file may have had them.

    Zero points stay: some kernels of quantised operators read them when they are made.
    """
    alike: dict[tuple[object, ...], list[Value]] = {}
    for value in graph.initializers.values():
        array = ir.constant(value)
        if array is None or array.dtype.kind != "f" or array.size < 2 or value.is_graph_output():
            continue
        first = array.reshape(-1)[:1]
        if (array.reshape(-1)[:FILLED] == first).all() and _all_are(first, array):
            alike.setdefault((array.dtype.str, array.shape, first.tobytes()), []).append(value)
    for values in alike.values():
        array = ir.constant(values[0])
        assert array is not None
        if array.nbytes * len(values) < FILLED:
            continue
        first = np.asarray(array.reshape(-1)[:1])
        filled = b("ConstantOfShape", b.constant(array.shape, np.int64), value=onnx_ir.tensor(first))
        for value in values:
            onnx_ir.convenience.replace_all_uses_with(value, filled)
            del graph.initializers[str(value.name)]


def _all_are(first: npt.NDArray[np.generic], array: npt.NDArray[np.generic]) -> bool:
    """Whether every number is that one, 0 and -0 told apart."""
    return bool((array == first).all() and (np.signbit(array) == np.signbit(first)).all())
