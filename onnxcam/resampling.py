"""Linear resizing along each axis, so that the graph, its gradient and the host share one definition."""

import numpy as np
import numpy.typing as npt

from onnxcam.types import Floats

LARGEST_MATRIX = 2**22
"""Numbers of a resizing matrix; beyond, as for long signals, neighbours are picked one by one."""


def neighbours(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """(low, high, share of high), each (target,), of a linear resize with half-pixel centres, edges replicated.

    The rule of PyTorch's `align_corners=False` and ONNX Resize's `half_pixel`: sample i of the target lies at
    (i + 0.5) * source / target - 0.5 on the source.
    """
    at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(at).astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (at - low).astype(np.float32)


def is_small(source: int, target: int) -> bool:
    """Whether the resize is done with a matrix."""
    return source * target <= LARGEST_MATRIX


def bilinear_matrix(source: int, target: int) -> Floats:
    """(target, source) weights of the resize that neighbours() describes."""
    low, high, share = neighbours(source, target)
    weights = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(weights, (rows, low), 1 - share.astype(np.float64))
    np.add.at(weights, (rows, high), share)
    return weights.astype(np.float32)


def upsample(grid: Floats, size: tuple[int, ...]) -> Floats:
    """(..., h, w) to (..., H, W); one, two or three spatial axes, as many as size has."""
    for axis, target in zip(range(-len(size), 0), size, strict=True):
        source = grid.shape[axis]
        if is_small(source, target):
            grid = np.moveaxis(np.moveaxis(grid, axis, -1) @ bilinear_matrix(source, target).T, -1, axis)
        else:
            low, high, share = neighbours(source, target)
            share = share.reshape(-1, *[1] * (-axis - 1))
            grid = np.take(grid, low, axis) * (1 - share) + np.take(grid, high, axis) * share
    return np.ascontiguousarray(grid, np.float32)
