"""How a convolution or a pooling lays its kernel over what it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from onnxcam.surgeon.autodiff.rules.registry import BackwardNode


@dataclass(frozen=True)
class Windows:
    """One entry a spatial axis. sizes: of the input; results: of the output; pads: entries added before and after."""

    sizes: list[int]
    results: list[int]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[tuple[int, int]]

    @property
    def reach(self) -> list[int]:
        """From a window's first entry to its last."""
        return [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]

    @property
    def covered(self) -> list[int]:
        """From the first window's first entry to the last one's last, padding included."""
        return [(n - 1) * s + r + 1 for n, s, r in zip(self.results, self.strides, self.reach, strict=True)]


def windows_of(step: BackwardNode, kernel: Sequence[int]) -> Windows:
    """Of the node; raises MissingGradient where a size depends on the batch."""
    space = range(2, step.rank(step.x))
    sizes, results = step.static(step.x, space), step.static(step.y, space)
    strides, dilations = (step.integers(name) or [1] * len(space) for name in ("strides", "dilations"))
    return Windows(sizes, results, list(kernel), strides, dilations, padding(step, sizes, kernel, results))


def padding(
    step: BackwardNode, sizes: Sequence[int], kernel: Sequence[int], results: Sequence[int]
) -> list[tuple[int, int]]:
    """Entries added (before, after) along each spatial axis, auto_pad worked out. results: the output's sizes."""
    rank = len(sizes)
    policy = step.text("auto_pad", "NOTSET")
    if policy in ("NOTSET", ""):
        pads = step.integers("pads") or [0] * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    if policy == "VALID":
        return [(0, 0)] * rank
    strides, dilations = (step.integers(name) or [1] * rank for name in ("strides", "dilations"))
    found = []
    for i, (size, k) in enumerate(zip(sizes, kernel, strict=True)):
        total = max((results[i] - 1) * strides[i] + dilations[i] * (k - 1) + 1 - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if policy == "SAME_UPPER" else (more, less))
    return found
