"""What the methods at the pixels share: an attribution for each target, shown by its absolute value at each pixel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Method, Need, Probe
from onnxcam.methods.fills import ZERO, Fill
from onnxcam.methods.maps import Outcome, stretched
from onnxcam.types import Doubles, Floats, Note, PictureGradient, Score

CAP = 99.0
"""Percentile at which a map of pixels is cut off: a few outliers would leave all else dark (Smilkov et al. 2017)."""
AT_ONCE = 16
"""Images that are made at a time."""
Attribute = Callable[[Probe, int], tuple[Doubles, tuple[Note, ...]]]
"""(probe, target) -> raw map (H,W), and notes."""


def pixel_method(
    name: str,
    paper: str,
    cost: str,
    attribute: Attribute,
    options: dict[str, Any] | None = None,
    fill: Fill = ZERO,
    begins_with: PictureGradient | None = None,
) -> Method:
    """A method from a function that attributes one target's logit to the pixels."""
    return Method(
        name=name,
        paper=paper,
        cost=cost,
        explain=_TargetByTarget(attribute),
        needs=frozenset({Need.GRADIENT}),
        begins_with=begins_with,
        score=Score.LOGIT,
        perturb=fill,
        options=options or {},
    )


@dataclass(frozen=True)
class _TargetByTarget:
    attribute: Attribute

    def __call__(self, probe: Probe) -> list[Outcome]:
        outcomes = []
        for target in range(probe.targets):
            raw, notes = self.attribute(probe, target)
            outcomes.append(Outcome(_shown(raw), raw.astype(np.float32), notes))
        return outcomes


def _shown(raw: Doubles) -> Floats:
    """The absolute attribution of each pixel, cut off at CAP and stretched to [0,1]."""
    size = np.abs(raw)
    if not np.isfinite(size).all():
        raise UndefinedSaliency("the gradient is NaN or infinite on this picture; a method without gradients may work")
    if not size.any():
        raise UndefinedSaliency(
            "the gradient of the logit is zero at every pixel; use a method without gradients such as score-cam"
        )
    cap = float(np.percentile(size, CAP)) or float(size.max())
    return stretched(np.minimum(size, cap).astype(np.float32))


def largest_channel(gradient: Doubles) -> Doubles:
    """(C,H,W) to (H,W): the largest of the channels by absolute value, with its sign."""
    index = np.abs(gradient).argmax(axis=0)
    return np.asarray(np.take_along_axis(gradient, index[None], axis=0)[0])
