"""Mask: the smallest smooth region whose removal takes the score away (meaningful perturbation)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Convention, Method, Need, Probe, choose, positive, whole
from onnxcam.methods.fills import Fill, as_fill, blur
from onnxcam.methods.maps import Outcome, stretched
from onnxcam.resampling import bilinear_matrix, upsample
from onnxcam.types import Floats, MaskForm, Score

SCORE = Score.PROBABILITY
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """Of the search; mask() describes them. Raises OptionError on an exponent below 1."""

    convention: Convention
    iterations: int
    rate: float
    cell: int
    area: float
    variation: float
    beta: float
    jitter: int
    seed: int

    def __post_init__(self) -> None:
        if self.beta < 1:
            raise OptionError(f"beta must be 1 or more, not {self.beta:g}: the variation has no slope at 0 below")

    @property
    def deletes(self) -> bool:
        return self.convention is Convention.DESTRUCTIVE

    def options(self) -> dict[str, str]:
        """As mask() takes them."""
        return {
            "convention": str(self.convention), "max_iter": f"{self.iterations}", "lr": f"{self.rate:g}",
            "cell": f"{self.cell}", "area": f"{self.area:g}", "variation": f"{self.variation:g}",
            "beta": f"{self.beta:g}", "jitter": f"{self.jitter}", "seed": f"{self.seed}",
        }  # fmt: skip


def mask(
    *,
    convention: Convention | str = Convention.DESTRUCTIVE,
    max_iter: int = 300,
    lr: float = 0.1,
    cell: int = 8,
    area: float = 0.01,
    variation: float = 0.2,
    beta: float = 3.0,
    jitter: int = 4,
    seed: int = 0,
    fill: Fill | str | None = None,
) -> Method:
    """Meaningful perturbation (Fong & Vedaldi 2017, arXiv:1704.03296, equations 4 to 6).

    'destructive', the paper's deletion game: a mask m of cells of `cell` pixels minimises p(x m + fill (1 - m)) +
    area * mean(1 - m) + variation * mean |grad m|^beta, and the map is 1 - m. 'constructive', its preservation game,
    minimises -p + area * mean(m) + the same variation, and the map is m. The penalties are means, whatever the mask's
    size. jitter: pixels by which picture and mask are rolled together, at random with `seed`. fill: blur of
    10 pixels if None. Adam, m clamped to [0,1] after every step.
    """
    found = Settings(
        choose(Convention, convention, "convention"),
        iterations=whole(max_iter, "max_iter"), cell=whole(cell, "cell"),
        jitter=whole(jitter, "jitter", 0), seed=whole(seed, "seed", 0), rate=positive(lr, "lr"),
        beta=positive(beta, "beta"), area=positive(area, "area", or_zero=True),
        variation=positive(variation, "variation", or_zero=True),
    )  # fmt: skip
    return Method(
        name="mask",
        paper="Fong & Vedaldi 2017, arXiv:1704.03296",
        cost=f"{found.iterations} steps (forward and gradient)",
        explain=smallest_mask(found),
        searches=True,
        asks=1,
        needs=frozenset({Need.GRADIENT}),
        score=SCORE,
        perturb=as_fill(fill) if fill is not None else blur(10),
        form=MaskForm(cell=1, normalised=False),
        options=found.options(),
    )


def smallest_mask(settings: Settings) -> Callable[[Probe], list[Outcome]]:
    """The descent of all targets' masks (T,*grid), each step a picture a target."""

    def explain(probe: Probe) -> list[Outcome]:
        grid = tuple(-(-side // settings.cell) for side in probe.size)
        rng = np.random.default_rng(settings.seed)
        m = np.full((probe.targets, *grid), 1.0 if settings.deletes else 0.5)
        adam, rows = Adam(m.shape, settings.rate, 1e-8), np.arange(probe.targets)
        space = tuple(range(1, m.ndim))
        probe.expect(settings.iterations * probe.targets)
        for iteration in range(settings.iterations):
            shift = tuple(int(s) for s in rng.integers(-settings.jitter, settings.jitter + 1, len(grid)))
            large = np.roll(upsample(m.astype(np.float32), probe.size), shift, space)
            scores, gradient = probe.score_gradient(large[:, None], rows, SCORE, shift)
            _check(scores, gradient, iteration)
            by_m = _down(np.roll(gradient[:, 0], [-s for s in shift], space).astype(np.float64), grid)
            slope = (by_m if settings.deletes else -by_m) + _slope_of_penalties(m, settings)
            m = np.clip(adam.step(m, slope, rows), 0, 1)
        found = (1 - m if settings.deletes else m).astype(np.float32)
        return [Outcome(stretched(upsample(f, probe.size)), f) for f in found]

    return explain


def _check(scores: Floats, gradient: Floats, iteration: int) -> None:
    """Raises UndefinedSaliency on numbers that are none, and on a first gradient without a slope."""
    if not np.isfinite(scores).all() or not np.isfinite(gradient).all():
        raise UndefinedSaliency(f"the score or its gradient is no longer a number at step {iteration}")
    if iteration == 0 and not all(g.any() for g in gradient):
        raise UndefinedSaliency(
            "the gradient of the score is zero everywhere, so no mask can be learnt; "
            "use a method without gradients such as rise"
        )


def _slope_of_penalties(m: Doubles, settings: Settings) -> Doubles:
    """d (area and variation) / d m, (T,*grid)."""
    beta = settings.beta
    slope = np.full(m.shape, (-settings.area if settings.deletes else settings.area) / m[0].size)
    for axis in range(1, m.ndim):
        steps = np.diff(m, axis=axis)
        pull = settings.variation * beta * np.sign(steps) * np.abs(steps) ** (beta - 1) / max(steps[0].size, 1)
        low, high = [(0, 0)] * m.ndim, [(0, 0)] * m.ndim
        low[axis], high[axis] = (1, 0), (0, 1)
        slope += np.pad(pull, low) - np.pad(pull, high)
    return slope


def _down(gradient: Doubles, grid: tuple[int, ...]) -> Doubles:
    """The way back of upsampling: the transposed matrix along each side."""
    for axis, cells in enumerate(grid, start=1):
        matrix = bilinear_matrix(cells, gradient.shape[axis]).astype(np.float64)
        gradient = np.moveaxis(np.moveaxis(gradient, axis, -1) @ matrix, -1, axis)
    return gradient
