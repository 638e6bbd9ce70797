"""How alike two maps of one model are: Spearman's correlation, and that of their histograms of gradients (HOG).

Adebayo et al. 2018 compare maps by both. Structural similarity (SSIM) is left out: it tells maps of a random network
from others no better than maps of different pictures.
"""

from typing import cast

import numpy as np

from onnxcam.metrics.correlation import pearson, spearman
from onnxcam.types import Doubles, Map

ORIENTATIONS = 9
"""Bins of the direction of a gradient, over half a turn."""
CELL, BLOCK = 16, 3
"""Pixels along a cell, fewer on small maps; cells along a block, in which the histograms are normalised together."""
CLIP, TINY = 0.2, 1e-5
"""The largest number of a normalised block, and what keeps a block without edges from a division by zero."""
COMPLEXITY_BINS = 100
"""Bins of the values of a map between 0 and 1."""


def map_spearman(one: Map, other: Map) -> float | None:
    """Spearman's correlation of all pixels in [-1,1]; None where one of the maps is constant."""
    return spearman(one, other)


def map_hog(one: Map, other: Map) -> float | None:
    """Pearson's correlation of the histograms of gradients in [-1,1]; None for maps without edges or of other ranks."""
    features = hog(one), hog(other)
    if features[0] is None or features[1] is None or features[0].shape != features[1].shape:
        return None
    return pearson(features[0], features[1])


def hog(saliency_map: Map) -> Doubles | None:
    """The histograms of oriented gradients of a map (H,W) as one vector (Dalal and Triggs 2005).

    Gradients by central differences, 0 at the border; their directions without sign in 9 bins, weighed by their
    lengths, over cells of 16 x 16 pixels (a third of the shorter side where that is less); blocks of 3 x 3 cells, one
    a cell, of length 1, cut at 0.2 and of length 1 again. None for a signal, a volume and a map under 6 pixels.
    """
    if saliency_map.ndim != 2 or min(saliency_map.shape) < 2 * BLOCK:
        return None
    cells = _cells(np.asarray(saliency_map, np.float64), min(CELL, min(saliency_map.shape) // BLOCK))
    windows = np.lib.stride_tricks.sliding_window_view(cells, (BLOCK, BLOCK), axis=(0, 1))
    blocks = windows.reshape(windows.shape[0] * windows.shape[1], -1)
    blocks = _of_length_one(blocks)
    return _of_length_one(np.minimum(blocks, CLIP)).ravel()


def _cells(values: Doubles, side: int) -> Doubles:
    """(rows, columns, 9) the sum of the gradients' lengths by direction in each cell; a rest at the border is left."""
    down, across = np.zeros_like(values), np.zeros_like(values)
    down[1:-1] = values[2:] - values[:-2]
    across[:, 1:-1] = values[:, 2:] - values[:, :-2]
    rows, columns = values.shape[0] // side, values.shape[1] // side
    length = np.hypot(down, across)[: rows * side, : columns * side]
    angle = np.degrees(np.arctan2(down, across))[: rows * side, : columns * side] % 180
    bins = np.minimum((angle * (ORIENTATIONS / 180)).astype(np.intp), ORIENTATIONS - 1)
    cell = (np.arange(rows * side) // side)[:, None] * columns + np.arange(columns * side) // side
    sums = np.bincount((cell * ORIENTATIONS + bins).ravel(), length.ravel(), rows * columns * ORIENTATIONS)
    return sums.reshape(rows, columns, ORIENTATIONS) / side**2


def _of_length_one(blocks: Doubles) -> Doubles:
    return cast(Doubles, blocks / np.sqrt((blocks**2).sum(axis=1, keepdims=True) + TINY**2))


def complexity(saliency_map: Map) -> float:
    """Entropy in nats of the histogram of a map's values in [0,1], in 100 bins: 0 for a constant map, at most 4.6."""
    counts = np.histogram(saliency_map, bins=COMPLEXITY_BINS, range=(0, 1))[0]
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def complexity_rise(intact: Map, random: Map) -> float | None:
    """By how much the complexity is higher for random weights, as a share of the intact map's (eMPRT, Hedstroem 2024).

    Above 0 where random weights make a more disordered map, as they should. None where the intact map has none.
    """
    before = complexity(intact)
    return (complexity(random) - before) / before if before > 0 else None
