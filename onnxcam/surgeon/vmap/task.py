"""What a batch rule receives: a Task (one node and its inputs), with methods that move the batch axis.

Let v_i be the tensor that the original graph computes for sample i alone. In the new graph it is replaced by one of
    v                   SHARED    it is the same for every sample
    concat(v_i, axis)   axis      that axis is N times as long, one sample after the other
    stack(v_i, 0)       STACKED   there is a new axis of length N in front
A tensor in any form can be turned into the second or the third, so a rule states which form it needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.errors import OnnxCamError
from onnxcam.surgeon import ir
from onnxcam.surgeon.builder import Builder
from onnxcam.surgeon.ir import Model, Node, Value
from onnxcam.types import Arrays

SHARED, STACKED = -2, -1
Dims = tuple[int, ...]


class CannotBatch(OnnxCamError):
    """A node cannot be batched. The message names the operator, the node and the reason."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor of the new graph. shape: of one sample's tensor v_i. batch: an axis of v_i, STACKED or SHARED."""

    value: Value
    shape: Dims
    batch: int

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_shared(self) -> bool:
        return self.batch == SHARED

    def size_from_right(self, position: int) -> int:
        """Size of the axis `position` from the right (1 is the last), 1 if there is no such axis."""
        return self.shape[-position] if position <= self.rank else 1


Results = list[tuple[Value, int]]
"""A node's outputs in the new graph, each with the position of its batch (an axis, STACKED or SHARED)."""


class BatchSize:
    """The number of samples N, read from an input at run time, as a tensor of shape (1,). Its nodes are added once."""

    def __init__(self, b: Builder, source: Value) -> None:
        self._b, self._source = b, source
        self._value: Value | None = None

    def value(self) -> Value:
        if self._value is None:
            shape = self._b("Shape", self._source)
            self._value = self._b("Gather", shape, self._b.constant([0], np.int64), axis=0)
        return self._value


@dataclass(frozen=True, eq=False)
class Task:
    """One node of the original graph with at least one batched input, to be rewritten for N samples.

    inputs: in the new graph, None where absent. shapes: of the node's outputs in the original graph, at its batch size
    original_batch. known: tensors with the same numbers for every sample, by name. b: adds nodes.
    """

    model: Model
    node: Node
    inputs: Sequence[Operand | None]
    shapes: Sequence[Dims]
    known: Arrays
    original_batch: int
    b: Builder
    batch_size: BatchSize

    @property
    def shape(self) -> Dims:
        """Of the first output in the original graph."""
        return self.shapes[0]

    @property
    def x(self) -> Operand:
        """The first input."""
        return self.operand(0)

    @property
    def opset(self) -> int:
        return ir.opset(self.model)

    def operand(self, position: int) -> Operand:
        """The input at this position. Raises CannotBatch if it is absent."""
        operand = self.optional(position)
        if operand is None:
            raise self.refusal(f"has no input {position}")
        return operand

    def optional(self, position: int) -> Operand | None:
        return self.inputs[position] if position < len(self.inputs) else None

    def refusal(self, reason: str) -> CannotBatch:
        """The error to raise; reason continues "the node ..."."""
        first = next((str(v.name) for v in self.node.outputs if v.name), "")
        return CannotBatch(f"{self.node.op_type} ({self.node.name or first!r}) {reason}")

    def array(self, x: Operand) -> npt.NDArray[np.generic] | None:
        """The operand's numbers; None if they differ between samples or are not known before the run."""
        if not x.is_shared:
            return None
        numbers = ir.constant(x.value)
        return self.known.get(str(x.value.name)) if numbers is None else numbers

    def integer(self, attribute: str, default: int) -> int:
        return ir.integer(self.node, attribute, default)

    def integers(self, attribute: str, position: int | None = None) -> list[int] | None:
        """The integers of the attribute, or of the input at `position` in opsets where they are an input.

        None where absent. Raises CannotBatch if they are computed at run time.
        """
        if attribute in self.node.attributes:
            return ir.integers(self.node, attribute)
        x = None if position is None else self.optional(position)
        if x is None:
            return None
        array = self.array(x)
        if array is None:
            raise self.refusal(f"takes {attribute} that are computed at run time")
        return [int(i) for i in array.reshape(-1)]

    def set_integers(self, attribute: str, position: int, numbers: Sequence[int], *, since: int) -> None:
        """Replaces what integers() reads: an attribute, or from opset `since` on an input."""
        if self.opset < since:
            self.node.attributes[attribute] = onnx_ir.AttrInt64s(attribute, list(numbers))
            return
        if position >= len(self.node.inputs):
            self.node.resize_inputs(position + 1)
        self.node.replace_input_with(position, self.b.constant(list(numbers), np.int64))

    def reuse(
        self, batch: int, replaced: Mapping[int, Operand] | None = None, **attributes: int | str | list[int]
    ) -> Results:
        """Reuses the original node, with some inputs and attributes replaced.

        Returns its outputs, all with their batch at `batch`.
        """
        for i, x in (replaced or {}).items():
            if x.value is not self.node.inputs[i]:
                self.node.replace_input_with(i, x.value)
        for attribute in onnx_ir.convenience.convert_attributes(attributes):
            self.node.attributes[attribute.name] = attribute
        return [(v, batch) for v in self.node.outputs]

    def has_same_size(self, axis: int, at: int | None = None) -> bool:
        """Whether an axis of x is as long in the output, at axis `at` there (the same axis by default)."""
        size = self.x.shape[axis] * (self.original_batch if axis == self.x.batch else 1)
        return self.shape[axis if at is None else at] == size

    def reshape(self, value: Value, target: Sequence[int]) -> Value:
        if 0 in target:
            # The size of the -1 axis is undefined in a tensor without entries.
            raise self.refusal("handles a tensor without entries")
        return self.b.reshape(value, target)

    def move_to_front(self, value: Value, axis: int, rank: int) -> Value:
        """The tensor, of the given rank, with the axis moved to the front."""
        if axis == 0:
            return value
        return self.b("Transpose", value, perm=[axis, *(i for i in range(rank) if i != axis)])

    def stacked(self, x: Operand) -> Operand:
        """x in STACKED form."""
        if x.batch == STACKED:
            return x
        if x.is_shared:
            return self._repeated(x, STACKED)
        split = self.reshape(x.value, [*x.shape[: x.batch], -1, *x.shape[x.batch :]])
        return Operand(self.move_to_front(split, x.batch, x.rank + 1), x.shape, STACKED)

    def batch_at(self, x: Operand, axis: int) -> Operand:
        """x with its batch at the axis (or STACKED)."""
        if x.batch == axis:
            return x
        if axis == STACKED or x.is_shared:
            return self._repeated(x, axis) if x.is_shared else self.stacked(x)
        value = self.stacked(x).value
        if axis:
            value = self.b("Transpose", value, perm=[*range(1, axis + 1), 0, *range(axis + 1, x.rank + 1)])
        return Operand(self.reshape(value, [*x.shape[:axis], -1, *x.shape[axis + 1 :]]), x.shape, axis)

    def _repeated(self, x: Operand, axis: int) -> Operand:
        """A shared x repeated for every sample, along the axis (or STACKED)."""
        if axis != STACKED:
            x = self.one_sample(x, axis)
        single, rest = (x.value, x.rank - 1)
        if axis == STACKED or x.shape[axis] != 1:
            single, rest = self.b.unsqueeze(x.value, [0]), x.rank
        ahead = axis if rest == x.rank - 1 else 0
        ones = [self.b.constant([1] * n, np.int64) for n in (ahead, rest - ahead)]
        target = self.b("Concat", ones[0], self.batch_size.value(), ones[1], axis=0)
        repeated = self.b("Expand", single, target)
        if rest == x.rank - 1:
            return Operand(repeated, x.shape, axis)
        return self.batch_at(Operand(repeated, x.shape, STACKED), axis)

    def one_sample(self, x: Operand, axis: int) -> Operand:
        """A shared x as it is for a batch of one: the first of its equal slices along the axis.

        Raises CannotBatch if the slices differ.
        """
        if self.original_batch == 1 or x.shape[axis] != self.original_batch:
            return x
        array = self.array(x)
        if array is None or not (array == array.take([0], axis)).all():
            raise self.refusal("has an operand that differs between the samples of the fixed batch")
        first = array.take([0], axis)
        return Operand(self.b.constant(first, first.dtype), first.shape, SHARED)

    def at_common_axis(self, operands: Sequence[Operand], axis: int) -> tuple[list[Operand], int]:
        """Operands of one rank, with the batch at the same position in all, which is not `axis`; and this position."""
        sizes = [tuple(d // (self.original_batch if x.is_shared else 1) for d in x.shape) for x in operands]
        for batch in (x.batch for x in operands if x.batch >= 0):
            if batch != axis and len({s[batch] for s in sizes}) == 1:
                return [self.batch_at(x, batch) for x in operands], batch
        return [self.stacked(x) for x in operands], STACKED

    def align_broadcast(
        self, operands: Sequence[Operand], nearest: int = 1, rank: int | None = None
    ) -> tuple[list[Operand], int]:
        """Operands placed so that numpy's broadcasting keeps the samples apart, and the position of the output's batch.

        Axes are counted from the right, as broadcasting does. nearest: the first axis that may hold the batch. rank:
        of the output; one axis more than that is STACKED.
        """
        rank = len(self.shape) if rank is None else rank
        candidates = [x.rank - x.batch for x in operands if x.batch >= 0]
        for position in (*(p for p in candidates if p >= nearest), rank + 1):
            singles = [self._one_sample_from_right(x, position) for x in operands]
            sizes = {x.size_from_right(position) for x in singles if not x.is_shared}
            if len(sizes) == 1 and all(x.size_from_right(position) == 1 for x in singles if x.is_shared):
                moved = [x if x.is_shared else self._batch_from_right(x, position) for x in singles]
                return moved, rank - position
        raise self.refusal("has operands whose batch axes cannot be aligned")

    def _one_sample_from_right(self, x: Operand, position: int) -> Operand:
        if not x.is_shared or x.rank < position or self.original_batch == 1:
            return x
        return self.one_sample(x, x.rank - position)

    def _batch_from_right(self, x: Operand, position: int) -> Operand:
        """x with its batch at the axis `position` from the right; axes of size 1 are inserted if x has fewer."""
        if x.rank >= position:
            return self.batch_at(x, x.rank - position)
        x, missing = self.stacked(x), position - 1 - x.rank
        if not missing:
            return x
        return Operand(self.b.unsqueeze(x.value, list(range(1, 1 + missing))), x.shape, STACKED)
