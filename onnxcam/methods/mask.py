"""Mask: the smallest smooth region whose removal takes the score away (meaningful perturbation)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Convention, Method, Need, Probe
from onnxcam.methods.fills import Fill, as_fill, blur
from onnxcam.methods.maps import Outcome, stretched
from onnxcam.methods.options import (
    choose,
    non_negative_integer,
    non_negative_number,
    positive_integer,
    positive_number,
)
from onnxcam.products import product
from onnxcam.resampling import bilinear_matrix, upsample
from onnxcam.types import Doubles, Floats, MaskForm, Score

SCORE = Score.PROBABILITY


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
    size. jitter: pixels by which image and mask are rolled together, at random with `seed`. fill: blur of
    10 pixels if None. Adam, m clamped to [0,1] after every step.
    """
    fill = as_fill(fill) if fill is not None else blur(10)
    settings = Settings(
        convention=choose(Convention, convention, "convention"),
        max_iter=positive_integer(max_iter, "max_iter"),
        lr=positive_number(lr, "lr"),
        cell=positive_integer(cell, "cell"),
        area=non_negative_number(area, "area"),
        variation=non_negative_number(variation, "variation"),
        beta=positive_number(beta, "beta"),
        jitter=non_negative_integer(jitter, "jitter"),
        seed=non_negative_integer(seed, "seed"),
    )
    return Method(
        name="mask",
        paper="Fong & Vedaldi 2017, arXiv:1704.03296",
        cost=f"{settings.max_iter} steps (forward and gradient)",
        explain=SmallestMask(settings),
        searches=True,
        smallest_batch=1,
        needs=frozenset({Need.GRADIENT}),
        score=SCORE,
        perturb=fill,
        form=MaskForm(cell=1, normalised=False),
        options=settings.options() | {"fill": fill.name},
    )


@dataclass(frozen=True)
class Settings:
    """The search's parameters, as mask() describes them. Raises OptionError on an exponent below 1."""

    convention: Convention
    max_iter: int
    lr: float
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

    @property
    def start(self) -> float:
        """The number that all cells begin with."""
        return 1.0 if self.deletes else 0.5

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Cells along each side of the mask of an image of this size."""
        return tuple(-(-side // self.cell) for side in size)

    def shifts(self, sides: int) -> npt.NDArray[np.int64]:
        """(max_iter,sides) pixels by which image and mask are rolled in each step."""
        rng = np.random.default_rng(self.seed)
        draws = [rng.integers(-self.jitter, self.jitter + 1, sides) for _ in range(self.max_iter)]
        return np.asarray(draws, np.int64)

    @staticmethod
    def of(options: Mapping[str, Any]) -> "Settings":
        """Those of a method with these options."""
        named = {field.name: options[field.name] for field in fields(Settings)}
        return Settings(**named | {"convention": Convention(options["convention"])})

    def options(self) -> dict[str, Any]:
        """By name, as mask() takes them."""
        return vars(self) | {"convention": str(self.convention)}


@dataclass(frozen=True)
class SmallestMask:
    """The descent of all targets' masks (T,*grid); each step runs one image for each target."""

    settings: Settings

    def __call__(self, probe: Probe) -> list[Outcome]:
        settings = self.settings
        grid = settings.grid(probe.size)
        m = np.full((probe.targets, *grid), settings.start)
        adam, targets = Adam(m.shape, settings.lr, 1e-8), np.arange(probe.targets)
        space = tuple(range(1, m.ndim))
        probe.expect(settings.max_iter * probe.targets)
        for iteration, shift in enumerate(settings.shifts(len(grid)).tolist()):
            large = np.roll(upsample(m.astype(np.float32), probe.size), shift, space)
            scores, gradient = probe.score_gradient(large[:, None], targets, SCORE, shift)
            _check(scores, gradient, iteration)
            by_m = _down(np.roll(gradient[:, 0], [-s for s in shift], space).astype(np.float64), grid)
            slope = (by_m if settings.deletes else -by_m) + _slope_of_penalties(m, settings)
            m = np.clip(adam.step(m, slope, targets), 0, 1)
        raw = (1 - m if settings.deletes else m).astype(np.float32)
        return [Outcome(stretched(upsample(r, probe.size)), r) for r in raw]


def _check(scores: Floats, gradient: Floats, iteration: int) -> None:
    """Raises UndefinedSaliency on NaN or infinity, and on a first gradient that is zero everywhere."""
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
    """(T,*size) to (T,*grid): the transpose of upsampling, one side after another."""
    for axis, cells in enumerate(grid, start=1):
        matrix = bilinear_matrix(cells, gradient.shape[axis]).astype(np.float64)
        gradient = np.moveaxis(product(np.moveaxis(gradient, axis, -1), matrix), -1, axis)
    return gradient
