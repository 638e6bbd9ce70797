"""Grad-CAM, Grad-CAM++, LayerCAM, HiResCAM and XGrad-CAM: feature maps weighed by the gradient of the logit.

Each takes one backward pass for each target."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Method, Need, Probe, finite_features
from onnxcam.methods.maps import Outcome, rectified
from onnxcam.methods.options import non_negative_number
from onnxcam.types import Doubles, Floats, PictureGradient, Score

Combine = Callable[[Doubles, Doubles], Doubles]
"""(maps (K,h,w), gradient (K,h,w)) -> raw map (h,w)."""
TINY = 1e-12
"""The share of the largest sum over a map below which another map's sum counts as zero."""


@dataclass(frozen=True)
class _GradientCam:
    """Combines maps and gradients, and rectifies the raw map before enlarging it."""

    combine: Combine

    def __call__(self, probe: Probe) -> list[Outcome]:
        maps = finite_features(probe).astype(np.float64)
        outcomes = []
        for gradient in probe.feature_gradient():
            _check(gradient)
            raw = self.combine(maps, gradient.astype(np.float64)).astype(np.float32)
            outcomes.append(rectified(raw, probe.size, coarse=True))
        return outcomes


def _method(name: str, paper: str, combine: Combine, options: dict[str, Any] | None = None) -> Method:
    return Method(
        name=name,
        paper=paper,
        cost="1 step (forward and gradient)",
        explain=_GradientCam(combine),
        score=Score.LOGIT,
        needs=frozenset({Need.FEATURES, Need.TAIL, Need.GRADIENT}),
        begins_with=PictureGradient.FEATURES,
        options=options or {},
    )


def _check(gradient: Floats) -> None:
    low, high = float(gradient.min()), float(gradient.max())  # NaN where any number is NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UndefinedSaliency("the gradient is NaN or infinite on this picture; a method without gradients may work")
    if low == high == 0:
        raise UndefinedSaliency(
            "the gradient of the logit is zero at every feature: the score does not depend on this tensor here; "
            "name another --layer, or use a method without gradients such as score-cam"
        )


def _space(maps: Doubles) -> tuple[int, ...]:
    return tuple(range(1, maps.ndim))


def _weighted(weights: Doubles, maps: Doubles) -> Doubles:
    return np.asarray((weights @ maps.reshape(len(maps), -1)).reshape(maps.shape[1:]))


def grad_cam() -> Method:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, equations 1, 2): a channel's weight is its mean gradient."""
    return _method("grad-cam", "Selvaraju et al. 2017, arXiv:1610.02391", _by_mean_gradient)


def _by_mean_gradient(maps: Doubles, gradient: Doubles) -> Doubles:
    cells = gradient.reshape(len(gradient), -1)
    # A product with ones: NumPy's mean of many short rows takes four times as long.
    return _weighted(cells @ np.ones(cells.shape[1]) / cells.shape[1], maps)


def grad_cam_plus_plus(*, epsilon: float = 0.0) -> Method:
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063, equation 19).

    With g the gradient of the logit, alpha = g^2 / (2 g^2 + sum(A) g^3 + epsilon), 0 where g or the denominator is; a
    channel's weight is the sum of alpha ReLU(g). epsilon: pytorch-grad-cam adds 1e-6, as large as g^2 behind an average
    over 7x7 cells, which changes the weights; 0 is the paper's equation.
    """
    combine = _ByAlpha(non_negative_number(epsilon, "epsilon"))
    paper = "Chattopadhay et al. 2018, arXiv:1710.11063"
    return _method("grad-cam++", paper, combine, {"epsilon": combine.epsilon})


@dataclass(frozen=True)
class _ByAlpha:
    epsilon: float

    def __call__(self, maps: Doubles, gradient: Doubles) -> Doubles:
        space = _space(maps)
        nonzero = gradient != 0
        # The factor g^2 of numerator and denominator cancels, which keeps small gradients from underflowing.
        square = np.where(nonzero, gradient * gradient, 1)
        below = 2 + maps.sum(axis=space, keepdims=True) * gradient + self.epsilon / square
        alpha = np.where(nonzero & (below != 0), 1 / np.where(below == 0, 1, below), 0)
        return _weighted((alpha * np.maximum(gradient, 0)).sum(axis=space), maps)


def layer_cam() -> Method:
    """LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943): each cell weighed by its own positive gradient."""
    return _method("layer-cam", "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943", _by_positive_cell)


def _by_positive_cell(maps: Doubles, gradient: Doubles) -> Doubles:
    return np.asarray((np.maximum(gradient, 0) * maps).sum(axis=0))


def hires_cam() -> Method:
    """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891): each cell weighed by its own gradient."""
    return _method("hires-cam", "Draelos & Carin 2020, arXiv:2011.08891", _by_cell)


def _by_cell(maps: Doubles, gradient: Doubles) -> Doubles:
    return np.asarray((gradient * maps).sum(axis=0))


def xgrad_cam() -> Method:
    """XGrad-CAM (Fu et al. 2020, arXiv:2008.02312, equation 8): mean gradients, weighed by the activation."""
    return _method("xgrad-cam", "Fu et al. 2020, arXiv:2008.02312", _by_activation)


def _by_activation(maps: Doubles, gradient: Doubles) -> Doubles:
    space = _space(maps)
    total = maps.sum(axis=space)
    size = np.abs(total)
    present = size > TINY * size.max(initial=0)
    weights = np.where(present, (gradient * maps).sum(axis=space) / np.where(present, total, 1), 0)
    return _weighted(weights, maps)
