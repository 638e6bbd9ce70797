"""The windows of convolutions and poolings: kernel, strides, dilations and padding from a node's attributes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from onnx_torch.registry import Node


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution or a pooling, one number an axis. before, after: the padding."""

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


def windows_of(node: Node, sides: Sequence[int], kernel: Sequence[int]) -> Windows:
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
