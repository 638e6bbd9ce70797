"""Bilinear resizing as two small matrices, so that the graph, its gradient and the host share one definition."""

import numpy as np

from onnxcam.arrays import Floats


def bilinear_matrix(source: int, target: int) -> Floats:
    """(target, source) weights of a linear resize with half-pixel centres, edges replicated.

    The rule of PyTorch's `align_corners=False` and ONNX Resize's `half_pixel`: sample i of the target lies at
    (i + 0.5) * source / target - 0.5 on the source.
    """
    at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, source - 1)
    weights = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(weights, (rows, low), 1 - (at - low))
    np.add.at(weights, (rows, high), at - low)
    return weights.astype(np.float32)


def upsample(grid: Floats, size: tuple[int, int]) -> Floats:
    """(..., h, w) to (..., H, W)."""
    height, width = (bilinear_matrix(grid.shape[i], size[i]) for i in (-2, -1))
    return np.asarray(height @ grid @ width.T, np.float32)
