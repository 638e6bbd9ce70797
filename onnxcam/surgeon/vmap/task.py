"""Where the batch lies in a tensor, and the moves from one place to another that every rule may use.

Let v_i be what the original graph computes for picture i alone. In the new graph the tensor of that name holds
    v                        SAME   (it does not depend on the picture)
    concat(v_i, axis)        axis   (size N where v has 1, N*k where v has k, the pictures one after the other)
    stack(v_i, 0)            EXTRA  (an axis more, in front)
Any of the three can be turned into any other but SAME, so a rule states what it needs and no more.
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

SAME, EXTRA = -2, -1
ATTRIBUTE = 1 << 30
"""The number of an input that no operator has: for what is an attribute in every opset."""
Dims = tuple[int, ...]


class CannotBatch(OnnxCamError):
    """A node has no batching rule; the message names the operator, the node and the reason."""


@dataclass(frozen=True, eq=False)
class Operand:
    """value: in the new graph. shape: of one picture's tensor v_i. batch: an axis of v_i, EXTRA or SAME."""

    value: Value
    shape: Dims
    batch: int

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_same(self) -> bool:
        return self.batch == SAME

    def size(self, position: int) -> int:
        """Of the axis that lies `position` from the right (1 is the last); 1 where there is none."""
        return self.shape[-position] if position <= self.rank else 1


Results = list[tuple[Value, int]]
"""A node's outputs in the new graph, each with the place of its batch."""


class Pictures:
    """The number of pictures, known when the model runs, as a tensor of shape (1,); made when first asked for."""

    def __init__(self, b: Builder, source: Value) -> None:
        self._b, self._source = b, source
        self._count: Value | None = None

    def count(self) -> Value:
        if self._count is None:
            shape = self._b("Shape", self._source)
            self._count = self._b("Gather", shape, self._b.constant([0], np.int64), axis=0)
        return self._count


@dataclass(frozen=True, eq=False)
class Task:
    """One node at least one of whose inputs is batched.

    inputs: as the new graph has them. shapes: of the outputs, measured at the original's batch size `fixed`.
    """

    model: Model
    node: Node
    inputs: Sequence[Operand | None]
    shapes: Sequence[Dims]
    known: Arrays
    fixed: int
    b: Builder
    pictures: Pictures

    @property
    def shape(self) -> Dims:
        return self.shapes[0]

    @property
    def x(self) -> Operand:
        return self.operand(0)

    @property
    def opset(self) -> int:
        return ir.opset(self.model)

    def operand(self, position: int) -> Operand:
        found = self.optional(position)
        if found is None:
            raise self.refusal(f"has no input {position}")
        return found

    def optional(self, position: int) -> Operand | None:
        return self.inputs[position] if position < len(self.inputs) else None

    def refusal(self, reason: str) -> CannotBatch:
        first = next((str(v.name) for v in self.node.outputs if v.name), "")
        return CannotBatch(f"{self.node.op_type} ({self.node.name or first!r}) {reason}")

    def array(self, x: Operand) -> npt.NDArray[np.generic] | None:
        """The numbers of an operand that is no matter of pictures; None if they are not known before the run."""
        if not x.is_same:
            return None
        found = ir.constant(x.value)
        return self.known.get(str(x.value.name)) if found is None else found

    def integer(self, attribute: str, default: int) -> int:
        return ir.integer(self.node, attribute, default)

    def integers(self, attribute: str, position: int) -> list[int] | None:
        """From the attribute of old opsets or the input of new ones; None where absent, refused where unknown."""
        if attribute in self.node.attributes:
            return ir.integers(self.node, attribute)
        x = self.optional(position)
        if x is None:
            return None
        array = self.array(x)
        if array is None:
            raise self.refusal(f"takes {attribute} that are computed at run time")
        return [int(i) for i in array.reshape(-1)]

    def put(self, attribute: str, position: int, numbers: Sequence[int], *, since: int) -> None:
        """Rewrites what `integers` reads; an input from opset `since` on."""
        if self.opset < since:
            self.node.attributes[attribute] = onnx_ir.AttrInt64s(attribute, list(numbers))
            return
        if position >= len(self.node.inputs):
            self.node.resize_inputs(position + 1)
        self.node.replace_input_with(position, self.b.constant(list(numbers), np.int64))

    def keep(
        self, batch: int, replaced: Mapping[int, Operand] | None = None, **attributes: int | str | list[int]
    ) -> Results:
        """The node itself with other inputs and attributes; all its outputs have the batch at the same place."""
        for i, x in (replaced or {}).items():
            self.node.replace_input_with(i, x.value)
        for attribute in onnx_ir.convenience.convert_attributes(attributes):
            self.node.attributes[attribute.name] = attribute
        return [(v, batch) for v in self.node.outputs]

    def is_kept(self, axis: int, at: int | None = None) -> bool:
        """Whether x's axis has the same size in the output, there at `at`."""
        held = self.x.shape[axis] * (self.fixed if axis == self.x.batch else 1)
        return self.shape[axis if at is None else at] == held

    def reshape(self, value: Value, target: Sequence[int]) -> Value:
        if 0 in target:
            # A Reshape cannot tell what -1 stands for where nothing is.
            raise self.refusal("handles a tensor without entries")
        return self.b.reshape(value, target)

    def front(self, value: Value, axis: int, rank: int) -> Value:
        """The axis moved to the front."""
        if axis == 0:
            return value
        return self.b("Transpose", value, perm=[axis, *(i for i in range(rank) if i != axis)])

    def extra(self, x: Operand) -> Operand:
        if x.batch == EXTRA:
            return x
        if x.is_same:
            return self._spread(x, EXTRA)
        split = self.reshape(x.value, [*x.shape[: x.batch], -1, *x.shape[x.batch :]])
        return Operand(self.front(split, x.batch, x.rank + 1), x.shape, EXTRA)

    def at(self, x: Operand, axis: int) -> Operand:
        if x.batch == axis:
            return x
        if axis == EXTRA or x.is_same:
            return self._spread(x, axis) if x.is_same else self.extra(x)
        value = self.extra(x).value
        if axis:
            value = self.b("Transpose", value, perm=[*range(1, axis + 1), 0, *range(axis + 1, x.rank + 1)])
        return Operand(self.reshape(value, [*x.shape[:axis], -1, *x.shape[axis + 1 :]]), x.shape, axis)

    def _spread(self, x: Operand, axis: int) -> Operand:
        """What all pictures share, repeated for each of them."""
        if axis != EXTRA:
            x = self.one_row(x, axis)
        before, rest = (x.value, x.rank - 1)
        if axis == EXTRA or x.shape[axis] != 1:
            before, rest = self.b.unsqueeze(x.value, [0]), x.rank
        ahead = axis if rest == x.rank - 1 else 0
        ones = [self.b.constant([1] * n, np.int64) for n in (ahead, rest - ahead)]
        target = self.b("Concat", ones[0], self.pictures.count(), ones[1], axis=0)
        repeated = self.b("Expand", before, target)
        if rest == x.rank - 1:
            return Operand(repeated, x.shape, axis)
        return self.at(Operand(repeated, x.shape, EXTRA), axis)

    def one_row(self, x: Operand, axis: int) -> Operand:
        """x, which all pictures share, as it would be in a batch of one: one of its equal rows."""
        if self.fixed == 1 or x.shape[axis] != self.fixed:
            return x
        array = self.array(x)
        if array is None or not (array == array.take([0], axis)).all():
            raise self.refusal("has an operand with a row of its own for each place in the batch")
        row = array.take([0], axis)
        return Operand(self.b.constant(row, row.dtype), row.shape, SAME)

    def together(self, operands: Sequence[Operand], axis: int) -> tuple[list[Operand], int]:
        """All of the same rank, with the batch at one place that is not `axis`."""
        sizes = [tuple(d // (self.fixed if x.is_same else 1) for d in x.shape) for x in operands]
        for place in (x.batch for x in operands if x.batch >= 0):
            if place != axis and len({s[place] for s in sizes}) == 1:
                return [self.at(x, place) for x in operands], place
        return [self.extra(x) for x in operands], EXTRA

    def align(
        self, operands: Sequence[Operand], nearest: int = 1, rank: int | None = None
    ) -> tuple[list[Operand], int]:
        """Brought to where numpy's broadcasting keeps the pictures apart, and the place that the output's batch has.

        Axes are counted from the right, as broadcasting does; `nearest` is the first that may hold the batch. One
        axis more than the output's `rank` is EXTRA.
        """
        rank = len(self.shape) if rank is None else rank
        places = [x.rank - x.batch for x in operands if x.batch >= 0]
        for place in (*(p for p in places if p >= nearest), rank + 1):
            rows = [self._broadcast_row(x, place) for x in operands]
            sizes = {x.size(place) for x in rows if not x.is_same}
            if len(sizes) == 1 and all(x.size(place) == 1 for x in rows if x.is_same):
                return [x if x.is_same else self._aligned(x, place) for x in rows], rank - place
        raise self.refusal("has operands that cannot be aligned")

    def _broadcast_row(self, x: Operand, place: int) -> Operand:
        if not x.is_same or x.rank < place or self.fixed == 1:
            return x
        return self.one_row(x, x.rank - place)

    def _aligned(self, x: Operand, place: int) -> Operand:
        if x.rank >= place:
            return self.at(x, x.rank - place)
        x, missing = self.extra(x), place - 1 - x.rank
        if not missing:
            return x
        return Operand(self.b.unsqueeze(x.value, list(range(1, 1 + missing))), x.shape, EXTRA)
