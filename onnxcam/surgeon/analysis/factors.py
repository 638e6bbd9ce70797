"""The meaning of one axis as a product of factors of the picture's axes, and what a reshape does to it.

A grid that is cut into windows has its height on two axes: the window's row and the row inside the window. Tokens have
height and width on one axis. Both are factors in some order, slowest first: a reshape splits and joins factors, a
transpose permutes them, and a tensor keeps the grid while all factors of height and width are there. axes.py follows
them through the graph; cell_order.py reads the order of the cells off them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from onnxcam.types import Shape

BATCH, CHANNEL, UNKNOWN = "N", "C", "?"
SPATIAL = ("D", "H", "W")


@dataclass(frozen=True)
class Factor:
    """A part of the index along one letter: index = sum of (position along the factor) * stride, of `extent` cells.

    shift: the index at position 0 of an axis that was rolled. mirrored: whether the letter runs backwards.
    """

    letter: str
    size: int
    stride: int
    extent: int
    shift: int = 0
    mirrored: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is its whole letter, neither rolled nor mirrored."""
        return self.size == self.extent and not self.shift and not self.mirrored


@dataclass(frozen=True)
class Factored:
    """An axis of several factors, or of a part of a letter, with `before` and `after` extra entries (a class token)."""

    factors: tuple[Factor, ...]
    before: int = 0
    after: int = 0

    @property
    def size(self) -> int:
        """Entries along the axis."""
        return math.prod(f.size for f in self.factors) + self.before + self.after


Axis = str | Factored | None
"""A letter where the axis is all of N, C, D, H or W; None where its meaning is unknown."""
Axes = tuple[Axis, ...]
Parts = tuple[Factor, ...] | Factored
"""One axis while it is worked on: its factors, or a Factored with extra entries, which no reshape can split."""


def tokens(grid: Sequence[int], before: int = 0, after: int = 0, letters: str = "") -> Factored:
    """An axis that lists a grid's cells, row by row unless `letters` has another order of the sides."""
    order = letters or "".join(SPATIAL[-len(grid) :])
    return Factored(tuple(whole(letter, n) for letter, n in zip(order, grid, strict=True)), before, after)


def whole(letter: str, size: int) -> Factor:
    """All of a letter."""
    return Factor(letter, size, 1, size)


def factors_of(axis: Axis, size: int) -> tuple[Factor, ...]:
    """The factors of an axis of this size, without extra entries."""
    if isinstance(axis, Factored):
        return axis.factors
    return (whole(axis or UNKNOWN, size),)


def is_spatial(axis: Axis) -> bool:
    """Whether any cells of the grid lie along the axis."""
    return axis in SPATIAL or (isinstance(axis, Factored) and any(f.letter in SPATIAL for f in axis.factors))


def has_extra_tokens(axes: Axes) -> bool:
    """Whether an axis lists cells among other tokens, e.g. a class token."""
    return any(extra_tokens(a) is not None for a in axes)


def extra_tokens(axis: Axis) -> tuple[int, int] | None:
    """(before, after): how many other tokens lie around the cells of the axis; None without such tokens."""
    if not isinstance(axis, Factored) or not axis.before + axis.after or not is_spatial(axis):
        return None
    return axis.before, axis.after


def holds(axis: Axis, letter: str) -> bool:
    """Whether the axis is this letter, or has a factor of it."""
    return axis == letter or (isinstance(axis, Factored) and any(f.letter == letter for f in axis.factors))


def is_complete(axes: Axes, letter: str) -> bool:
    """Whether all cells along the letter are there, in axes that hold nothing but cells."""
    if letter in axes:
        return sum(holds(a, letter) for a in axes) == 1
    held = [a for a in axes if isinstance(a, Factored) and holds(a, letter)]
    factors = [f for a in held for f in a.factors]
    if not held or any(f.letter not in SPATIAL for f in factors):
        return False
    chain = _chain(f for f in factors if f.letter == letter)
    return chain is not None and (not chain or chain[0].stride == 1)


def _chain(factors: Iterable[Factor]) -> list[Factor] | None:
    """The factors of one letter, fastest first, if each begins where the one before ends, and the last at the end."""
    chain = sorted((f for f in factors if f.size > 1), key=lambda f: f.stride)
    for slow, fast in zip(chain[1:], chain, strict=False):
        if replace(slow, size=fast.size, stride=fast.stride) != fast or slow.stride != fast.stride * fast.size:
            return None
    if chain and chain[-1].stride * chain[-1].size != chain[-1].extent:
        return None
    return chain


def named(parts: Sequence[Parts]) -> Axes:
    """The axes of a tensor from the factors of each: what is a whole letter again becomes one.

    A letter whose fast factors are gone, as by pooling over windows, is a coarser grid: what is left is all of it.
    """
    axes = [a.factors if isinstance(a, Factored) else a for a in parts]
    for letter in SPATIAL:
        chain = _chain(f for factors in axes for f in factors if f.letter == letter)
        if chain and chain[0].stride > 1 and not chain[0].shift:
            axes = [tuple(_coarser(f, chain[0].stride) if f.letter == letter else f for f in fs) for fs in axes]
    axes = [_joined(fs) for fs in axes]
    with_channels = {i for i, factors in enumerate(axes) if any(f.letter == CHANNEL for f in factors)}
    results: list[Axis] = []
    for i, (factors, part) in enumerate(zip(axes, parts, strict=True)):
        if isinstance(part, Factored) and part.before + part.after:
            results.append(replace(part, factors=factors))
        else:
            results.append(_name(factors, with_other_channels=bool(with_channels - {i})))
    left = [i for i, a in enumerate(results) if holds(a, CHANNEL)]
    if len(left) == 1 and {f.letter for f in factors_of(results[left[0]], 0)} == {CHANNEL}:
        results[left[0]] = CHANNEL  # the only axis with channels, in whatever order
    return tuple(results)


def _coarser(factor: Factor, stride: int) -> Factor:
    # A factor of one cell has no stride that matters.
    return replace(factor, stride=max(factor.stride // stride, 1), extent=factor.extent // stride)


def _name(factors: tuple[Factor, ...], *, with_other_channels: bool) -> Axis:
    if len(factors) == 1 and factors[0].is_whole:
        return factors[0].letter if factors[0].letter != UNKNOWN else None
    if not factors or all(f.letter == UNKNOWN for f in factors):
        return None
    first, rest = factors[0], factors[1:]
    subpixels = all(f.letter in (CHANNEL, UNKNOWN) for f in rest)
    if first.letter in SPATIAL and first.is_whole and subpixels and with_other_channels:
        return first.letter  # channels that became cells between the cells, as in a pixel shuffle
    return Factored(factors)


def _joined(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Neighbours that follow each other along one letter as one factor."""
    joined: list[Factor] = []
    for f in factors:
        last = joined[-1] if joined else None
        if last is not None and _follows(last, f):
            joined[-1] = replace(f, size=last.size * f.size)
        else:
            joined.append(f)
    return tuple(joined)


def _follows(slow: Factor, fast: Factor) -> bool:
    same = replace(slow, size=fast.size, stride=fast.stride) == fast
    return same and (slow.letter == UNKNOWN or slow.stride == fast.stride * fast.size)


def reshaped(axes: Axes, before: Shape, after: Shape, *, keep_single: bool = True) -> Axes | None:
    """Axes after a reshape: factors are split and joined in the order of the memory.

    Both shapes are cut into the smallest groups of axes with equal products, so that an axis that cannot be followed
    loses its own group only. keep_single: whether an axis of one cell is followed too. None where sizes are unknown
    and the rank changes.
    """
    if None in before or None in after:
        return _reshaped_by_position(axes, before, after)
    old = [(a, int(d or 0)) for a, d in zip(axes, before, strict=True)]
    sizes = [int(d or 0) for d in after]
    result: list[Parts] = [()] * len(sizes)
    for merged, split in _groups([(a, d) for a, d in old if d != 1], [(j, d) for j, d in enumerate(sizes) if d != 1]):
        for (j, _), parts in zip(split, _distributed(merged, [d for _, d in split]), strict=True):
            result[j] = parts
    for single, offset in _singles(old):
        if keep_single or single.letter == BATCH:
            _place(single, offset, sizes, result)
    if sizes[:1] == [1] and not result[0] and not any(holds(a, BATCH) for a in axes) and len(sizes) > 1:
        result[0] = (whole(BATCH, 1),)  # the batch axis of one image, which an earlier node had removed, is back
    return named(result)


def _groups(
    old: list[tuple[Axis, int]], new: list[tuple[int, int]]
) -> Iterable[tuple[list[tuple[Axis, int]], list[tuple[int, int]]]]:
    """Pairs of groups with equal products: (axis, size) before the reshape, (position, size) after."""
    while old and new:
        merged, split = [old.pop(0)], [new.pop(0)]
        p, q = merged[0][1], split[0][1]
        while p != q:
            if (p < q and not old) or (q < p and not new):
                return
            if p < q:
                merged.append(old.pop(0))
                p *= merged[-1][1]
            else:
                split.append(new.pop(0))
                q *= split[-1][1]
        yield merged, split


def _distributed(merged: list[tuple[Axis, int]], sizes: list[int]) -> list[Parts]:
    """The factors of each new axis of a group; unknown where a factor would have to be cut in the middle."""
    if len(merged) == len(sizes) == 1:
        axis, size = merged[0]
        if isinstance(axis, Factored) and axis.before + axis.after:
            return [axis]
        return [tuple(f for f in factors_of(axis, size) if f.size > 1)]
    unknown: list[Parts] = [(whole(UNKNOWN, d),) for d in sizes]
    if any(isinstance(a, Factored) and a.before + a.after for a, _ in merged):
        return unknown
    queue = [f for a, d in merged for f in factors_of(a, d) if f.size > 1]
    result: list[Parts] = []
    for size in sizes:
        taken: list[Factor] = []
        while size > 1:
            f = queue.pop(0)
            if size % f.size == 0:
                taken.append(f)
                size //= f.size
            elif f.size % size == 0:
                inner = f.size // size
                taken.append(replace(f, size=size, stride=f.stride * inner))
                queue.insert(0, replace(f, size=inner))
                size = 1
            else:
                return unknown
        result.append(tuple(taken))
    return result


def _singles(old: list[tuple[Axis, int]]) -> Iterator[tuple[Factor, int]]:
    """(factor of size one, its place in memory), e.g. of a batch of one, or a grid that is one cell high or wide."""
    offset = 1
    for axis, size in old:
        if not isinstance(axis, Factored) or not axis.before + axis.after:
            at = offset
            for f in factors_of(axis, size):
                if f.size == 1 and f.letter != UNKNOWN:
                    yield f, at
                at *= f.size
        offset *= size


def _place(single: Factor, offset: int, sizes: list[int], result: list[Parts]) -> None:
    """Gives the factor to an axis of one entry at the offset; else to the axis that ends or begins there."""
    starts = [math.prod(sizes[:j]) for j in range(len(sizes))]
    free = next((j for j, d in enumerate(sizes) if d == 1 and starts[j] == offset and not result[j]), None)
    if free is not None:
        result[free] = (single,)
        return
    left = next((j for j, d in enumerate(sizes) if d > 1 and starts[j] * d == offset), None)
    right = next((j for j, d in enumerate(sizes) if d > 1 and starts[j] == offset), None)
    for j in (left, right):
        parts = result[j] if j is not None else None
        if j is None or parts is None or isinstance(parts, Factored):
            continue
        if single.letter == BATCH or (single.letter in SPATIAL and any(f.letter in SPATIAL for f in parts)):
            result[j] = (*parts, single) if j == left else (single, *parts)
            return


def _reshaped_by_position(axes: Axes, before: Shape, after: Shape) -> Axes | None:
    """Axes after a reshape with unknown sizes: those whose size stays, and None where the rank changes."""
    if len(before) != len(after):
        return None
    return tuple(a if b == c else None for a, b, c in zip(axes, before, after, strict=True))
