"""ADCC: one number of three properties of a map, as a harmonic mean (Poppi et al. 2021)."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.limits import brief
from onnxcam.metrics.arguments import fitting_map, unit_map
from onnxcam.metrics.average import average_drop
from onnxcam.metrics.correlation import pearson
from onnxcam.metrics.measurement import Measurement
from onnxcam.metrics.metric import Explain
from onnxcam.types import Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer


def adcc(
    scorer: "Scorer", saliency_map: npt.ArrayLike, explain: Explain, *, progress: Progress | None = None
) -> Measurement:
    """3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)), in [0,1]; higher is better (arXiv:2104.10252).

    coherency: (r + 1) / 2, with Pearson's r of the map and of the map that `explain` gives for the image times the map.
    complexity: the map's mean. drop: average drop of this image as a fraction. All three are in options. Where one of
    the three terms is 0, so is their harmonic mean. saliency_map: in [0,1], of the image's sides. explain: the same
    method for the same target; its forward passes are not in `passes`. None where r or the drop is undefined, so for a
    constant map. The value of a set is the mean of those of its pictures. Raises as average_drop() does.
    """
    mask = unit_map(saliency_map, scorer)
    if not callable(explain):
        raise OptionError(f"explain is a function that gives the map of an image, not {brief(explain)}")
    drop = average_drop(scorer, mask, progress=progress)
    if drop.value is None:
        return Measurement("adcc", None, reason=drop.reason, passes=drop.passes)
    try:
        again = fitting_map(explain(np.asarray(scorer.image * mask, np.float32)), scorer)
    except UndefinedSaliency as error:
        return Measurement("adcc", None, reason=f"the masked image is not explained: {error}", passes=drop.passes)
    r = pearson(mask, again)
    if r is None:
        which = "map" if np.ptp(mask) == 0 else "map of the masked image"
        reason = f"the {which} is constant, so the coherency is undefined"
        return Measurement("adcc", None, reason=reason, passes=drop.passes)
    parts = {"coherency": (r + 1) / 2, "complexity": float(mask.mean()), "drop": drop.value / 100}
    terms = (parts["coherency"], 1 - parts["complexity"], 1 - parts["drop"])
    value = 3 / sum(1 / term for term in terms) if min(terms) > 0 else 0.0
    return Measurement("adcc", value, options=parts, passes=drop.passes)
