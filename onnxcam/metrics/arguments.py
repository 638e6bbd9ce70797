"""Checks of what a metric takes: a map of the image's shape, a Scorer of one target, a protocol that there is."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.limits import brief, is_whole
from onnxcam.types import Doubles

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

ROUNDING = 1e-6
"""How far beyond [0,1] float32 may take a map or a probability."""
NOT_FINITE = "the model's scores hold NaN or infinity"


def typed(name: str) -> str:
    """A metric's name as people read and type it: average-drop of average_drop, average-drop:half of the same."""
    metric, colon, protocol = name.partition(":")
    return f"{metric.replace('_', '-')}{colon}{protocol}"


def array_of(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """The values as an array. Raises OptionError, with the name, for rows of unequal length.

    So too for PyTorch's tensors that require a gradient or lie on a GPU: its message says what to call.
    """
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise OptionError(f"{name} cannot be read as an array: {error}") from error


def numbers_of(name: str, values: Any) -> tuple[float, ...]:
    """The real numbers of a sequence. Raises OptionError, with the name, for what is none."""
    array = array_of(name, values)
    if array.dtype.kind not in "fiu" or array.ndim > 1:
        raise OptionError(f"{name}: real numbers are needed, not {brief(values)}")
    return tuple(array.reshape(-1).tolist())


def finite_map(saliency_map: npt.ArrayLike) -> Doubles:
    """The map in float64. Raises OptionError where it is no array of finite numbers, or empty."""
    given = array_of("the map", saliency_map)
    if given.dtype.kind not in "fiub" or given.size == 0 or given.ndim == 0:
        raise OptionError(f"a map is an array of real numbers, not {given.dtype} of the shape {given.shape}")
    if not np.isfinite(given).all():
        raise OptionError("the map holds NaN or infinity; a metric needs finite numbers")
    return np.asarray(given, np.float64)


def fitting_map(saliency_map: npt.ArrayLike, scorer: "Scorer") -> Doubles:
    """The map in float64. Raises OptionError where it is not finite, or not of the shape of the scorer's image."""
    _check_scorer(scorer)
    given = finite_map(saliency_map)
    if given.shape != tuple(scorer.size):
        sides = "x".join(map(str, scorer.size))
        raise OptionError(
            f"the map has the shape {given.shape}, and the model's input {sides}; enlarge the map to the input first"
        )
    return given


def unit_map(saliency_map: npt.ArrayLike, scorer: "Scorer") -> Doubles:
    """As fitting_map(), for a map that is multiplied with the image. Raises OptionError where it leaves [0,1]."""
    given = fitting_map(saliency_map, scorer)
    low, high = float(given.min()), float(given.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise OptionError(
            f"the map runs from {low:.4g} to {high:.4g}; to multiply the image it must lie in [0,1], "
            f"so stretch it first: (m - m.min()) / (m.max() - m.min()), or name metrics that only order the pixels, "
            f"such as deletion and insertion"
        )
    return np.clip(given, 0, 1)


def single_target(scorer: "Scorer") -> None:
    """Raises OptionError for a Scorer of several targets, and for what is no Scorer."""
    _check_scorer(scorer)
    if len(scorer.targets) != 1:
        raise OptionError(f"a metric takes a Scorer of one target, not of {len(scorer.targets)}; use scorer.only(i)")


def _check_scorer(scorer: object) -> None:
    if not isinstance(getattr(scorer, "targets", None), tuple):
        raise OptionError(f"a metric takes a Scorer, which Explainer.scorer(picture) makes, not {brief(scorer)}")


def known_protocol(metric: str, protocol: str, protocols: Iterable[str]) -> str:
    """The protocol. Raises OptionError, which lists the known ones, where the metric has none of that name."""
    known = tuple(protocols)
    if not isinstance(protocol, str) or protocol not in known:
        listed = f"known: {', '.join(known)}" if known else "it has only one, without a name"
        raise OptionError(f"{typed(metric)} has no protocol {brief(protocol)}; {listed}")
    return protocol


def known_seed(seed: int) -> int:
    """The seed. Raises OptionError where it is no whole number from 0."""
    if not is_whole(seed, 0):
        raise OptionError(f"a seed is a whole number from 0, not {brief(seed)}")
    return int(seed)
