"""Methods that read the gradient at the pixels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Floats, MaskForm, Score
from onnxcam.errors import UndefinedSaliency
from onnxcam.fills import ZERO, Fill
from onnxcam.methods.blocks import Method, Need, Outcome, Probe, positive, stretched, whole

Doubles = npt.NDArray[np.float64]
CAP = 99.0
"""Percentile at which a map of pixels is cut off: a few outliers would leave all else dark (Smilkov et al. 2017)."""
AT_ONCE = 16
"""Pictures that are made at a time."""
COMPLETE = 0.01
"""Of the score's change, what the attributions' sum may lack before a note says so."""


def _method(
    name: str, paper: str, cost: str, attribute: Callable[[Probe, int], tuple[Doubles, tuple[str, ...]]], *,
    fill: Fill = ZERO, options: dict[str, str] | None = None,
) -> Method:  # fmt: skip
    """attribute: (probe, target) -> raw (H,W), and notes."""

    def explain(probe: Probe) -> list[Outcome]:
        found = []
        for target in range(probe.targets):
            raw, notes = attribute(probe, target)
            found.append(Outcome(_shown(raw), raw.astype(np.float32), notes))
        return found

    return Method(
        name=name, paper=paper, cost=cost, explain=explain, needs=frozenset({Need.GRADIENT}), score=Score.LOGIT,
        perturb=fill, form=MaskForm(), options=options or {},
    )  # fmt: skip


def _shown(raw: Doubles) -> Floats:
    """The size of what each pixel contributes, in [0,1]."""
    size = np.abs(raw)
    if not np.isfinite(size).all():
        raise UndefinedSaliency("the gradient is NaN or infinite on this picture; a method without gradients may work")
    if not size.any():
        raise UndefinedSaliency(
            "the gradient of the logit is zero at every pixel; use a method without gradients such as score-cam"
        )
    cap = float(np.percentile(size, CAP)) or float(size.max())
    return stretched(np.minimum(size, cap).astype(np.float32))


def _largest(gradient: Doubles) -> Doubles:
    """(C,H,W) to (H,W): the largest of the channels, with its sign."""
    index = np.abs(gradient).argmax(axis=0)
    return np.asarray(np.take_along_axis(gradient, index[None], axis=0)[0])


def gradient() -> Method:
    """Vanilla gradient (Simonyan et al. 2014, arXiv:1312.6034, section 3): |d logit / d pixel| of the largest colour."""

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[str, ...]]:
        _, found = probe.image_gradient(probe.image[None], np.asarray([target]))
        return _largest(found[0].astype(np.float64)), ()

    return _method("gradient", "Simonyan et al. 2014, arXiv:1312.6034", "1 step (forward and gradient)", attribute)


def guided_backprop() -> Method:
    """Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806): only what is positive passes back a ReLU.

    For networks with ReLU or ReLU6; it is known to depend little on the class (Adebayo et al. 2018, arXiv:1810.03292).
    """

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[str, ...]]:
        _, found = probe.image_gradient(probe.image[None], np.asarray([target]), guided=True)
        return _largest(found[0].astype(np.float64)), ()

    return _method(
        "guided-backprop", "Springenberg et al. 2015, arXiv:1412.6806", "1 step (forward and gradient)", attribute
    )


def smooth_grad(*, samples: int = 50, noise: float = 0.15, seed: int = 0) -> Method:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): the mean gradient of noisy copies.

    samples: copies. noise: standard deviation, as a share of the image's range. seed: of the noise.
    """
    samples, noise, seed = whole(samples, "samples"), positive(noise, "noise"), whole(seed, "seed", 0)

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[str, ...]]:
        probe.expect(samples * probe.targets)
        rng = np.random.default_rng(seed)
        spread = noise * float(np.ptp(probe.image))
        total = np.zeros(probe.image.shape)
        for start in range(0, samples, AT_ONCE):
            count = min(AT_ONCE, samples - start)
            drawn = rng.standard_normal((count, *probe.image.shape), np.float32)
            _, found = probe.image_gradient((probe.image + spread * drawn).astype(np.float32), np.full(count, target))
            total += found.astype(np.float64).sum(axis=0)
        return _largest(total / samples), ()

    return _method(
        "smooth-grad", "Smilkov et al. 2017, arXiv:1706.03825", f"{samples} steps (forward and gradient)", attribute,
        options={"samples": f"{samples}", "noise": f"{noise:g}", "seed": f"{seed}"},
    )  # fmt: skip


def integrated_gradients(*, steps: int = 200, fill: Fill = ZERO) -> Method:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365, equation 3), by the midpoint rule.

    fill: the baseline that the way to the picture starts from. The attributions should sum to the change of the logit
    (completeness); what they miss is reported, and noted where it is more than 1 %.
    """
    steps = whole(steps, "steps")

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[str, ...]]:
        probe.expect(steps * probe.targets)
        change = (probe.image - probe.fill).astype(np.float32)
        total = np.zeros(probe.image.shape)
        for start in range(0, steps, AT_ONCE):
            at = ((np.arange(start, min(start + AT_ONCE, steps)) + 0.5) / steps).astype(np.float32)
            images = probe.fill + at.reshape(-1, *[1] * change.ndim) * change
            _, found = probe.image_gradient(images, np.full(len(at), target))
            total += found.astype(np.float64).sum(axis=0)
        attributions = total / steps * change
        ends, _ = probe.image_gradient(np.stack([probe.fill, probe.image]), np.full(2, target))
        return attributions.sum(axis=0), (_completeness(attributions.sum(), float(ends[1]) - float(ends[0])),)

    return _method(
        "integrated-gradients", "Sundararajan et al. 2017, arXiv:1703.01365",
        f"{steps + 2} steps (forward and gradient)", attribute, fill=fill, options={"steps": f"{steps}"},
    )  # fmt: skip


def _completeness(total: float, change: float) -> str:
    gap = abs(total - change)
    found = f"the attributions sum to {total:.4g}, the logit changes by {change:.4g}"
    if gap <= COMPLETE * abs(change):
        return f"complete: {found}"
    return f"not complete: {found}; more steps bring the two together"
