"""The table of gradient rules, and what a rule sees: the node on the way back, and the operators to answer with.

    @gradient("Mul", since=(7, 13, 14), broadcasts=True)
    def mul(op, step, dy):
        a, b = step.inputs
        return op.Mul(dy, b), op.Mul(dy, a)

A rule returns one cotangent an input, None where none flows; a single value stands for the first input. Only standard
operators, in forms that are valid from opset 18 on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shape, Shapes, Value
from onnxcam.types import Arrays


class Ops:
    """`op.Mul(x, y)` adds a Mul behind the graph's nodes and gives its output."""

    def __init__(self, model: Model, prefix: str, dtype: onnx_ir.DataType) -> None:
        """dtype: of all that flows back, float32 but in tests."""
        self.build, self.dtype = Builder(model, prefix), dtype
        self._known: dict[tuple[bytes, tuple[int, ...], str], Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.build(op_type, *inputs, **attributes)

    def several(self, op_type: str, *inputs: Value | None, outputs: int, **attributes: object) -> Sequence[Value]:
        return self.build.several(op_type, *inputs, outputs=outputs, **attributes)

    def number(self, value: npt.ArrayLike) -> Value:
        """A constant of the gradients' type."""
        return self._constant(np.asarray(value, self.dtype.numpy()))

    def integers(self, values: npt.ArrayLike) -> Value:
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, array: npt.NDArray[np.generic]) -> Value:
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self._known:
            self._known[key] = self.build.constant(array, array.dtype)
        return self._known[key]

    def real(self, condition: Value) -> Value:
        """1 where true, 0 where false."""
        return self.Cast(condition, to=int(self.dtype))

    def sum(self, x: Value, axes: Sequence[int], *, keepdims: bool = True) -> Value:
        return self.ReduceSum(x, self.integers(list(axes)), keepdims=int(keepdims)) if axes else x

    def mean(self, x: Value, axes: Sequence[int]) -> Value:
        return self.ReduceMean(x, self.integers(list(axes)), keepdims=1)

    def reshape(self, x: Value, target: Sequence[int]) -> Value:
        return self.Reshape(x, self.integers(list(target)))

    def unsqueeze(self, x: Value, axes: Sequence[int]) -> Value:
        return self.Unsqueeze(x, self.integers(list(axes))) if axes else x

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        return x if list(perm) == sorted(perm) else self.Transpose(x, perm=list(perm))

    def swapped(self, x: Value, rank: int) -> Value:
        """With the last two axes exchanged."""
        return self.transpose(x, [*range(rank - 2), rank - 1, rank - 2])

    def zeros_like(self, x: Value) -> Value:
        return self.ConstantOfShape(self.Shape(x), value=onnx_ir.tensor(np.zeros(1, self.dtype.numpy())))

    def pad(self, x: Value, rank: int, pads: Mapping[int, tuple[int, int]]) -> Value:
        """Zeros before and after, by axis; negative numbers cut off."""
        cut = {a: (max(-p, 0), max(-q, 0)) for a, (p, q) in pads.items() if p < 0 or q < 0}
        grown = {a: (max(p, 0), max(q, 0)) for a, (p, q) in pads.items() if p > 0 or q > 0}
        if cut:
            x = self.slice(x, {a: (p, -q if q else ir.END) for a, (p, q) in cut.items()})
        if grown:
            before, after = ([grown.get(a, (0, 0))[side] for a in range(rank)] for side in (0, 1))
            x = self.Pad(x, self.integers(before + after))
        return x

    def slice(self, x: Value, bounds: Mapping[int, tuple[int, int]], step: int = 1) -> Value:
        """start:end:step along each of the axes."""
        axes = sorted(bounds)
        starts, ends = ([bounds[a][side] for a in axes] for side in (0, 1))
        steps = [self.integers([step] * len(axes))] if step != 1 else []
        return self.Slice(x, self.integers(starts), self.integers(ends), self.integers(axes), *steps)

    def sum_to(self, x: Value, have: Shape, want: Shape) -> Value:
        """x of shape `have` summed over whatever broadcasting repeated, so that its shape is `want`."""
        lead = len(have) - len(want)
        spread = [lead + i for i, (h, w) in enumerate(zip(have[lead:], want, strict=True)) if w == 1 and h != 1]
        x = self.sum(x, spread)
        return self.sum(x, range(lead), keepdims=False) if lead else x


@dataclass(frozen=True, eq=False)
class BackwardNode:
    """One node on the way back.

    shapes: of every tensor, None for an entry that depends on the batch. known: tensors that are the same for every
    picture and batch. active: the positions of the inputs that a cotangent is wanted for. cotangents: of all outputs.
    """

    node: Node
    since: int
    shapes: Shapes
    known: Arrays
    active: frozenset[int]
    cotangents: Sequence[Value | None]

    @property
    def inputs(self) -> Sequence[Value]:
        """Rules name the inputs that their operator always has; see optional() for the others."""
        return self.node.inputs  # type: ignore[return-value]

    @property
    def x(self) -> Value:
        return self.inputs[0]

    @property
    def y(self) -> Value:
        return self.node.outputs[0]

    def through(self, position: int) -> "BackwardNode":
        """The same step where a gradient is wanted for one input only."""
        return replace(self, active=frozenset({position}))

    def further_output(self, position: int) -> Value:
        """An optional output of the node, asked for if the model did not."""
        if position >= len(self.node.outputs):
            self.node.resize_outputs(position + 1)
        found = self.node.outputs[position]
        if not found.name:
            found.name = f"{self.y.name}/output_{position}"
        return found

    def optional(self, position: int) -> Value | None:
        return self.node.inputs[position] if position < len(self.node.inputs) else None

    def dims(self, value: Value) -> Shape:
        """Raises MissingGradient where the shape is not known."""
        array = ir.constant(value)
        if array is not None:
            return array.shape
        found = self.shapes.get(str(value.name))
        if found is None:
            raise self.refusal(f"takes {value.name!r}, whose shape is not known")
        return found

    def quantised_dtype(self) -> np.dtype[np.generic]:
        """The integers that a quantiser gives: those of its zero point, or of its attribute."""
        zero = self.array(2)
        if zero is not None:
            return zero.dtype
        named = self.node.attributes.get("output_dtype")
        return onnx_ir.DataType(named.as_int()).numpy() if named is not None and named.as_int() else np.dtype(np.uint8)

    def static(self, value: Value, axes: Sequence[int]) -> list[int]:
        """Sizes of these axes; raises MissingGradient where one depends on the batch."""
        sizes = [self.dims(value)[a] for a in axes]
        if any(s is None for s in sizes):
            raise self.refusal(f"works along an axis of {value.name!r} whose size depends on the batch")
        return [int(s) for s in sizes if s is not None]

    def rank(self, value: Value) -> int:
        return len(self.dims(value))

    def array(self, position: int) -> npt.NDArray[np.generic] | None:
        """An input's numbers where they are the same for every picture; None where it is absent.

        Raises MissingGradient where they depend on the picture or the batch.
        """
        value = self.optional(position)
        if value is None:
            return None
        found = ir.constant(value)
        if found is None:
            found = self.known.get(str(value.name))
        if found is None:
            raise self.refusal(f"takes parameters that are computed at run time ({value.name!r})")
        return found

    def integer(self, name: str, default: int) -> int:
        return ir.integer(self.node, name, default)

    def integers(self, name: str, position: int | None = None) -> list[int] | None:
        """From the attribute, or from the input in opsets where it is one; None where absent."""
        if name in self.node.attributes:
            return ir.integers(self.node, name)
        array = self.array(position) if position is not None else None
        return [int(i) for i in array.reshape(-1)] if array is not None else None

    def number(self, name: str, default: float) -> float:
        found = self.node.attributes.get(name)
        return default if found is None else float(found.as_float())

    def text(self, name: str, default: str) -> str:
        found = self.node.attributes.get(name)
        return default if found is None else str(found.as_string())

    def refusal(self, reason: str) -> MissingGradient:
        return MissingGradient(f"no gradient for {describe(self.node, self.since)}: it {reason}")

    def only(self, *positions: int) -> None:
        """Raises MissingGradient if a gradient is wanted for any other input, say a weight made from the picture."""
        for i in sorted(self.active - set(positions)):
            raise self.refusal(f"has an input {i} that depends on the picture, and the rule knows it as a parameter")


Cotangents = Value | None | Sequence[Value | None]
Rule = Callable[[Ops, BackwardNode, Value], Cotangents]


@dataclass(frozen=True)
class Registered:
    rule: Rule
    since: frozenset[int]
    broadcasts: bool


@dataclass(frozen=True)
class Rules:
    """By operator, and by the opset version from which that form of it holds."""

    table: dict[tuple[str, int], Registered] = field(default_factory=dict)

    def add(self, op_type: str, since: Sequence[int], rule: Rule, broadcasts: bool) -> None:
        for version in since:
            self.table[op_type, version] = Registered(rule, frozenset(since), broadcasts)


RULES = Rules()

ZERO = frozenset(
    "And ArgMax ArgMin Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil ConstantOfShape Equal "
    "EyeLike Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual Multinomial NonMaxSuppression NonZero "
    "Not OneHot Or RandomNormalLike RandomUniformLike Range Round Shape Sign Size Unique Xor".split()
)
"""Operators whose output does not change with small changes of what they take."""


def gradient(names: str, *, since: Sequence[int], broadcasts: bool = False, domain: str = "") -> Callable[[Rule], Rule]:
    """Registers a rule for operators (blanks between them) in the forms that these opsets introduced.

    since: as in the table of ONNX's operators; (0,) for a domain of its own. broadcasts: the cotangents have
    the output's shape, and the driver sums them over what was repeated. A later registration replaces an earlier one,
    so that a user's rule wins.
    """

    def register(rule: Rule) -> Rule:
        for name in names.split():
            RULES.add(f"{domain}.{name}" if domain else name, since, rule, broadcasts)
        return rule

    return register


def key_of(node: Node, since: int) -> tuple[str, int]:
    """Of the node's operator in the table."""
    return (node.op_type if ir.is_standard(node) else f"{node.domain}.{node.op_type}", since)


def operator_name(node: Node, since: int) -> str:
    """With the opset of its form; of a domain of its own, with that."""
    name, _ = key_of(node, since)
    return f"{name}-{since}" if ir.is_standard(node) else name


def describe(node: Node, since: int) -> str:
    first = next((str(v.name) for v in node.outputs if v.name), "")
    return f"{operator_name(node, since)} (node {node.name or first!r})"
