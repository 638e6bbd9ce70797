"""The table of target kinds, to which other packages add theirs."""

from collections.abc import Sequence

import numpy as np

from onnxcam.errors import OptionError
from onnxcam.explainer.targets.box import BOX
from onnxcam.explainer.targets.classes import CLASS
from onnxcam.explainer.targets.element import ELEMENT
from onnxcam.explainer.targets.kind import TargetKind
from onnxcam.explainer.targets.region import REGION
from onnxcam.explainer.targets.similarity import SIMILARITY
from onnxcam.explainer.targets.timestep import TIMESTEP
from onnxcam.outputs.saliency import ScoredTarget

TARGET_KINDS: dict[str, TargetKind] = {kind.name: kind for kind in (CLASS, ELEMENT, BOX, REGION, TIMESTEP, SIMILARITY)}
"""Every kind of target by name; register() adds to it."""


def register(kind: TargetKind) -> TargetKind:
    """Adds a kind of target and returns it; its value may derive from that of another kind.

    Raises OptionError if another kind has its name, value or option, and for a value's type that other targets share.
    """
    for other in TARGET_KINDS.values():
        shares_value = bool(set(kind.types) & set(other.types))
        if kind.name == other.name or shares_value or (kind.option is not None and kind.option == other.option):
            raise OptionError(
                f"the target kind {kind.name!r} clashes with the kind {other.name!r}; give it its own name"
            )
    for value in kind.types:
        if not _is_distinct(value):
            raise OptionError(
                f"values of the target kind {kind.name!r} cannot be told from other targets by their type "
                f"{getattr(value, '__name__', value)}; give it a class of its own, such as a frozen dataclass"
            )
    TARGET_KINDS[kind.name] = kind
    return kind


def _is_distinct(value: object) -> bool:
    """Whether a type tells its values from several targets (a sequence), from a class and from a result's target."""
    if not isinstance(value, type) or value is object or getattr(value, "_is_protocol", False):
        return False
    return not issubclass(value, Sequence | np.ndarray | np.generic | int | bytes | bytearray | ScoredTarget)
