"""What a graph does to its image before the first layer: scales, subtracts, swaps colours.

read_normalisation() walks from the image input through arithmetic with constants, changes of layout, and steps that
leave a pixel's numbers as they are, and folds them to one factor and one offset per channel. A normalisation that was
folded into a convolution cannot be seen, and one by statistics of the picture or by a BatchNormalization is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxcam.surgeon.analysis.affine_input import ROUNDING as ROUNDING
from onnxcam.surgeon.analysis.affine_input import Normalisation as Normalisation
from onnxcam.surgeon.analysis.anatomy import ImageInput
from onnxcam.surgeon.analysis.folding import Numbers, folded
from onnxcam.surgeon.ir import END, Model, Node, captured, find_value, integer, integers, is_standard

ONE = "1"
"""The letter of an axis that a node added."""
UNEVEN = 0.25
"""Most that a picture of means may vary over space, as a share of its mean; more of it is no mean of pictures."""


@dataclass(frozen=True)
class _State:
    """A tensor that is the image but for an affine function of each channel.

    axes: the letter of each axis; without 'C' where a channel was picked out. sizes: of the axes, None if dynamic.
    """

    axes: tuple[str, ...]
    sizes: tuple[int | None, ...]
    now: Normalisation
    quantised: bool = False

    def affine(self, factor: Numbers | float, term: Numbers | float) -> "_State":
        """factor * this + term, each one number or one per channel."""
        scale = np.asarray(self.now.scale) * factor
        offset = np.asarray(self.now.offset) * factor + term
        return replace(self, now=replace(self.now, scale=_floats(scale), offset=_floats(offset)))

    def picked(self, channels: Sequence[int]) -> "_State":
        """These channels of it, in this order."""
        now = self.now
        picked = replace(
            now,
            scale=tuple(now.scale[c] for c in channels),
            offset=tuple(now.offset[c] for c in channels),
            order=tuple(now.order[c] for c in channels),
        )
        sizes = (len(channels) if axis == "C" else size for axis, size in zip(self.axes, self.sizes, strict=True))
        return replace(self, now=picked, sizes=tuple(sizes))


_States = Mapping[int, _State]
_Rule = Callable[[Node, _States], Sequence[_State | None]]


def read_normalisation(model: Model, image: ImageInput) -> tuple[Normalisation, ...]:
    """What the first layers take, as functions of the image input; more than one where the layers take different ones.

    Empty where nothing was read, as for an input that no node takes.
    """
    value = find_value(model, image.name)
    letters = [letter for i, letter in enumerate(image.layout) if i not in image.added]
    if value is not None and value.shape is not None and len(value.shape) == len(letters) - 1 and "N" in letters:
        letters.remove("N")  # a file without a batch axis, which opening it adds
    if value is None or (value.shape is not None and len(value.shape) != len(letters)):
        return ()
    sides = dict(zip(image.letters, image.sides, strict=True))
    sizes = {"N": image.batch, "C": image.channels, **sides}
    plain = Normalisation((1.0,) * image.channels, (0.0,) * image.channels, tuple(range(image.channels)))
    states = {id(value): _State(tuple(letters), tuple(sizes.get(a) for a in letters), plain)}
    ends: dict[Normalisation, None] = {}
    for node in model.graph:
        read = [v for v in (*node.inputs, *captured(node)) if v is not None and id(v) in states]
        if not read or node.op_type in ("Shape", "Size"):
            continue
        rule = _RULES.get(node.op_type) if is_standard(node) else None
        results = rule(node, states) if rule is not None else (None,)
        if None in results:
            ends.update((_of_one_picture(states[id(v)].now, image.channels), None) for v in read)
            continue
        states.update((id(v), state) for v, state in zip(node.outputs, results, strict=False) if state is not None)
    return tuple(ends)


def _of_one_picture(now: Normalisation, channels: int) -> Normalisation:
    """Of channels that repeat, as where parts of the picture are stacked (space-to-depth), the first ones."""
    columns = list(zip(now.scale, now.offset, now.order, strict=True))
    if len(columns) <= channels or columns != columns[:channels] * (len(columns) // channels):
        return now
    scale, offset, order = zip(*columns[:channels], strict=True)
    return replace(now, scale=scale, offset=offset, order=order)


def _floats(values: Numbers) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _first(node: Node, states: _States) -> _State | None:
    """The state of the node's first input."""
    value = node.inputs[0] if node.inputs else None
    return states.get(id(value)) if value is not None else None


def _per_channel(state: _State, array: Numbers) -> Numbers | None:
    """(C,) of a constant that is broadcast against the tensor; None where it differs over another axis.

    Of a whole picture of means, as Caffe subtracts it, the mean of each channel.
    """
    if array.ndim > len(state.axes):
        return None
    shape = (1,) * (len(state.axes) - array.ndim) + array.shape
    array = array.reshape(shape)
    channel = state.axes.index("C") if "C" in state.axes else None
    others = tuple(i for i in range(len(shape)) if i != channel)
    mean = array.mean(axis=others) if others else array
    if any(shape[i] != 1 for i in others):
        spread = array.std(axis=others)
        if (spread > UNEVEN * np.abs(mean)).any():
            return None
    return np.broadcast_to(mean, (len(state.now.scale),)) if mean.size in (1, len(state.now.scale)) else None


def _operands(node: Node, states: _States) -> tuple[_State, Numbers, bool] | None:
    """(state, the constant per channel, whether the constant comes first) of a node with two inputs; else None."""
    if len(node.inputs) != 2:
        return None
    for i in (0, 1):
        value, other = node.inputs[i], node.inputs[1 - i]
        array = folded(other)
        if value is not None and id(value) in states and array is not None and array.dtype.kind in "fiu":
            state = states[id(value)]
            numbers = _per_channel(state, np.asarray(array, np.float64))
            return (state, numbers, i == 1) if numbers is not None else None
    return None


def _arithmetic(node: Node, states: _States) -> Sequence[_State | None]:
    operands = _operands(node, states)
    if operands is None:
        return (None,)
    state, numbers, constant_first = operands
    if node.op_type == "Add":
        return (state.affine(1.0, numbers),)
    if node.op_type == "Sub":
        return (state.affine(-1.0, numbers) if constant_first else state.affine(1.0, -numbers),)
    if node.op_type == "Mul":
        return (state.affine(numbers, 0.0),)
    return (state.affine(1 / numbers, 0.0),) if not constant_first and numbers.all() else (None,)


def _negative(node: Node, states: _States) -> Sequence[_State | None]:
    state = _first(node, states)
    return (state.affine(-1.0, 0.0) if state is not None else None,)


def _kept(node: Node, states: _States) -> Sequence[_State | None]:
    """The numbers stay: a copy, another type, limits that pictures do not reach, other sides, padding."""
    return (_first(node, states),)


def _padded(node: Node, states: _States) -> Sequence[_State | None]:
    """Padding of the sides; none of the channels."""
    state, pads = _first(node, states), integers(node, "pads", 1)
    if state is None or pads is None or len(pads) != 2 * len(state.axes):
        return (None,)
    channel = state.axes.index("C") if "C" in state.axes else None
    kept = channel is None or pads[channel] == pads[channel + len(state.axes)] == 0
    return (_of_any_side(state) if kept else None,)


def _resized(node: Node, states: _States) -> Sequence[_State | None]:
    state = _first(node, states)
    return (_of_any_side(state) if state is not None else None,)


def _of_any_side(state: _State) -> _State:
    """The state with sides that are not known."""
    sizes = (d if a in "NC" else None for a, d in zip(state.axes, state.sizes, strict=True))
    return replace(state, sizes=tuple(sizes))


def _transposed(node: Node, states: _States) -> Sequence[_State | None]:
    state = _first(node, states)
    if state is None:
        return (None,)
    perm = integers(node, "perm") or list(range(len(state.axes)))[::-1]
    if sorted(perm) != list(range(len(state.axes))):
        return (None,)
    return (replace(state, axes=tuple(state.axes[i] for i in perm), sizes=tuple(state.sizes[i] for i in perm)),)


def _unsqueezed(node: Node, states: _States) -> Sequence[_State | None]:
    state, axes = _first(node, states), integers(node, "axes", 1)
    if state is None or axes is None:
        return (None,)
    letters, sizes = list(state.axes), list(state.sizes)
    rank = len(letters) + len(axes)
    for axis in sorted(a % rank for a in axes):
        missing = [letter for letter in "NC" if letter not in letters]
        # A channel that was picked out gets its axis back; else it is the batch that is added, in front.
        letter = "C" if "C" in missing else "N" if "N" in missing and axis == 0 else ONE
        letters.insert(axis, letter)
        sizes.insert(axis, 1)
    return (replace(state, axes=tuple(letters), sizes=tuple(sizes)),)


def _squeezed(node: Node, states: _States) -> Sequence[_State | None]:
    state, axes = _first(node, states), integers(node, "axes", 1)
    if state is None or axes is None:
        return (None,)
    return (_dropped(state, [a % len(state.axes) for a in axes]),)


def _reshaped(node: Node, states: _States) -> Sequence[_State | None]:
    """A Reshape that keeps the axes, or adds or removes axes of one entry; else the layout is lost."""
    state = _first(node, states)
    target = folded(node.inputs[1]) if len(node.inputs) > 1 else None
    if state is None or target is None:
        return (None,)
    shape = [int(d) for d in target.reshape(-1)]
    if len(shape) == len(state.axes) + 1 and shape[0] in (1, -1) and "N" not in state.axes:
        fits = _fits(shape[1:], state.sizes)
        return (replace(state, axes=("N", *state.axes), sizes=(None, *state.sizes)) if fits else None,)
    return (state if len(shape) == len(state.axes) and _fits(shape, state.sizes) else None,)


def _fits(shape: Sequence[int], sizes: Sequence[int | None]) -> bool:
    """Whether a Reshape to this shape keeps the axes: -1 stands for one of them, 0 copies."""
    return all(d in (0, -1) or size is None or d == size for d, size in zip(shape, sizes, strict=True))


def _sliced(node: Node, states: _States) -> Sequence[_State | None]:
    """A part of the picture, or channels picked or reversed."""
    state = _first(node, states)
    if state is None or "C" not in state.axes:
        return (state,)
    channel = state.axes.index("C")
    starts, ends = integers(node, "starts", 1), integers(node, "ends", 2)
    axes = integers(node, "axes", 3) or list(range(len(starts or ())))
    state = _of_any_side(state)
    at = [i for i, a in enumerate(axes) if a % len(state.axes) == channel]
    if not at:
        return (state if axes else None,)
    steps = integers(node, "steps", 4) or [1] * len(axes)
    if starts is None or ends is None or len(at) != 1 or len(starts) != len(axes):
        return (None,)
    return (state.picked(_indices(starts[at[0]], ends[at[0]], steps[at[0]], len(state.now.order))),)


def _indices(start: int, end: int, step: int, count: int) -> list[int]:
    """The entries that a Slice of an axis takes; `ends` far out of range mean the axis' end."""
    if step < 0:
        first = min(start + count if start < 0 else start, count - 1)
        last = -1 if end < -count else end + count if end < 0 else end
        return list(range(first, max(last, -1), step))
    return list(range(count))[slice(start, min(end, END), step)]


def _gathered(node: Node, states: _States) -> Sequence[_State | None]:
    """Channels in another order, or one channel, whose axis goes; or the one picture of a batch."""
    state, indices = _first(node, states), folded(node.inputs[1]) if len(node.inputs) > 1 else None
    if state is None or indices is None or indices.ndim > 1:
        return (None,)
    axis = integer(node, "axis", 0) % len(state.axes)
    if state.axes[axis] == "C":
        channels = [int(i) % len(state.now.order) for i in indices.reshape(-1)]
        state = state.picked(channels)
    elif indices.ndim == 1:
        return (None,)
    if indices.ndim == 1:
        return (state,)
    return (_dropped(state, [axis]),)


def _dropped(state: _State, axes: Sequence[int]) -> _State:
    """The state without these axes."""
    kept = [i for i in range(len(state.axes)) if i not in axes]
    return replace(state, axes=tuple(state.axes[i] for i in kept), sizes=tuple(state.sizes[i] for i in kept))


def _split(node: Node, states: _States) -> Sequence[_State | None]:
    state = _first(node, states)
    if state is None or "C" not in state.axes or integer(node, "axis", 0) % len(state.axes) != state.axes.index("C"):
        return (None,)
    count, parts = len(state.now.order), len(node.outputs)
    sizes = integers(node, "split", 1) or [-(-count // parts)] * (count // -(-count // parts))
    if sum(sizes) != count or len(sizes) != parts:
        return (None,)
    ends = np.cumsum(sizes)
    return [state.picked(range(end - size, end)) for size, end in zip(sizes, map(int, ends), strict=True)]


def _concatenated(node: Node, states: _States) -> Sequence[_State | None]:
    """Channels that were picked apart and come together again."""
    parts = [states.get(id(v)) for v in node.inputs if v is not None]
    known = [p for p in parts if p is not None]
    if len(known) != len(parts) or len({p.axes for p in known}) != 1:
        return (None,)
    state = known[0]
    if "C" not in state.axes or integer(node, "axis", 0) % len(state.axes) != state.axes.index("C"):
        return (None,)
    now = replace(
        state.now,
        scale=tuple(n for p in known for n in p.now.scale),
        offset=tuple(n for p in known for n in p.now.offset),
        order=tuple(n for p in known for n in p.now.order),
    )
    joined = replace(state, now=now)
    return (joined.picked(range(len(now.order))),)


def _quantised(node: Node, states: _States) -> Sequence[_State | None]:
    """The numbers stay, but for those that the integers cannot hold."""
    state, steps = _first(node, states), folded(node.inputs[1])
    zero = folded(node.inputs[2]) if len(node.inputs) > 2 else np.zeros((), np.uint8)
    if state is None or steps is None or zero is None or steps.size != 1 or zero.dtype.kind not in "iu":
        return (None,)
    limits, step, start = np.iinfo(zero.dtype.name), float(steps.reshape(-1)[0]), int(zero.reshape(-1)[0])
    held = np.asarray([limits.min - start, limits.max - start]) * step
    scale, offset = np.asarray(state.now.scale)[:, None], np.asarray(state.now.offset)[:, None]
    if not scale.all():
        return (None,)
    entering = (held - offset) / scale  # (C,2), as numbers of the input
    now = replace(state.now, lowest=float(entering.min(1).min()), highest=float(entering.max(1).max()))
    return (replace(state, now=now, quantised=True),)


def _dequantised(node: Node, states: _States) -> Sequence[_State | None]:
    """The inverse of _quantised; of an input that is quantised itself, its scale and offset."""
    state, steps = _first(node, states), folded(node.inputs[1])
    zero = folded(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(())
    if state is None or steps is None or zero is None or steps.size != 1 or zero.size != 1:
        return (None,)
    if state.quantised:
        return (replace(state, quantised=False),)
    step, start = float(steps.reshape(-1)[0]), float(np.asarray(zero, np.float64).reshape(-1)[0])
    return (state.affine(step, -start * step),)


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout", "Clip"), _kept),
    "Neg": _negative,
    "Pad": _padded,
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
    "Reshape": _reshaped,
    "Slice": _sliced,
    "Gather": _gathered,
    "Split": _split,
    "Concat": _concatenated,
    "QuantizeLinear": _quantised,
    "DequantizeLinear": _dequantised,
}
