"""Mask: the smallest smooth region whose removal takes the score away (meaningful perturbation)."""

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import MaskForm, Score
from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.fills import Fill, blur, named
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import (
    Convention,
    Descent,
    Method,
    Need,
    Outcome,
    Probe,
    Question,
    choose,
    positive,
    stretched,
    whole,
)
from onnxcam.resampling import bilinear_matrix, upsample

Doubles = npt.NDArray[np.float64]


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
    convention = choose(Convention, convention, "convention")
    max_iter, cell = whole(max_iter, "max_iter"), whole(cell, "cell")
    jitter, seed = whole(jitter, "jitter", 0), whole(seed, "seed", 0)
    lr, beta = positive(lr, "lr"), positive(beta, "beta")
    area, variation = positive(area, "area", or_zero=True), positive(variation, "variation", or_zero=True)
    if beta < 1:
        raise OptionError(f"beta must be 1 or more, not {beta:g}: the variation has no slope at 0 below")
    deletes = convention is Convention.DESTRUCTIVE

    def penalties(m: Doubles) -> Doubles:
        """d penalties / d m, (T,*grid)."""
        slope = np.full(m.shape, (-area if deletes else area) / m[0].size)
        for axis in range(1, m.ndim):
            steps = np.diff(m, axis=axis)
            pull = variation * beta * np.sign(steps) * np.abs(steps) ** (beta - 1) / max(steps[0].size, 1)
            low, high = [(0, 0)] * m.ndim, [(0, 0)] * m.ndim
            low[axis], high[axis] = (1, 0), (0, 1)
            slope += np.pad(pull, low) - np.pad(pull, high)
        return slope

    def descend(probe: Probe) -> Descent:
        grid = tuple(-(-side // cell) for side in probe.size)
        rng = np.random.default_rng(seed)
        m = np.ones((probe.targets, *grid)) if deletes else np.full((probe.targets, *grid), 0.5)
        adam, rows = Adam(m.shape, lr, 1e-8), np.arange(probe.targets)
        space = tuple(range(1, m.ndim))
        probe.expect(max_iter * probe.targets)
        for iteration in range(max_iter):
            shift = tuple(int(s) for s in rng.integers(-jitter, jitter + 1, len(grid)))
            large = np.roll(upsample(m.astype(np.float32), probe.size), shift, space)
            scores, gradient = yield Question(large[:, None], rows, shift)
            if not np.isfinite(scores).all() or not np.isfinite(gradient).all():
                raise UndefinedSaliency(f"the score or its gradient is no longer a number at step {iteration}")
            if iteration == 0 and not all(g.any() for g in gradient):
                raise UndefinedSaliency(
                    "the gradient of the score is zero everywhere, so no mask can be learnt; "
                    "use a method without gradients such as rise"
                )
            by_m = _down(np.roll(gradient[:, 0], [-s for s in shift], space).astype(np.float64), grid)
            m = np.clip(adam.step(m, (by_m if deletes else -by_m) + penalties(m), rows), 0, 1)
        found = (1 - m if deletes else m).astype(np.float32)
        return [Outcome(stretched(upsample(f, probe.size)), f) for f in found]

    return Method(
        name="mask",
        paper="Fong & Vedaldi 2017, arXiv:1704.03296",
        cost=f"{max_iter} steps (forward and gradient)",
        descend=descend,
        needs=frozenset({Need.GRADIENT}),
        score=Score.PROBABILITY,
        perturb=named(fill) if fill is not None else blur(10),
        form=MaskForm(cell=1, normalised=False),
        options={
            "convention": str(convention), "max_iter": f"{max_iter}", "lr": f"{lr:g}", "cell": f"{cell}",
            "area": f"{area:g}", "variation": f"{variation:g}", "beta": f"{beta:g}", "jitter": f"{jitter}",
            "seed": f"{seed}",
        },
    )  # fmt: skip


def _down(gradient: Doubles, grid: tuple[int, ...]) -> Doubles:
    """The way back of upsampling: the transposed matrix along each side."""
    for axis, cells in enumerate(grid, start=1):
        matrix = bilinear_matrix(cells, gradient.shape[axis]).astype(np.float64)
        gradient = np.moveaxis(np.moveaxis(gradient, axis, -1) @ matrix, -1, axis)
    return gradient
