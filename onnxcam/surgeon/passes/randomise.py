"""A pass that draws the weights of some layers again, for the sanity check of maps (Adebayo et al. 2018).

The numbers change and nothing else: names, shapes and stored types stay, so that a layer, a preset and a target of the
intact model are those of this one too.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import ModelError, OptionError
from onnxcam.surgeon.analysis.stored_weights import Stored
from onnxcam.surgeon.analysis.weights import Parameter, Role, WeightLayer
from onnxcam.surgeon.ir import Graph, Model, Value, edit

Numbers = npt.NDArray[np.float64]


class Redraw(StrEnum):
    """How weights are drawn again.

    shuffle: the stored numbers in another order. normal: from a normal distribution of the same mean and deviation. he:
    as a new network has them: weights of deviation sqrt(2 / fan-in), biases and means 0, scales and variances 1.
    """

    SHUFFLE = "shuffle"
    NORMAL = "normal"
    HE = "he"


def randomise(
    model: Model, layers: Iterable[WeightLayer], redraw: Redraw | str = Redraw.SHUFFLE, *, seed: int = 0
) -> Model:
    """A copy in which every tensor of these layers of the model is drawn again.

    What a tensor becomes depends on the seed and its own name only, so each has a stream of its own, and more layers
    leave those that were drawn before as they were. Raises OptionError for a negative seed, and for `he` on integers
    whose scale is not a constant; ModelError where a tensor is not one of the model.
    """
    if seed < 0:
        raise OptionError(f"a seed is 0 or more, not {seed}")
    copy = edit(model)
    values = {str(value.name): value for graph in _graphs(copy) for value in graph.initializers.values()}
    for parameter in (p for layer in layers for p in layer.parameters):
        if parameter.name not in values:
            raise ModelError(f"the model has no weights called {parameter.name!r}")
        _store(values[parameter.name], parameter.stored, redrawn(parameter, redraw, seed))
    return copy


def redrawn(parameter: Parameter, redraw: Redraw | str, seed: int) -> npt.NDArray[Any]:
    """The numbers of a tensor drawn again, in the stored type and shape."""
    rng = np.random.default_rng([seed, *parameter.name.encode("utf-8", "surrogatepass")])
    stored, array = parameter.stored, parameter.stored.array
    if redraw == Redraw.SHUFFLE and not _has_wide_integers(stored):
        return rng.permutation(array.reshape(-1)).reshape(array.shape)
    real = _real(stored)
    if redraw == Redraw.SHUFFLE:
        new = rng.permutation(real.reshape(-1)).reshape(real.shape)
    elif redraw == Redraw.NORMAL:
        new = rng.normal(real.mean(), real.std(), real.shape)
        new = np.abs(new) if parameter.role is Role.VARIANCE else new  # no variance is negative
    else:
        new = _as_new(parameter, real, rng)
    return _as_stored(stored, new)


def _has_wide_integers(stored: Stored) -> bool:
    """Whether integers are shuffled as real numbers: those of a bias are large where the scale of their place is small.

    The stored integers of weights fill their narrow range whatever the scale, and would be cut off as real numbers.
    """
    wide = stored.dtype == onnx_ir.DataType.INT32
    return wide and stored.scale is not None and stored.scale.size > 1


def _as_new(parameter: Parameter, real: Numbers, rng: np.random.Generator) -> Numbers:
    """The numbers of a network that has learnt nothing."""
    stored = parameter.stored
    if stored.is_integer and stored.scale is None:
        raise OptionError(
            f"`he` needs the scale of the quantised weights {parameter.name!r}, which the graph computes; "
            f"use shuffle or normal"
        )
    if parameter.role is Role.SHIFT:
        return np.zeros(real.shape)
    if parameter.role in (Role.SCALE, Role.VARIANCE):
        return np.ones(real.shape)
    known = stored.fan_in is not None and parameter.role is Role.WEIGHT
    return rng.normal(0, np.sqrt(2 / stored.fan_in) if known else real.std(), real.shape)  # type: ignore[operator]


def _real(stored: Stored) -> Numbers:
    """The numbers as the network computes with them; stored integers as they are where their scale is unknown."""
    array = np.asarray(stored.array, np.float64)
    if stored.scale is None:
        return array
    return np.asarray(stored.scale * (array - (stored.zero if stored.zero is not None else 0)), np.float64)


def _as_stored(stored: Stored, real: Numbers) -> npt.NDArray[Any]:
    """Real numbers in the stored type; integers are rounded with their scale, and cut off where their range ends."""
    dtype = stored.array.dtype
    if not stored.is_integer:
        return real.astype(np.float32).astype(dtype) if stored.dtype != onnx_ir.DataType.DOUBLE else real
    if stored.scale is not None:
        real = np.round(real / stored.scale) + (stored.zero if stored.zero is not None else 0)
    low, high = INTEGER_RANGES[stored.dtype]
    return np.clip(np.round(real), low, high).astype(dtype)


INTEGER_RANGES = {
    dtype: (0 if dtype.name.startswith("U") else -(2 ** (bits - 1)), 2 ** (bits - (not dtype.name.startswith("U"))) - 1)
    for dtype, bits in (
        (onnx_ir.DataType.INT4, 4), (onnx_ir.DataType.UINT4, 4), (onnx_ir.DataType.INT8, 8),
        (onnx_ir.DataType.UINT8, 8), (onnx_ir.DataType.INT16, 16), (onnx_ir.DataType.UINT16, 16),
        (onnx_ir.DataType.INT32, 32),
    )
}  # fmt: skip
"""Smallest and largest stored number."""


def _store(value: Value, stored: Stored, array: npt.NDArray[Any]) -> None:
    """Gives an initializer other numbers of the same type and shape."""
    value.const_value = onnx_ir.tensor(array, dtype=stored.dtype, name=value.name)


def _graphs(model: Model) -> Iterator[Graph]:
    """The graph and all graphs within it."""
    yield model.graph
    for node in model.graph.all_nodes():
        for attribute in node.attributes.values():
            if attribute.type == onnx_ir.AttributeType.GRAPH:
                yield attribute.as_graph()
            elif attribute.type == onnx_ir.AttributeType.GRAPHS:
                yield from attribute.as_graphs()
