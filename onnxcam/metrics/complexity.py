"""How compact a map is. It says nothing about whether the map is right."""

import numpy as np
import numpy.typing as npt

from onnxcam.metrics.arguments import finite_map
from onnxcam.metrics.measurement import Measurement


def sparseness(saliency_map: npt.ArrayLike) -> Measurement:
    """The Gini index of the map's absolute numbers, in [0,1): 0 for a constant map, 1 - 1/n for one pixel of n.

    As Chalasani et al. 2020 (arXiv:1810.06583) measure attributions. saliency_map: of any shape and range. None for a
    map of zeros. Raises OptionError for a map that is not finite.
    """
    sizes = np.sort(np.abs(finite_map(saliency_map)), axis=None)
    if sizes[-1] == 0:
        return Measurement("sparseness", None, reason="the map is zero everywhere")
    sizes = sizes / sizes[-1]
    places = 2 * np.arange(1, sizes.size + 1) - sizes.size - 1
    return Measurement("sparseness", float(places @ sizes / (sizes.size * sizes.sum())))
