"""An ONNX graph run by PyTorch, so that autograd can differentiate it: for gradient rules' tests, and for export.

    values = OnnxModule(proto, torch.float64)({"images": x}, ["features", "logits"])

What is computed from shapes and constants alone stays on the host as numpy arrays (with torch.SymInt inside where a
size is symbolic), so that torch.fx can trace a graph with a dynamic batch. All floating-point types become the one that
was asked for. Derivatives are torch's: zero for Relu at 0, zero for Clip at both bounds and outside, a maximum's go to
the first of equals in MaxPool and evenly to all in ReduceMax and GlobalMaxPool. Quantisation passes the gradient
straight through; quantised numbers that depend on data are floats that hold integers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor
from torch.nn import functional

Array = npt.NDArray[Any]
Value = Tensor | Array

LARGEST_ON_HOST = 1024
"""Numbers of a weight that may take part in arithmetic on the host."""
LARGEST_INDEX = 2**63 - 1
FLOATS = frozenset(
    getattr(TensorProto, name)
    for name in "FLOAT FLOAT16 DOUBLE BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ".split()
)
INTEGERS = {
    TensorProto.BOOL: torch.bool, TensorProto.UINT8: torch.uint8, TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16, TensorProto.UINT16: torch.int32, TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64, TensorProto.INT64: torch.int64, TensorProto.UINT64: torch.int64,
}  # fmt: skip
"""Torch computes little in unsigned types past 8 bits, so these become the next larger signed one."""
RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1), "uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One operator: opset is of the model, attributes are plain Python values."""

    op_type: str
    domain: str
    name: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    dtype: torch.dtype

    def get(self, attribute: str, default: Any = None) -> Any:
        return self.attributes.get(attribute, default)

    def unknown(self, what: str = "") -> NotImplementedError:
        operator = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        return NotImplementedError(f"{operator} of opset {self.opset}{what and f' with {what}'} (node {self.name!r})")


Operator = Callable[..., Any]
OPERATORS: dict[str, tuple[Operator, tuple[int, ...]]] = {}
"""By op_type: the function of the node and its inputs, absent ones None, and which inputs it wants as host arrays."""
HOST: dict[str, Operator] = {}
"""The same for operands that are all on the host. NotImplemented leaves the node to OPERATORS."""


def operator(*op_types: str, host: tuple[int, ...] = ()) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(op_types, (function, host)))
        return function

    return register


def on_host(*op_types: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        HOST.update(dict.fromkeys(op_types, function))
        return function

    return register


class OnnxModule(torch.nn.Module):
    """The graph's nodes over buffers that hold its weights."""

    def __init__(self, proto: onnx.ModelProto, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.dtype = dtype
        self._arrays: dict[str, Array] = {}
        self._buffers_of: dict[str, str] = {}
        opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
        self._nodes: list[Node] = []
        for weight in proto.graph.initializer:
            self._hold(weight.name, numpy_helper.to_array(weight), weight.data_type in FLOATS)
        for node in proto.graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                array, floating = _constant(node)
                self._hold(node.output[0], array, floating)
                continue
            attributes = {a.name: _attribute(a) for a in node.attribute}
            domain = "" if node.domain == "ai.onnx" else node.domain
            inputs, outputs = tuple(node.input), tuple(node.output)
            self._nodes.append(Node(node.op_type, domain, node.name, opset, inputs, outputs, attributes, dtype))
        self._makers = {name: node for node in self._nodes for name in node.outputs if name}

    def forward(self, feeds: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """The named tensors, inner ones too; feeds may name inner tensors, what makes these is not run then.

        Raises NotImplementedError at an operator, or a form of one, that is not known; KeyError at an unknown name.
        """
        device = next((x.device for x in feeds.values()), torch.device("cpu"))
        values: dict[str, Value] = {name: x.to(self.dtype) if x.is_floating_point() else x for name, x in feeds.items()}
        for node in self._needed(values, outputs):
            results = self._run(node, values, device)
            values.update((name, r) for name, r in zip(node.outputs, results, strict=False) if name)
        return [self._tensor(name, values, device) for name in outputs]

    def _hold(self, name: str, array: Array, floating: bool) -> None:
        """All as buffers, small ones on the host too."""
        if floating:
            array = array.astype(np.float64)
        if array.size <= LARGEST_ON_HOST:
            self._arrays[name] = array
        self._buffers_of[name] = f"weight_{len(self._buffers_of)}"
        self.register_buffer(self._buffers_of[name], _as_tensor(array, self.dtype, torch.device("cpu")))

    def _needed(self, fed: Mapping[str, Value], outputs: Sequence[str]) -> Iterator[Node]:
        wanted: set[str] = set()
        stack = [n for n in outputs if n not in fed]
        while stack:
            name = stack.pop()
            if name in wanted or name in fed or name in self._buffers_of or not name:
                continue
            if name not in self._makers:
                raise KeyError(f"{name!r} is neither fed nor computed by the graph")
            node = self._makers[name]
            wanted.update(node.outputs)
            stack.extend(node.inputs)
        return (node for node in self._nodes if wanted.intersection(node.outputs))

    def _run(self, node: Node, values: Mapping[str, Value], device: torch.device) -> tuple[Value, ...]:
        if node.domain or node.op_type not in (OPERATORS.keys() | HOST.keys()):
            raise node.unknown()
        arrays = [self._array(name, values) for name in node.inputs]
        result: Any = NotImplemented
        if node.op_type in HOST and all(a is not None or not n for a, n in zip(arrays, node.inputs, strict=True)):
            result = HOST[node.op_type](node, *arrays)
        if result is NotImplemented:
            if node.op_type not in OPERATORS:
                raise node.unknown("operands that depend on data")
            function, wanted = OPERATORS[node.op_type]
            operands = [
                None if not name else array if i in wanted and array is not None else self._tensor(name, values, device)
                for i, (name, array) in enumerate(zip(node.inputs, arrays, strict=True))
            ]
            result = function(node, *operands)
        results = result if isinstance(result, tuple) else (result,)
        return tuple(_settled(r) if isinstance(r, np.ndarray) else r for r in results)

    def _array(self, name: str, values: Mapping[str, Value]) -> Array | None:
        found = values[name] if name in values else self._arrays.get(name)
        return found if isinstance(found, np.ndarray) else None

    def _tensor(self, name: str, values: Mapping[str, Value], device: torch.device) -> Tensor:
        if name in values:
            found = values[name]
            return found if isinstance(found, Tensor) else _as_tensor(found, self.dtype, device)
        if name in self._buffers_of:
            return self.get_buffer(self._buffers_of[name])
        raise self._makers[name].unknown(f"its output {name!r}")


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else list(value) if attribute.type in (6, 7, 8) else value


def _constant(node: onnx.NodeProto) -> tuple[Array, bool]:
    """The number(s) of a Constant node, and whether they are floating-point."""
    (attribute,) = node.attribute
    value = _attribute(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value), value.data_type in FLOATS
    if attribute.name.startswith("value_float"):
        return np.array(value, np.float64), True
    if attribute.name.startswith("value_int"):
        return np.array(value, np.int64), False
    raise NotImplementedError(f"Constant with {attribute.name} (node {node.name!r})")


def _as_tensor(array: Array, dtype: torch.dtype, device: torch.device) -> Tensor:
    if array.dtype == object:
        parts = [torch.scalar_tensor(v, dtype=_kind(v, dtype), device=device) for v in array.reshape(-1)]
        return torch.stack(parts).reshape(array.shape)
    if array.dtype.kind == "f":
        return torch.tensor(array, dtype=dtype, device=device)
    if array.dtype.name in ("uint16", "uint32", "uint64") or array.dtype.kind not in "biu":
        array = array.astype(np.int64)  # four-bit integers are none of numpy's own
    return torch.tensor(array, device=device)


def _kind(number: Any, dtype: torch.dtype) -> torch.dtype:
    return dtype if isinstance(number, float | torch.SymFloat) else torch.int64


def _settled(array: Array) -> Array:
    """Back from Python objects to numbers where no size is symbolic."""
    symbolic = (torch.SymInt, torch.SymFloat, torch.SymBool)
    if array.dtype != object or any(isinstance(v, symbolic) for v in array.reshape(-1)):
        return array
    return np.array(array.tolist())


def _numbers(sizes: Sequence[Any]) -> Array:
    """(len,) on the host; integers, or objects where one is symbolic."""
    plain = all(isinstance(s, int) for s in sizes)
    array = np.empty(len(sizes), np.int64 if plain else object)
    array[:] = sizes
    return array


def _integers(node: Node, values: Value | None, attribute: str | None = None) -> list[Any] | None:
    """What was an attribute in old opsets and is an input now; None where it is absent."""
    if values is None:
        found = node.get(attribute) if attribute else None
        return found if found is None or isinstance(found, list) else [found]
    if isinstance(values, Tensor):
        raise node.unknown("shapes that depend on data")
    return list(values.reshape(-1).tolist()) if values.dtype != object else list(values.reshape(-1))


# ---- On the host: shape arithmetic ----------------------------------------------------------------------------------

ON_NUMPY: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs, "Add": np.add, "And": np.logical_and, "Ceil": np.ceil, "Equal": np.equal, "Floor": np.floor,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "Max": np.maximum, "Min": np.minimum, "Mul": np.multiply, "Neg": np.negative, "Not": np.logical_not,
    "Or": np.logical_or, "Pow": np.power, "Reciprocal": np.reciprocal, "Sqrt": np.sqrt, "Sub": np.subtract,
}  # fmt: skip


@on_host(*ON_NUMPY)
def host_elementwise(node: Node, *operands: Array) -> Array:
    function = ON_NUMPY[node.op_type]
    return np.asarray(function(*operands) if len(operands) == 1 else _folded(function, operands))


@on_host("Where")
def host_where(node: Node, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


def _folded(function: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """a + b + c as (a + b) + c."""
    total = operands[0]
    for operand in operands[1:]:
        total = function(total, operand)
    return total


@on_host("Div")
def host_div(node: Node, a: Array, b: Array) -> Array:
    """Of integers towards zero; a symbolic size is never negative."""
    if "f" in (a.dtype.kind, b.dtype.kind):
        return np.asarray(a / b)
    if object in (a.dtype, b.dtype):
        return np.asarray(a // b)
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)


@on_host("Mod")
def host_mod(node: Node, a: Array, b: Array) -> Array:
    return np.asarray(np.fmod(a, b) if node.get("fmod", 0) else a % b)


@on_host("Identity")
def host_identity(node: Node, x: Array) -> Array:
    return x


@on_host("Cast")
def host_cast(node: Node, x: Array) -> Array:
    to = node.get("to")
    if x.dtype == object:
        change = torch.sym_float if to in FLOATS else torch.sym_int
        changed = np.empty(x.shape, object)
        changed.reshape(-1)[:] = [change(v) for v in x.reshape(-1)]
        return changed
    if to in FLOATS:
        return x.astype(np.float64)
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(to))


@on_host("Gather")
def host_gather(node: Node, x: Array, indices: Array) -> Array:
    return np.asarray(np.take(x, indices.astype(np.int64), node.get("axis", 0)))


@on_host("Concat")
def host_concat(node: Node, *parts: Array) -> Array:
    return np.concatenate(parts, node.get("axis"))


@on_host("Reshape")
def host_reshape(node: Node, x: Array, shape: Array) -> Any:
    if shape.dtype == object:
        return NotImplemented
    return x.reshape([x.shape[i] if s == 0 and not node.get("allowzero", 0) else s for i, s in enumerate(shape)])


@on_host("Unsqueeze")
def host_unsqueeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(_integers(node, axes, "axes") or ()))


@on_host("Squeeze")
def host_squeeze(node: Node, x: Array, axes: Array | None = None) -> Array:
    chosen = _integers(node, axes, "axes")
    return np.squeeze(x, None if chosen is None else tuple(chosen))


@on_host("Transpose")
def host_transpose(node: Node, x: Array) -> Array:
    return np.transpose(x, node.get("perm"))


@on_host("Slice")
def host_slice(node: Node, x: Array, *bounds: Array | None) -> Any:
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in _slices(node, bounds):
        if not all(isinstance(v, int) for v in (start, end)):
            return NotImplemented
        # The end of a slice that runs backwards to the very first lies before it.
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(index)]


@on_host("Split")
def host_split(node: Node, x: Array, split: Array | None = None) -> tuple[Array, ...]:
    axis = node.get("axis", 0)
    parts = _parts(node, split, x.shape[axis])
    return tuple(np.split(x, np.cumsum(parts)[:-1], axis))


@on_host("Range")
def host_range(node: Node, start: Array, limit: Array, delta: Array) -> Array | Tensor:
    numbers = [v.reshape(-1)[0] for v in (start, limit, delta)]
    if any(isinstance(v, torch.SymInt) for v in numbers):
        return torch.arange(*(int(v) if isinstance(v, np.generic) else v for v in numbers))
    return np.arange(*numbers)


@on_host("Expand")
def host_expand(node: Node, x: Array, shape: Array) -> Any:
    if shape.dtype == object:
        return NotImplemented
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


@on_host("Tile")
def host_tile(node: Node, x: Array, repeats: Array) -> Any:
    return NotImplemented if repeats.dtype == object else np.tile(x, repeats)


@on_host("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def host_reduce(node: Node, x: Array, axes: Array | None = None) -> Any:
    chosen = _integers(node, axes, "axes")
    if chosen is None and node.get("noop_with_empty_axes", 0):
        return x
    name = {"ReduceProd": "prod", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}[node.op_type]
    return getattr(np, name)(x, axis=None if not chosen else tuple(chosen), keepdims=bool(node.get("keepdims", 1)))


@on_host("NonZero")
def host_nonzero(node: Node, x: Array) -> Array:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Shape")
def shape(node: Node, x: Tensor) -> Array:
    return _numbers(list(x.shape)[node.get("start", 0) : node.get("end", LARGEST_INDEX)])


@operator("Size")
def size(node: Node, x: Tensor) -> Array:
    return _numbers([math.prod(x.shape)]).reshape(())


@operator("ConstantOfShape", host=(0,))
def constant_of_shape(node: Node, sizes: Array) -> Value:
    """A row of integers is shape arithmetic, anything else a tensor."""
    filler = node.get("value")
    number = np.zeros(1) if filler is None else numpy_helper.to_array(filler)
    dims = _integers(node, sizes) or []
    if len(dims) <= 1 and number.dtype.kind in "iub" and all(isinstance(d, int) for d in dims):
        return np.full(dims, number[0], number.dtype)
    return torch.full(dims, number[0].item(), dtype=node.dtype if number.dtype.kind == "f" else torch.int64)


# ---- One number at a time -------------------------------------------------------------------------------------------

ELEMENTWISE: Mapping[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "Acos": torch.acos, "Acosh": torch.acosh, "Add": torch.add, "And": torch.logical_and,
    "Asin": torch.asin, "Asinh": torch.asinh, "Atan": torch.atan, "Atanh": torch.atanh, "Ceil": torch.ceil,
    "Cos": torch.cos, "Cosh": torch.cosh, "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "Greater": torch.gt, "GreaterOrEqual": torch.ge, "IsNaN": torch.isnan, "Less": torch.lt, "LessOrEqual": torch.le,
    "Log": torch.log, "MatMul": torch.matmul, "Max": torch.maximum, "Min": torch.minimum, "Mul": torch.mul,
    "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or, "Reciprocal": torch.reciprocal,
    "Relu": torch.relu, "Round": torch.round, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin,
    "Sinh": torch.sinh, "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Sub": torch.sub, "Sum": torch.add,
    "Tan": torch.tan, "Tanh": torch.tanh, "Where": torch.where, "Xor": torch.logical_xor,
}  # fmt: skip


@operator(*ELEMENTWISE)
def elementwise(node: Node, *operands: Tensor) -> Tensor:
    """Of any number of operands where the operator takes that."""
    function = ELEMENTWISE[node.op_type]
    return _folded(function, operands) if node.op_type in ("Max", "Min", "Sum") else function(*operands)


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("Mean")
def mean(node: Node, *parts: Tensor) -> Tensor:
    return _folded(torch.add, parts) / len(parts)


@operator("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Pow", host=(1,))
def power(node: Node, x: Tensor, exponent: Value) -> Tensor:
    if isinstance(exponent, Tensor):
        return torch.pow(x, exponent)
    if exponent.size == 1 and exponent.ndim <= x.ndim:  # a number is differentiated without a logarithm
        return torch.pow(x, exponent.item()).reshape(x.shape)
    return torch.pow(x, _as_tensor(exponent, node.dtype, x.device))


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    to = node.get("to")
    if to in FLOATS:
        return x.to(node.dtype)
    if to not in INTEGERS:
        raise node.unknown(f"element type {to}")
    return x.to(INTEGERS[to])


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


@operator("Clip", host=(1, 2))
def clip(node: Node, x: Tensor, low: Value | None = None, high: Value | None = None) -> Tensor:
    lowest = node.get("min") if low is None else _number(low)
    highest = node.get("max") if high is None else _number(high)
    return _clipped(x, lowest, highest)


def _number(value: Value) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value


def _clipped(x: Tensor, low: Any, high: Any) -> Tensor:
    """The gradient passes strictly between the bounds only; torch.clamp would let it pass at the bounds too."""
    if low is None and high is None:
        return x
    if isinstance(low, float) and isinstance(high, float) and low <= high and x.is_floating_point():
        return functional.hardtanh(x, low, high)
    clipped = x if low is None else torch.maximum(x, torch.as_tensor(low, dtype=x.dtype, device=x.device))
    if high is not None:
        clipped = torch.minimum(clipped, torch.as_tensor(high, dtype=x.dtype, device=x.device))
    inside = torch.ones_like(x, dtype=torch.bool)
    inside = inside if low is None else inside & (x > low)
    inside = inside if high is None else inside & (x < high)
    return torch.where(inside, x, clipped.detach())


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return _clipped(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0.0, 1.0)


@operator("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return x * _clipped(x / 6 + 0.5, 0.0, 1.0)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.get("alpha", 0.01))


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    return node.get("gamma", 1.05070102214813232421875) * functional.elu(
        x, node.get("alpha", 1.67326319217681884765625)
    )


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return functional.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    return functional.softplus(x, threshold=40)  # beyond, log(1 + exp(x)) is x to the last bit


@operator("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(node, x))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.get("approximate", "none"))


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    bias, bound = node.get("bias", 0.0), node.get("lambd", 0.5)
    return torch.where(x < -bound, x + bias, torch.where(x > bound, x - bias, torch.zeros_like(x)))


@operator("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    wanted = torch.zeros_like(x, dtype=torch.bool)
    wanted = wanted | ((x == math.inf) & bool(node.get("detect_positive", 1)))
    return wanted | ((x == -math.inf) & bool(node.get("detect_negative", 1)))


@operator("Dropout", host=(1, 2))
def dropout(node: Node, x: Tensor, ratio: Value | None = None, training: Value | None = None) -> tuple[Tensor, ...]:
    if training is not None and (isinstance(training, Tensor) or training.item()):
        raise node.unknown("training_mode")
    return x, torch.ones_like(x, dtype=torch.bool)


# ---- Along axes -----------------------------------------------------------------------------------------------------


@operator("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Before opset 13 over all axes from the given one on."""
    functions: Mapping[str, Callable[[Tensor, int], Tensor]] = {
        "Softmax": torch.softmax,
        "LogSoftmax": torch.log_softmax,
        "Hardmax": _hardmax,
    }
    function = functions[node.op_type]
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % x.ndim
    if axis == x.ndim - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)


def _hardmax(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


REDUCTIONS: Mapping[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceSum": torch.sum,
    "ReduceMean": torch.mean,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}


@operator(*REDUCTIONS, "ReduceProd", host=(1,))
def reduce(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen, keep = _integers(node, axes, "axes"), bool(node.get("keepdims", 1))
    if not chosen:
        if node.get("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.ndim))
    if node.op_type != "ReduceProd":
        return REDUCTIONS[node.op_type](x, chosen, keep)
    for axis in sorted((a % x.ndim for a in chosen), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


@operator("ArgMax", "ArgMin")
def arg_extreme(node: Node, x: Tensor) -> Tensor:
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    find = torch.argmax if node.op_type == "ArgMax" else torch.argmin
    if node.get("select_last_index", 0):
        return x.shape[axis] - 1 - find(x.flip(axis), axis, keepdim=keep)
    return find(x, axis, keepdim=keep)


@operator("TopK", host=(1,))
def top_k(node: Node, x: Tensor, k: Value | None = None) -> tuple[Tensor, ...]:
    (count,) = _integers(node, k, "k") or [1]
    axis = node.get("axis", -1)
    # Unlike torch.topk, a stable sort gives the first of equals, as the specification wants.
    ranked = torch.sort(x, dim=axis, descending=bool(node.get("largest", 1)), stable=True)
    return ranked.values.narrow(axis, 0, count), ranked.indices.narrow(axis, 0, count)


@operator("CumSum", host=(1,))
def cum_sum(node: Node, x: Tensor, axis: Value) -> Tensor:
    (along,) = _integers(node, axis) or [0]
    turned = x.flip(along) if node.get("reverse", 0) else x
    total = turned.cumsum(along)
    if node.get("exclusive", 0):
        total = total - turned
    return total.flip(along) if node.get("reverse", 0) else total


# ---- Shapes ---------------------------------------------------------------------------------------------------------


@operator("Reshape", host=(1,))
def reshape(node: Node, x: Tensor, sizes: Value | None = None) -> Tensor:
    wanted = _integers(node, sizes, "shape") or []
    copied = not node.get("allowzero", 0)
    return x.reshape([x.shape[i] if copied and isinstance(s, int) and s == 0 else s for i, s in enumerate(wanted)])


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Transpose")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm") or list(reversed(range(x.ndim))))


@operator("Squeeze", host=(1,))
def squeeze(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen = _integers(node, axes, "axes")
    if chosen is None:
        chosen = [i for i, d in enumerate(x.shape) if isinstance(d, int) and d == 1]
    gone = {a % x.ndim for a in chosen}
    return x.reshape([d for i, d in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze", host=(1,))
def unsqueeze(node: Node, x: Tensor, axes: Value | None = None) -> Tensor:
    chosen = _integers(node, axes, "axes") or []
    for axis in sorted(a % (x.ndim + len(chosen)) for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Expand", host=(1,))
def expand(node: Node, x: Tensor, sizes: Value) -> Tensor:
    """Either side may be the one that is spread."""
    wanted = _integers(node, sizes) or []
    own = [1] * (len(wanted) - x.ndim) + list(x.shape)
    wanted = [1] * (len(own) - len(wanted)) + wanted
    return x.expand([o if isinstance(w, int) and w == 1 else w for o, w in zip(own, wanted, strict=True)])


@operator("Tile", host=(1,))
def tile(node: Node, x: Tensor, repeats: Value) -> Tensor:
    return x.repeat(_integers(node, repeats) or [])


@operator("Concat")
def concat(node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, node.get("axis"))


@operator("Split", host=(1,))
def split(node: Node, x: Tensor, sizes: Value | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", 0)
    return tuple(torch.split(x, _parts(node, sizes, x.shape[axis]), axis))


def _parts(node: Node, sizes: Value | None, whole: int) -> list[int]:
    """Of a Split; all but the last are equal where none are given."""
    given = _integers(node, sizes, "split")
    if given is not None:
        return given
    count = node.get("num_outputs", len(node.outputs))
    part = -(-whole // count)
    return [*[part] * (count - 1), whole - part * (count - 1)]


def _slices(node: Node, bounds: Sequence[Value | None]) -> list[tuple[Any, Any, int, int]]:
    """(start, end, axis, step) an axis, as given."""
    padded = [*bounds, *[None] * (4 - len(bounds))]
    starts, ends, axes, steps = (
        _integers(node, b, name) for b, name in zip(padded, ("starts", "ends", "axes", "steps"), strict=True)
    )
    if starts is None or ends is None:
        raise node.unknown("no bounds")
    axes = list(range(len(starts))) if axes is None else axes
    return list(zip(starts, ends, axes, steps or [1] * len(starts), strict=True))


@operator("Slice", host=(1, 2, 3, 4))
def slice_(node: Node, x: Tensor, *bounds: Value | None) -> Tensor:
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in _slices(node, bounds):
        if step < 0:  # torch has no negative steps: count from the other end
            side = x.shape[axis]
            start, end = (max(min(v + side if v < 0 else v, side - 1), -1) for v in (start, end))
            x, start, end, step = x.flip(axis), side - 1 - start, side - 1 - end, -step
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


@operator("Gather", host=(1,))
def gather(node: Node, x: Tensor, indices: Value) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray):
        if indices.ndim == 0:
            return x.select(axis, indices.item())
        indices = _as_tensor(indices, node.dtype, x.device)
    rows = _counted_from_zero(indices.long(), x.shape[axis])
    found = x.index_select(axis, rows.reshape(-1))
    return found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _counted_from_zero(indices: Tensor, side: int) -> Tensor:
    return torch.where(indices < 0, indices + side, indices)


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, _counted_from_zero(indices, x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    if node.get("batch_dims", 0):
        raise node.unknown("batch_dims")
    return x[tuple(indices.movedim(-1, 0))]


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, how = node.get("axis", 0), node.get("reduction", "none")
    rows = _counted_from_zero(indices, x.shape[axis])
    if how == "none":
        return x.scatter(axis, rows, updates)
    if how == "add":
        return x.scatter_add(axis, rows, updates)
    return x.scatter_reduce(axis, rows, updates, {"mul": "prod", "max": "amax", "min": "amin"}[how])


@operator("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    how = node.get("reduction", "none")
    if how not in ("none", "add"):
        raise node.unknown(f"reduction {how}")
    return x.index_put(tuple(indices.movedim(-1, 0)), updates, accumulate=how == "add")


@operator("OneHot", host=(1,))
def one_hot(node: Node, indices: Tensor, depth: Value, off_and_on: Tensor) -> Tensor:
    (count,) = _integers(node, depth) or [1]
    axis = node.get("axis", -1) % (indices.ndim + 1)
    hit = _counted_from_zero(indices.long(), count)[..., None] == torch.arange(count, device=indices.device)
    return torch.where(hit.movedim(-1, axis), off_and_on[1], off_and_on[0])


@operator("Trilu", host=(1,))
def trilu(node: Node, x: Tensor, diagonal: Value | None = None) -> Tensor:
    (offset,) = _integers(node, diagonal) or [0]
    return torch.triu(x, offset) if node.get("upper", 1) else torch.tril(x, offset)


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    b = node.get("blocksize")
    if node.get("mode", "DCR") == "DCR":
        blocks = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, c // (b * b), b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, c // (b * b), h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    if node.get("mode", "DCR") != "DCR":
        raise node.unknown("mode")
    n, c, h, w = x.shape
    b = node.get("blocksize")
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operator("Pad", host=(1, 2, 3))
def pad(node: Node, x: Tensor, pads: Value | None = None, filler: Value | None = None,
        axes: Value | None = None) -> Tensor:  # fmt: skip
    amounts, mode = _integers(node, pads, "pads") or [], node.get("mode", "constant")
    chosen = _integers(node, axes)
    sides = list(range(x.ndim)) if chosen is None else [a % x.ndim for a in chosen]
    before = dict(zip(sides, amounts, strict=False))
    after = dict(zip(sides, amounts[len(sides) :], strict=True))
    if mode == "constant":
        if isinstance(filler, Tensor):
            raise node.unknown("a filler that depends on data")
        number = node.get("value", 0.0) if filler is None else filler.item()
        flat = [a for i in reversed(range(x.ndim)) for a in (before.get(i, 0), after.get(i, 0))]
        return functional.pad(x, flat, value=number)
    for axis in sides:
        if before[axis] or after[axis]:
            rows = np.pad(np.arange(x.shape[axis]), (before[axis], after[axis]), mode)
            x = along(x, axis, np.eye(x.shape[axis])[rows])
    return x


def along(x: Tensor, axis: int, matrix: Array) -> Tensor:
    """A linear map (target, source) along one axis."""
    weights = torch.tensor(matrix, dtype=x.dtype, device=x.device)
    return (x.movedim(axis, -1) @ weights.T).movedim(-1, axis)


# ---- Resize ---------------------------------------------------------------------------------------------------------


@operator("Upsample", "Resize", host=(1, 2, 3))
def resize(node: Node, x: Tensor, *operands: Value | None) -> Tensor:
    """Every mode is a matrix an axis. Upsample and Resize-10 have the scales where Resize-11 has the region."""
    old = node.op_type == "Upsample" or node.opset < 11
    scales, sizes = (*operands, None)[:2] if old else (*operands[1:], None, None)[:2]
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unknown("keep_aspect_ratio_policy")
    axes = node.get("axes") or list(range(x.ndim))
    targets = _integers(node, sizes) if sizes is not None and not old else None
    factors = (node.get("scales") if scales is None else _integers(node, scales)) or []
    for i, axis in enumerate(axes):
        side = x.shape[axis]
        target = targets[i] if targets else math.floor(side * factors[i]) if factors[i] != 1 else side
        if target is side or target == side:
            continue
        scale = factors[i] if factors and not targets else target / side
        x = along(x.to(node.dtype), axis, _resize_matrix(node, side, target, scale, old))
    return x


def _resize_matrix(node: Node, source: int, target: int, scale: float, old: bool) -> Array:
    """(target, source) weights as the specification of Resize has them."""
    how = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    at, mode = _sampled(node, how, source, target, scale), node.get("mode", "nearest")
    if mode == "nearest":
        rounding = ("floor" if scale > 1 else "ceil") if old else node.get("nearest_mode", "round_prefer_floor")
        return np.eye(source)[np.clip(NEAREST[rounding](at), 0, source - 1).astype(np.int64)]
    stretch = min(scale, 1.0) if node.get("antialias", 0) else 1.0
    a = node.get("cubic_coeff_a", -0.75)
    kernel, reach = (_triangle, 1) if mode == "linear" else ((lambda d: _cubic(d, a)), 2)
    reach = math.ceil(reach / stretch)
    taps = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    weights = kernel(np.abs(taps - at[:, None]) * stretch)
    if node.get("exclude_outside", 0):
        weights = np.where((taps >= 0) & (taps < source), weights, 0)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target)[:, None], np.clip(taps, 0, source - 1)), weights)
    return matrix


NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _sampled(node: Node, how: str, source: int, target: int, scale: float) -> Array:
    """(target,) places on the source."""
    i = np.arange(target, dtype=np.float64)
    if how == "half_pixel" or (how == "pytorch_half_pixel" and target > 1):
        return (i + 0.5) / scale - 0.5
    if how == "pytorch_half_pixel" or (how == "align_corners" and target == 1):
        return np.zeros(1)
    if how == "align_corners":
        return i * (source - 1) / (target - 1)
    if how == "asymmetric":
        return i / scale
    if how == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if how == "half_pixel_symmetric":
        return source / 2 * (1 - target / (scale * source)) + (i + 0.5) / scale - 0.5
    raise node.unknown(f"coordinate_transformation_mode {how}")


def _triangle(distance: Array) -> Array:
    return np.maximum(1 - distance, 0)


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


# ---- Products -------------------------------------------------------------------------------------------------------


@operator("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    product = (a.T if node.get("transA", 0) else a) @ (b.T if node.get("transB", 0) else b)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = product if alpha == 1 else alpha * product
    return product if c is None else product + (c if beta == 1 else beta * c)


@operator("Einsum")
def einsum(node: Node, *operands: Tensor) -> Tensor:
    return torch.einsum(node.get("equation"), *operands)


CONVOLUTIONS: Mapping[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED: Mapping[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
MAX_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
AVERAGE_POOLS: Mapping[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


@dataclass(frozen=True)
class Windows:
    """Of a convolution or a pooling, one number an axis; before, after: the padding."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]

    @property
    def is_even(self) -> bool:
        return self.before == self.after

    def padded(self, x: Tensor, value: float = 0.0) -> Tensor:
        pairs = list(zip(self.before, self.after, strict=True))
        flat = [amount for pair in reversed(pairs) for amount in pair]
        return functional.pad(x, flat, value=value) if any(flat) else x


def _windows(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> Windows:
    rank = len(kernel)
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    pads, auto = node.get("pads") or [0] * 2 * rank, node.get("auto_pad", "NOTSET")
    before, after = list(pads[:rank]), list(pads[rank:])
    if auto == "VALID":
        before, after = [0] * rank, [0] * rank
    elif auto != "NOTSET":
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        total = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sides, strides, reach, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    return Windows(list(kernel), strides, dilations, before, after)


@operator("Conv")
def conv(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    f = _windows(node, x.shape[2:], w.shape[2:])
    padding: Any = f.before if f.is_even else 0
    x = x if f.is_even else f.padded(x)
    return CONVOLUTIONS[w.ndim - 2](x, w, bias, f.strides, padding, f.dilations, node.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = w.ndim - 2
    f = _windows(node, x.shape[2:], w.shape[2:])
    extra = node.get("output_padding") or [0] * rank
    before, after = f.before, f.after
    sizes, auto = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if sizes or auto not in ("NOTSET", "VALID"):
        sizes = sizes[-rank:] if sizes else [n * s for n, s in zip(x.shape[2:], f.strides, strict=True)]
        reach = [d * (k - 1) + 1 for d, k in zip(f.dilations, f.kernel, strict=True)]
        sides = zip(x.shape[2:], f.strides, reach, extra, sizes, strict=True)
        total = [s * (n - 1) + e + r - size for n, s, r, e, size in sides]
        # SAME_UPPER leaves the odd one at the end, all else at the beginning.
        after = [-(-t // 2) if auto == "SAME_UPPER" else t // 2 for t in total]
        before = [t - a for t, a in zip(total, after, strict=True)]
    even = before == after and min(before) >= 0
    group = node.get("group", 1)
    y = TRANSPOSED[rank](x, w, bias, f.strides, before if even else 0, extra, group, f.dilations)
    if even:
        return y
    return functional.pad(y, [-a for pair in reversed(list(zip(before, after, strict=True))) for a in pair])


# ---- Pooling --------------------------------------------------------------------------------------------------------


def _fitted(node: Node, sides: Sequence[int], f: Windows) -> Windows:
    """The same with a padding (or cropping) at the end that makes the windows fill the sides, whole ones only."""
    after = []
    for i, side in enumerate(sides):
        reach = f.dilations[i] * (f.kernel[i] - 1) + 1
        room = side + f.before[i] + f.after[i] - reach
        count = (-(-room // f.strides[i]) if node.get("ceil_mode", 0) else room // f.strides[i]) + 1
        if node.get("ceil_mode", 0) and (count - 1) * f.strides[i] >= side + f.before[i]:
            count -= 1  # a window may not begin in the padding at the end
        after.append((count - 1) * f.strides[i] + reach - side - f.before[i])
    return Windows(f.kernel, f.strides, f.dilations, f.before, after)


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Tensor:
    f = _windows(node, x.shape[2:], node.get("kernel_shape"))
    pool = MAX_POOLS[len(f.kernel)]
    if f.is_even and not node.get("ceil_mode", 0) and all(2 * p <= k for p, k in zip(f.before, f.kernel, strict=True)):
        return pool(x, f.kernel, f.strides, f.before, f.dilations)
    padded = _fitted(node, x.shape[2:], f).padded(x, -math.inf)
    return pool(padded, f.kernel, f.strides, 0, f.dilations)


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Padding counts if count_include_pad says so; what ceil_mode adds beyond it never does."""
    f = _windows(node, x.shape[2:], node.get("kernel_shape"))
    included = bool(node.get("count_include_pad", 0))
    simple = not node.get("ceil_mode", 0) and all(d == 1 for d in f.dilations)
    if simple and f.is_even and all(2 * p <= k for p, k in zip(f.before, f.kernel, strict=True)):
        return AVERAGE_POOLS[len(f.kernel)](x, f.kernel, f.strides, f.before, count_include_pad=included)
    fitted = _fitted(node, x.shape[2:], f)
    counted = x.new_ones([1, 1, *x.shape[2:]])
    if included:
        within = [min(a, b) for a, b in zip(f.after, fitted.after, strict=True)]
        counted = Windows(f.kernel, f.strides, f.dilations, f.before, within).padded(counted, 1.0)
        rest = [b - a for a, b in zip(within, fitted.after, strict=True)]
        counted = Windows(f.kernel, f.strides, f.dilations, [0] * len(rest), rest).padded(counted)
    else:
        counted = fitted.padded(counted)
    return _window_sums(fitted.padded(x), f) / _window_sums(counted, f)


def _window_sums(x: Tensor, f: Windows) -> Tensor:
    flat = x.reshape(-1, 1, *x.shape[2:])
    sums = CONVOLUTIONS[len(f.kernel)](flat, x.new_ones([1, 1, *f.kernel]), None, f.strides, 0, f.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@operator("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    f = _windows(node, x.shape[2:], node.get("kernel_shape"))
    p = node.get("p", 2)
    return _window_sums(_fitted(node, x.shape[2:], f).padded(x.abs() ** p), f) ** (1 / p)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), True)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.ndim)), True)


@operator("GlobalLpPool")
def global_lp_pool(node: Node, x: Tensor) -> Tensor:
    p = node.get("p", 2)
    return (x.abs() ** p).sum(list(range(2, x.ndim)), True) ** (1 / p)


# ---- Normalisation --------------------------------------------------------------------------------------------------


def _per_channel(weights: Tensor, rank: int) -> Tensor:
    return weights.reshape([-1, *[1] * (rank - 2)])


@operator("BatchNormalization")
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, center: Tensor, spread: Tensor) -> Tensor:
    if node.get("training_mode", 0) or not node.get("spatial", 1):
        raise node.unknown("training_mode or spatial=0")
    factor = scale / torch.sqrt(spread + node.get("epsilon", 1e-5))
    return x * _per_channel(factor, x.ndim) + _per_channel(bias - center * factor, x.ndim)


def _standardised(node: Node, x: Tensor, axes: list[int], epsilon: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / deviation, the mean and the inverse deviation."""
    center = x.mean(axes, True)
    inverse = torch.rsqrt((x - center).square().mean(axes, True) + node.get("epsilon", epsilon))
    return (x - center) * inverse, center, inverse


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = node.get("axis", -1)
    y, center, inverse = _standardised(node, x, list(range(axis % x.ndim, x.ndim)))
    return (y * scale if bias is None else y * scale + bias), center, inverse


@operator("RMSNormalization")
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(node.get("axis", -1) % x.ndim, x.ndim))
    return x * torch.rsqrt(x.square().mean(axes, True) + node.get("epsilon", 1e-5)) * scale


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    y, _, _ = _standardised(node, x, list(range(2, x.ndim)))
    return y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)


@operator("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Until opset 21 scale and bias had one number a group."""
    groups, channels = node.get("num_groups"), x.shape[1]
    y, _, _ = _standardised(node, x.reshape(x.shape[0], groups, -1), [2])
    if scale.numel() != channels:
        scale, bias = (w.repeat_interleave(channels // groups) for w in (scale, bias))
    return y.reshape(x.shape) * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, x: Tensor) -> Tensor:
    axes = node.get("axes") or [0, 2, 3]
    centred = x - x.mean(axes, True)
    return centred / (centred.square().mean(axes, True).sqrt() + 1e-9)


@operator("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", -1)
    length = x.abs().sum(axis, True) if node.get("p", 2) == 1 else x.square().sum(axis, True).sqrt()
    return x / torch.where(length > 0, length, torch.ones_like(length))


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    width, channels = node.get("size"), x.shape[1]
    before = (width - 1) // 2
    square = functional.pad(x.square(), [*[0, 0] * (x.ndim - 2), before, width - 1 - before])
    total = _folded(torch.add, [square[:, i : i + channels] for i in range(width)])
    return x / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / width * total) ** node.get("beta", 0.75)


# ---- Sequences and attention ----------------------------------------------------------------------------------------


@operator("LSTM")
def lstm(node: Node, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
    """x (T,N,I); w (directions,4H,I), its gates in the order input, output, forget, cell."""
    bias, lengths, h, c, peephole = (*rest, *[None] * 5)[:5]
    usual = ["Sigmoid", "Tanh", "Tanh"] * w.shape[0]
    odd = lengths is not None or peephole is not None or node.get("clip") or node.get("input_forget", 0)
    if odd or node.get("activations", usual) != usual or node.get("layout", 0):
        raise node.unknown("lengths, peepholes, clip, input_forget, layout or activations of its own")
    sequences, last_h, last_c = [], [], []
    for d in range(w.shape[0]):
        start = [x.new_zeros(x.shape[1], r.shape[2]) if s is None else s[d] for s in (h, c)]
        offset = x.new_zeros(w.shape[1]) if bias is None else bias[d].reshape(2, -1).sum(0)
        order = -1 if d == 1 or node.get("direction") == "reverse" else 1
        made, state = _lstm_steps(x.unbind(0)[::order], w[d], r[d], offset, start[0], start[1])
        sequences.append(torch.stack(made[::order]))
        last_h.append(state[0])
        last_c.append(state[1])
    return torch.stack(sequences, 1), torch.stack(last_h), torch.stack(last_c)


def _lstm_steps(
    steps: Sequence[Tensor], w: Tensor, r: Tensor, offset: Tensor, h: Tensor, c: Tensor
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    made = []
    for step in steps:
        enter, leave, forget, cell = (step @ w.T + h @ r.T + offset).chunk(4, 1)
        c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
        h = torch.sigmoid(leave) * torch.tanh(c)
        made.append(h)
    return made, (h, c)


@operator("Attention")
def attention(node: Node, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *past: Tensor | None) -> Tensor:
    """Of opset 23; (N,heads,T,D), or (N,T,heads*D) with the numbers of heads as attributes."""
    odd = set(node.attributes) - {"q_num_heads", "kv_num_heads", "scale", "is_causal", "softmax_precision"}
    if any(p is not None for p in past) or odd or len([o for o in node.outputs if o]) > 1:
        raise node.unknown("a past, several outputs or unusual attributes")
    flat = q.ndim == 3
    if flat:
        heads = [node.get("q_num_heads"), node.get("kv_num_heads"), node.get("kv_num_heads")]
        q, k, v = (t.reshape(*t.shape[:2], n, -1).transpose(1, 2) for t, n in zip((q, k, v), heads, strict=True))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) if t.shape[1] != q.shape[1] else t for t in (k, v))
    products = q @ k.transpose(-1, -2) * node.get("scale", 1 / math.sqrt(q.shape[-1]))
    if node.get("is_causal", 0):
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        products = products.masked_fill(~seen, -math.inf)
    if mask is not None:
        products = products.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else products + mask
    y = torch.softmax(products, -1) @ v
    return y.transpose(1, 2).flatten(2) if flat else y


# ---- Quantised numbers ----------------------------------------------------------------------------------------------


def _spread(node: Node, x: Tensor, parameter: Tensor, axis: int) -> Tensor:
    """A scale or zero point, of the whole, of an axis or of blocks along it, beside x."""
    if parameter.numel() == 1 or x.ndim == 0:
        return parameter.reshape(())
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    blocks = parameter.repeat_interleave(node.get("block_size"), axis)
    return blocks.narrow(axis, 0, x.shape[axis])


def _quantised(node: Node, x: Tensor, scale: Tensor, zero: Value | None, axis: int = 1) -> Tensor:
    """Integers as floats, rounded half to even and saturated, with the gradient of the division where they are not."""
    if zero is None:
        to = node.get("output_dtype", 0) or TensorProto.UINT8
        kind, point = onnx.helper.tensor_dtype_to_np_dtype(to).name, x.new_zeros(())
    elif isinstance(zero, np.ndarray):
        kind, point = zero.dtype.name, _as_tensor(zero, node.dtype, x.device).to(node.dtype)
    else:
        kind, point = str(zero.dtype).removeprefix("torch."), zero.to(node.dtype)
    if kind not in RANGES:
        raise node.unknown(f"numbers of type {kind}")
    exact = x / _spread(node, x, scale, axis)
    # As of Hardtanh, no gradient at the bounds either: quantisers do away with a Relu whose bounds the integers have.
    held = functional.hardtanh(exact + _spread(node, x, point, axis), *map(float, RANGES[kind]))
    stepped = torch.clamp(torch.round(exact) + _spread(node, x, point, axis), *RANGES[kind])
    return held + (stepped - held).detach()


def _dequantised(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None, axis: int = 1) -> Tensor:
    x = x.to(node.dtype)
    shifted = x if zero is None else x - _spread(node, x, zero.to(node.dtype), axis)
    return shifted * _spread(node, x, scale, axis)


@operator("QuantizeLinear", host=(2,))
def quantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Value | None = None) -> Tensor:
    return _quantised(node, x, scale, zero, node.get("axis", 1))


@operator("DequantizeLinear")
def dequantize_linear(node: Node, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    return _dequantised(node, x, scale, zero, node.get("axis", 1))


@operator("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """The scale and the zero point are taken as constants."""
    low, high = x.detach().amin().clamp(max=0), x.detach().amax().clamp(min=0)
    scale = (high - low) / 255
    zero = torch.round(torch.clamp(-low / scale, 0, 255))
    shifted = x / scale + zero
    stepped = torch.clamp(torch.round(x / scale) + zero, 0, 255)
    return shifted + (stepped - shifted).detach(), scale, zero


def _shifted(node: Node, x: Tensor, zero: Tensor | None, axis: int) -> Tensor:
    return x.to(node.dtype) if zero is None else x.to(node.dtype) - _spread(node, x, zero.to(node.dtype), axis)


@operator("ConvInteger")
def conv_integer(node: Node, x: Tensor, w: Tensor, x0: Tensor | None = None, w0: Tensor | None = None) -> Tensor:
    return conv(node, _shifted(node, x, x0, 0), _shifted(node, w, w0, 0))


@operator("MatMulInteger")
def matmul_integer(node: Node, a: Tensor, b: Tensor, a0: Tensor | None = None, b0: Tensor | None = None) -> Tensor:
    return _shifted(node, a, a0, -2) @ _shifted(node, b, b0, -1)


@operator("QLinearConv", host=(7,))
def qlinear_conv(node: Node, x: Tensor, xs: Tensor, x0: Tensor, w: Tensor, ws: Tensor, w0: Tensor, ys: Tensor,
                 y0: Value, bias: Tensor | None = None) -> Tensor:  # fmt: skip
    offset = None if bias is None else bias.to(node.dtype) * xs * ws
    y = conv(node, _dequantised(node, x, xs, x0), _dequantised(node, w, ws, w0, 0), offset)
    return _quantised(node, y, ys, y0)


@operator("QLinearMatMul", host=(7,))
def qlinear_matmul(node: Node, a: Tensor, as_: Tensor, a0: Tensor, b: Tensor, bs: Tensor, b0: Tensor, ys: Tensor,
                   y0: Value) -> Tensor:  # fmt: skip
    y = _dequantised(node, a, as_, a0, -2) @ _dequantised(node, b, bs, b0, -1)
    return _quantised(node, y, ys, y0, -2)
