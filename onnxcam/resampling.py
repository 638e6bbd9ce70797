"""Linear resizing of low-resolution maps to the image's size.

One definition for the scoring graph, its gradient and the host: the graphs embed `bilinear_matrix`, the host calls
`upsample`.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from onnxcam.products import product
from onnxcam.types import Floats

KEPT = 2**16
"""Most entries of a matrix that is kept for the next map: of a grid of 290 cells for a side of 224 pixels."""
LARGEST_MATRIX = 2**22
"""Most entries of a resizing matrix; larger resizes, as of long signals, gather the two neighbours instead."""


def neighbours(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """(low, high, weight of high), each (target,), of a linear resize with half-pixel centres and replicated edges.

    As PyTorch's `align_corners=False` and ONNX Resize's `half_pixel`: sample i of the target lies at
    (i + 0.5) * source / target - 0.5 on the source.
    """
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)


def is_small(source: int, target: int, largest: int = LARGEST_MATRIX) -> bool:
    """Whether the resize is a product with bilinear_matrix(), which has at most `largest` entries then."""
    return source * target <= largest


def bilinear_matrix(source: int, target: int) -> Floats:
    """(target, source) matrix of the resize that neighbours() defines."""
    low, high, weight = neighbours(source, target)
    weights = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(weights, (rows, low), 1 - weight.astype(np.float64))
    np.add.at(weights, (rows, high), weight)
    return weights.astype(np.float32)


@lru_cache(maxsize=16)
def _kept_matrix(source: int, target: int) -> Floats:
    """bilinear_matrix(), made once: a tenth of what a Grad-CAM takes beside its run. Read-only."""
    matrix = bilinear_matrix(source, target)
    matrix.flags.writeable = False
    return matrix


def upsample(grid: Floats, size: tuple[int, ...]) -> Floats:
    """Resizes (..., h, w) to (..., H, W). `size` has one, two or three sides, and so has the map."""
    for axis, target in zip(range(-len(size), 0), size, strict=True):
        source = grid.shape[axis]
        if is_small(source, target):
            rows = grid.swapaxes(axis, -1)[None]
            matrix = (_kept_matrix if is_small(source, target, KEPT) else bilinear_matrix)(source, target)
            grid = product(rows, matrix.T)[0].swapaxes(axis, -1)
        else:
            low, high, weight = neighbours(source, target)
            weight = weight.reshape(-1, *[1] * (-axis - 1))
            grid = np.take(grid, low, axis) * (1 - weight) + np.take(grid, high, axis) * weight
    return np.ascontiguousarray(grid, np.float32)
