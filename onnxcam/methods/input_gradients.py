"""Methods that read the gradient at the pixels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import Method, Need, Probe, positive, whole
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import Outcome, stretched
from onnxcam.types import Floats, MaskForm, Note, NoteCode, Score

Doubles = npt.NDArray[np.float64]
CAP = 99.0
"""Percentile at which a map of pixels is cut off: a few outliers would leave all else dark (Smilkov et al. 2017)."""
AT_ONCE = 16
"""Pictures that are made at a time."""
COMPLETE = 0.01
"""Of the score's change, what the attributions' sum may lack before a note says so."""


def _method(
    name: str, paper: str, cost: str, attribute: Callable[[Probe, int], tuple[Doubles, tuple[Note, ...]]], *,
    fill: Fill | str = ZERO, options: dict[str, str] | None = None,
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
        perturb=as_fill(fill), form=MaskForm(), options=options or {},
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
    """Vanilla gradient (Simonyan et al. 2014, arXiv:1312.6034, 3): |d logit / d pixel|, the largest colour."""

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
        probe.expect(probe.targets)
        _, found = probe.image_gradient(probe.image[None], np.asarray([target]))
        return _largest(found[0].astype(np.float64)), ()

    return _method("gradient", "Simonyan et al. 2014, arXiv:1312.6034", "1 step (forward and gradient)", attribute)


def guided_backprop() -> Method:
    """Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806): only what is positive passes back a ReLU.

    For networks with ReLU or ReLU6; it is known to depend little on the class (Adebayo et al. 2018, arXiv:1810.03292).
    """

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
        probe.expect(probe.targets)
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

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
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


def integrated_gradients(*, steps: int = 200, fill: Fill | str = ZERO) -> Method:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365, equation 3).

    fill: the baseline that the way to the picture starts from. steps: gradients along the way. The integrand is rough
    near the baseline, so that 200 even steps miss 2 to 13 % of an EfficientNet's logit; the logit's change over a part
    of the way is known exactly, so steps are added where the trapezoid rule disagrees with it the most. The
    attributions should sum to the change of the logit (completeness); a note says how well they do.
    """
    steps = whole(steps, "steps", 2)

    def attribute(probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
        probe.expect(steps * probe.targets)
        path = _Path(probe, target)
        path.add(np.linspace(0, 1, max(2, steps // 6)))
        while len(path.places) < steps:
            path.add(path.rough(min(AT_ONCE, steps - len(path.places))))
        raw = path.integral()
        return raw, (_completeness(float(raw.sum()), path.logits[-1] - path.logits[0]),)

    return _method(
        "integrated-gradients", "Sundararajan et al. 2017, arXiv:1703.01365", f"{steps} steps (forward and gradient)",
        attribute, fill=fill, options={"steps": f"{steps}"},
    )  # fmt: skip


class _Path:
    """Places between baseline (0) and picture (1), in order, each with its logit and its slope (H,W).

    The slope is the gradient times the picture's difference from the baseline, summed over the colours; its sum is the
    derivative of the logit along the way.
    """

    def __init__(self, probe: Probe, target: int) -> None:
        self._probe, self._target = probe, target
        self._change = (probe.image - probe.fill).astype(np.float32)
        self.places: list[float] = []
        self.logits: list[float] = []
        self._slopes: list[Floats] = []

    def add(self, places: Doubles) -> None:
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            at = part.astype(np.float32).reshape(-1, *[1] * self._change.ndim)
            images = self._probe.fill + at * self._change
            logits, found = self._probe.image_gradient(images, np.full(len(part), self._target))
            self.places += part.tolist()
            self.logits += logits.astype(np.float64).tolist()
            self._slopes += list((found * self._change).sum(axis=1))
        order = np.argsort(self.places)
        self.places, self.logits, self._slopes = (
            [values[i] for i in order] for values in (self.places, self.logits, self._slopes)
        )

    def rough(self, count: int) -> Doubles:
        """The middles of the parts over which the trapezoid rule misses the logit's change by the most."""
        places, totals = np.asarray(self.places), np.asarray([s.sum(dtype=np.float64) for s in self._slopes])
        expected = self._shares(0) * totals[1:] + self._shares(1) * totals[:-1]
        worst = np.argsort(-np.abs(np.diff(self.logits) - expected), kind="stable")[:count]
        return np.asarray((places[worst] + places[worst + 1]) / 2)

    def _shares(self, side: int) -> Doubles:
        """What the slope at each part's right (0) or left end (1) counts for.

        The first part takes the right one alone: a baseline without variation is where normalisations divide by next to
        nothing, and its slope holds for no more than that one point.
        """
        shares = np.diff(self.places) / 2
        shares[0] = 2 * shares[0] if side == 0 else 0
        return np.asarray(shares)

    def integral(self) -> Doubles:
        """(H,W) by the trapezoid rule."""
        weights = np.append(0, self._shares(0)) + np.append(self._shares(1), 0)
        total = np.zeros(self._slopes[0].shape)
        for weight, slope in zip(weights, self._slopes, strict=True):
            total += weight * slope
        return total


def _completeness(total: float, change: float) -> Note:
    sums = f"the attributions sum to {total:.4g}, the logit changes by {change:.4g}"
    if abs(total - change) <= COMPLETE * abs(change):
        return Note(NoteCode.COMPLETENESS, f"complete: {sums}")
    return Note(NoteCode.COMPLETENESS, f"not complete: {sums}; more steps bring the two together")
