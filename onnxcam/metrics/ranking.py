"""The order of a map's pixels, by which curves remove them."""

import numpy as np

from onnxcam.types import Doubles, Indices

NO_ORDER = "the map is constant, so its pixels have no order"


def is_constant(saliency_map: Doubles) -> bool:
    """Whether all numbers of the map are the same."""
    return bool((saliency_map == saliency_map.flat[0]).all())


def descending_ranks(saliency_map: Doubles) -> Indices:
    """The rank of each pixel, in the map's shape: 0 for the largest number; ties in raster order."""
    order = np.argsort(-saliency_map, axis=None, kind="stable")
    ranks = np.empty(saliency_map.size, np.int64)
    ranks[order] = np.arange(saliency_map.size)
    return ranks.reshape(saliency_map.shape)
