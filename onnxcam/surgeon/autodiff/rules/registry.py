"""The table of gradient rules (VJP_RULES), the decorator that fills it, and the two arguments that every rule receives.

    @gradient("Mul", since=(7, 13, 14), broadcasts=True)
    def mul(op, node, dy):
        a, b = node.inputs
        return op.Mul(dy, b), op.Mul(dy, a)

`op` (Ops) adds nodes to the graph. `node` (BackwardNode) describes the forward node: its inputs, output, attributes and
shapes. `dy` is the cotangent of the node's first output. The rule returns one cotangent per input, None where no
gradient flows. A single value is the cotangent of the first input. Rules use standard ONNX operators only, in forms
that are valid from opset 18 on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import MissingGradient
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Shape, Shapes, Value
from onnxcam.types import Arrays


class Ops:
    """Adds nodes to the graph: `op.Mul(x, y)` appends a Mul and returns its output."""

    def __init__(self, model: Model, prefix: str, dtype: onnx_ir.DataType) -> None:
        """prefix: of the new names. dtype: element type of the gradients (float32 except in tests)."""
        self.build, self.dtype = Builder(model, prefix), dtype
        self._constants: dict[tuple[bytes, tuple[int, ...], str], Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.build(op_type, *inputs, **attributes)

    def several(self, op_type: str, *inputs: Value | None, outputs: int, **attributes: object) -> Sequence[Value]:
        """Appends a node with `outputs` outputs and returns all of them."""
        return self.build.several(op_type, *inputs, outputs=outputs, **attributes)

    def number(self, value: npt.ArrayLike) -> Value:
        """A constant of the gradients' element type."""
        return self._constant(np.asarray(value, self.dtype.numpy()))

    def integers(self, values: npt.ArrayLike) -> Value:
        """An int64 constant."""
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, array: npt.NDArray[np.generic]) -> Value:
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self._constants:
            self._constants[key] = self.build.constant(array, array.dtype)
        return self._constants[key]

    def indicator(self, condition: Value) -> Value:
        """1 where the condition holds, 0 elsewhere, in the gradients' element type."""
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

    def swap_last_axes(self, x: Value, rank: int) -> Value:
        """x with its last two axes exchanged."""
        return self.transpose(x, [*range(rank - 2), rank - 1, rank - 2])

    def zeros_like(self, x: Value) -> Value:
        return self.ConstantOfShape(self.Shape(x), value=onnx_ir.tensor(np.zeros(1, self.dtype.numpy())))

    def pad(self, x: Value, rank: int, pads: Mapping[int, tuple[int, int]]) -> Value:
        """x padded with zeros (before, after) along the named axes; a negative number crops."""
        cut = {a: (max(-p, 0), max(-q, 0)) for a, (p, q) in pads.items() if p < 0 or q < 0}
        grown = {a: (max(p, 0), max(q, 0)) for a, (p, q) in pads.items() if p > 0 or q > 0}
        if cut:
            x = self.slice(x, {a: (p, -q if q else ir.END) for a, (p, q) in cut.items()})
        if grown:
            before, after = ([grown.get(a, (0, 0))[side] for a in range(rank)] for side in (0, 1))
            x = self.Pad(x, self.integers(before + after))
        return x

    def slice(self, x: Value, bounds: Mapping[int, tuple[int, int]], step: int = 1) -> Value:
        """x[start:end:step] along each of the named axes."""
        axes = sorted(bounds)
        starts, ends = ([bounds[a][side] for a in axes] for side in (0, 1))
        steps = [self.integers([step] * len(axes))] if step != 1 else []
        return self.Slice(x, self.integers(starts), self.integers(ends), self.integers(axes), *steps)

    def sum_to(self, x: Value, shape: Shape, target: Shape) -> Value:
        """Undoes broadcasting: sums x, which has shape `shape`, over the repeated axes. Returns shape `target`."""
        lead = len(shape) - len(target)
        repeated = [lead + i for i, (d, t) in enumerate(zip(shape[lead:], target, strict=True)) if t == 1 and d != 1]
        x = self.sum(x, repeated)
        return self.sum(x, range(lead), keepdims=False) if lead else x


@dataclass(frozen=True, eq=False)
class BackwardNode:
    """One forward node, as its gradient rule sees it during the backward pass.

    forward: the node in the forward graph. since: the opset that introduced its form of the operator. shapes: shape of
    every tensor by name, None for an axis that depends on the batch. known: tensors with the same numbers for every
    image and batch size, by name. active: positions of the inputs that need a cotangent. cotangents: one per output of
    the forward node, None where the score does not depend on that output.
    """

    forward: Node
    since: int
    shapes: Shapes
    known: Arrays
    active: frozenset[int]
    cotangents: Sequence[Value | None]

    @property
    def op_type(self) -> str:
        return self.forward.op_type

    @property
    def inputs(self) -> Sequence[Value]:
        """The forward node's inputs. Index only those that the operator requires; use optional() for the others."""
        return self.forward.inputs  # type: ignore[return-value]

    @property
    def x(self) -> Value:
        """The forward node's first input."""
        return self.inputs[0]

    @property
    def y(self) -> Value:
        """The forward node's first output."""
        return self.forward.outputs[0]

    def for_input(self, position: int) -> "BackwardNode":
        """The same node, with a cotangent needed for one input only."""
        return replace(self, active=frozenset({position}))

    def extra_output(self, position: int) -> Value:
        """An optional output of the forward node, added to the node if the model does not use it."""
        if position >= len(self.forward.outputs):
            self.forward.resize_outputs(position + 1)
        output = self.forward.outputs[position]
        if not output.name:
            output.name = f"{self.y.name}/output_{position}"
        return output

    def optional(self, position: int) -> Value | None:
        """The input at this position, None where it is absent."""
        return self.forward.inputs[position] if position < len(self.forward.inputs) else None

    def dims(self, value: Value) -> Shape:
        """The tensor's shape, None for an axis that depends on the batch. Raises MissingGradient if it is not known."""
        array = ir.constant(value)
        if array is not None:
            return array.shape
        shape = self.shapes.get(str(value.name))
        if shape is None:
            raise self.refusal(f"takes {value.name!r}, whose shape is not known")
        return shape

    def quantised_dtype(self) -> np.dtype[np.generic]:
        """The integer type that QuantizeLinear returns: its zero point's type, else its attribute, else uint8."""
        zero = self.array(2)
        if zero is not None:
            return zero.dtype
        code = ir.integer(self.forward, "output_dtype", 0)
        return onnx_ir.DataType(code).numpy() if code else np.dtype(np.uint8)

    def is_counted(self, value: Value) -> bool:
        """Whether a size may differ between images, because an operator before it counts what it finds in one."""
        producers = [v.producer() for v in (value, *ir.ancestors(value))]
        return any(n.op_type in COUNTING for n in producers if n is not None)

    def static(self, value: Value, axes: Sequence[int]) -> list[int]:
        """Sizes of these axes. Raises MissingGradient if one depends on the batch."""
        sizes = [self.dims(value)[a] for a in axes]
        if any(s is None for s in sizes):
            raise self.refusal(f"works along an axis of {value.name!r} whose size depends on the batch")
        return [int(s) for s in sizes if s is not None]

    def rank(self, value: Value) -> int:
        return len(self.dims(value))

    def array(self, position: int) -> npt.NDArray[np.generic] | None:
        """The numbers of the input at this position, None where it is absent.

        Raises MissingGradient if they depend on the image or the batch.
        """
        value = self.optional(position)
        if value is None:
            return None
        numbers = ir.constant(value)
        if numbers is None:
            numbers = self.known.get(str(value.name))
        if numbers is None:
            raise self.refusal(f"takes parameters that are computed at run time ({value.name!r})")
        return numbers

    def integer(self, name: str, default: int) -> int:
        """The integer attribute."""
        return ir.integer(self.forward, name, default)

    def integers(self, name: str, position: int | None = None) -> list[int] | None:
        """The attribute's integers, or in opsets where it is an input, that input's; None where absent."""
        if name in self.forward.attributes:
            return ir.integers(self.forward, name)
        array = self.array(position) if position is not None else None
        return [int(i) for i in array.reshape(-1)] if array is not None else None

    def number(self, name: str, default: float) -> float:
        """The float attribute."""
        attribute = self.forward.attributes.get(name)
        return default if attribute is None else float(attribute.as_float())

    def numbers(self, name: str) -> list[float]:
        """The attribute's floats, [] where it is absent."""
        attribute = self.forward.attributes.get(name)
        return [] if attribute is None else list(attribute.as_floats())

    def text(self, name: str, default: str) -> str:
        """The string attribute."""
        attribute = self.forward.attributes.get(name)
        return default if attribute is None else str(attribute.as_string())

    def refusal(self, reason: str) -> MissingGradient:
        """The error to raise for a form of the operator that the rule does not cover; reason continues "it ..."."""
        return MissingGradient(f"no gradient for {describe(self.forward, self.since)}: it {reason}")

    def only(self, *positions: int) -> None:
        """Raises MissingGradient if any other input needs a cotangent, such as a weight computed from the image."""
        for i in sorted(self.active - set(positions)):
            raise self.refusal(f"has an input {i} that depends on the image, and the rule takes it for a parameter")


COUNTING = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
"""Operators that give as many results as the numbers of the image decide."""
Cotangents = Value | None | Sequence[Value | None]
"""What a rule returns: one cotangent per input, or a single value for the first input."""
Rule = Callable[[Ops, BackwardNode, Value], Cotangents]


@dataclass(frozen=True)
class RegisteredRule:
    """A rule with the opsets whose form of the operator it covers, and whether the driver must undo broadcasting."""

    rule: Rule
    since: frozenset[int]
    broadcasts: bool


VJP_RULES: dict[tuple[str, int], RegisteredRule] = {}
"""The vector-Jacobian product of each operator, by (operator, opset that introduced this form of it).

An operator outside the ONNX standard has its domain in front ("com.microsoft.Gelu") and opset 0.
"""

ZERO_GRADIENT = frozenset(
    "And ArgMax ArgMin Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil ConstantOfShape Equal "
    "EyeLike Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual Multinomial NonMaxSuppression NonZero "
    "Not OneHot Or RandomNormalLike RandomUniformLike Range Round Shape Sign Size Unique Xor".split()
)
"""Operators whose gradient is zero wherever it is defined. They need no rule."""


def gradient(names: str, *, since: Sequence[int], broadcasts: bool = False, domain: str = "") -> Callable[[Rule], Rule]:
    """Registers the decorated rule in VJP_RULES.

    names: operators, separated by spaces. since: the opsets that introduced the forms that the rule covers, as in the
    ONNX operator table; (0,) with a domain. broadcasts: the rule returns cotangents of the output's shape, and the
    driver sums them to each input's shape. domain: "" for the ONNX standard. A later registration replaces an earlier
    one, so a rule registered from outside takes precedence.
    """

    def register(rule: Rule) -> Rule:
        for name in names.split():
            for version in since:
                key = (f"{domain}.{name}" if domain else name, version)
                VJP_RULES[key] = RegisteredRule(rule, frozenset(since), broadcasts)
        return rule

    return register


def key_of(node: Node, since: int) -> tuple[str, int]:
    """The node's key in VJP_RULES."""
    return (node.op_type if ir.is_standard(node) else f"{node.domain}.{node.op_type}", since)


def operator_name(node: Node, since: int) -> str:
    """Name of the operator for messages: "Conv-11", or "com.microsoft.Gelu" outside the standard."""
    name, _ = key_of(node, since)
    return f"{name}-{since}" if ir.is_standard(node) else name


def describe(node: Node, since: int) -> str:
    """The operator and the node for messages: "Conv-11 (node 'conv1')"."""
    first = next((str(v.name) for v in node.outputs if v.name), "")
    return f"{operator_name(node, since)} (node {node.name or first!r})"
