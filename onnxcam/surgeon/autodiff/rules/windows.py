"""The windows of a convolution or a pooling: kernel, strides, dilations and padding along each spatial axis.

Helper of the rules in conv.py and pool.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode


@dataclass(frozen=True)
class Windows:
    """One entry per spatial axis. sizes: input. results: output. pads: entries added (before, after)."""

    sizes: list[int]
    results: list[int]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[tuple[int, int]]

    @property
    def reach(self) -> list[int]:
        """Distance from a window's first entry to its last: dilation * (kernel - 1)."""
        return [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]

    @property
    def covered(self) -> list[int]:
        """Number of entries from the first window's first to the last window's last, padding included."""
        return [(n - 1) * s + r + 1 for n, s, r in zip(self.results, self.strides, self.reach, strict=True)]


def windows_of(node: BackwardNode, kernel: Sequence[int]) -> Windows:
    """The node's windows. Raises MissingGradient if a spatial size depends on the batch."""
    space = range(2, node.rank(node.x))
    sizes, results = node.static(node.x, space), node.static(node.y, space)
    strides, dilations = (node.integers(name) or [1] * len(space) for name in ("strides", "dilations"))
    return Windows(sizes, results, list(kernel), strides, dilations, padding(node, sizes, kernel, results))


def padding(
    node: BackwardNode, sizes: Sequence[int], kernel: Sequence[int], results: Sequence[int]
) -> list[tuple[int, int]]:
    """Entries added (before, after) along each spatial axis, with auto_pad resolved. results: the output's sizes."""
    rank = len(sizes)
    policy = node.text("auto_pad", "NOTSET")
    if policy in ("NOTSET", ""):
        pads = node.integers("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if policy == "VALID":
        return [(0, 0)] * rank
    strides, dilations = (node.integers(name) or [1] * rank for name in ("strides", "dilations"))
    pads_by_axis = []
    for i, (size, k) in enumerate(zip(sizes, kernel, strict=True)):
        total = max((results[i] - 1) * strides[i] + dilations[i] * (k - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        pads_by_axis.append((less, more) if policy == "SAME_UPPER" else (more, less))
    return pads_by_axis
