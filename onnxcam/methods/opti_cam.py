"""Opti-CAM: the weighted sum of the feature maps that, as a mask, gives the target the highest score."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.errors import OptionError, UndefinedSaliency
from onnxcam.limits import brief, is_number
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Convention, Method, Need, Probe, finite_features, live
from onnxcam.methods.fills import ZERO, Fill, as_fill
from onnxcam.methods.maps import Outcome, stretched
from onnxcam.methods.options import (
    choose,
    non_negative_integer,
    non_negative_number,
    positive_integer,
    positive_number,
)
from onnxcam.products import product
from onnxcam.resampling import upsample
from onnxcam.types import Doubles, Floats, Indices, Note, NoteCode, Score

MOST_STARTS = 256
"""Starts are all in memory, and moved, at once."""


def opti_cam(
    *,
    convention: Convention | str = Convention.CONSTRUCTIVE,
    score: Score | str = Score.LOGIT,
    max_iter: int = 100,
    lr: float = 0.2,
    nb_premises_at_startup: int = 1,
    bounds: tuple[float, float] | None = None,
    tolerance: float = 1e-10,
    epsilon: float = 1e-8,
    seed: int = 0,
    fill: Fill | str = ZERO,
) -> Method:
    """Opti-CAM (Zhang et al. 2024, arXiv:2301.07002, equations 9 to 13).

    Maximises, over u in R^K with Adam, the score of the image seen through n(up(sum_k softmax(u)_k A_k));
    'destructive' minimises the score with that mask removed. score: 'logit' as in the paper, or 'probability'.
    nb_premises_at_startup: starts, run as one batch; the first has equal weights, the others are drawn with `seed`; the
    best score wins, of all starts and iterations. bounds: what u is clamped to after every step, if anything.
    tolerance: a start ends when its score moves by less. epsilon: Adam's. What is outside the
    network is computed in float64.
    """
    fill = as_fill(fill)
    settings = Settings(
        convention=choose(Convention, convention, "convention"),
        score=choose(Score, score, "score"),
        max_iter=positive_integer(max_iter, "max_iter"),
        lr=positive_number(lr, "lr"),
        starts=positive_integer(nb_premises_at_startup, "nb_premises_at_startup", most=MOST_STARTS),
        bounds=_bounds(bounds),
        tolerance=non_negative_number(tolerance, "tolerance"),
        epsilon=positive_number(epsilon, "epsilon"),
        seed=non_negative_integer(seed, "seed"),
    )
    return Method(
        name="opti-cam",
        paper="Zhang et al. 2024, arXiv:2301.07002",
        cost=f"{settings.max_iter + 1} steps (forward and gradient) a start",
        explain=LearntMask(CoefficientSearch(settings)),
        searches=True,
        smallest_batch=settings.starts,
        needs=frozenset({Need.FEATURES, Need.GRADIENT}),
        score=settings.score,
        perturb=fill,
        options=settings.options() | {"fill": fill.name},
    )


def _bounds(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    if bounds is None:
        return None
    pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    if not pair or not all(map(is_number, bounds)) or not bounds[0] < bounds[1]:
        raise OptionError(f"bounds are two numbers, the lower one first, not {brief(bounds)}")
    return float(bounds[0]), float(bounds[1])


@dataclass(frozen=True)
class Settings:
    """The search's parameters, as opti_cam() describes them."""

    convention: Convention
    score: Score
    max_iter: int
    lr: float
    starts: int
    bounds: tuple[float, float] | None
    tolerance: float
    epsilon: float
    seed: int

    @property
    def sign(self) -> float:
        """-1 where a low score through the mask's complement is the aim; n(-S) = 1 - n(S)."""
        return 1.0 if self.convention is Convention.CONSTRUCTIVE else -1.0

    def coefficients(self, channels: int) -> Doubles:
        """(starts,K) where the search starts: with equal weights, then with drawn ones."""
        low, high = self.bounds or (-1.0, 1.0)
        drawn = np.random.default_rng(self.seed).uniform(low, high, (self.starts - 1, channels))
        level = 0.0 if self.bounds is None else float(np.clip(0.0, low, high))
        return np.concatenate([np.full((1, channels), level), drawn])

    @staticmethod
    def of(options: Mapping[str, Any]) -> "Settings":
        """Those of a method with these options."""
        named = {name: options[name] for name in ("max_iter", "lr", "bounds", "tolerance", "epsilon", "seed")}
        convention, score = Convention(options["convention"]), Score(options["score"])
        return Settings(convention=convention, score=score, starts=options["nb_premises_at_startup"], **named)

    def options(self) -> dict[str, Any]:
        """By name, as opti_cam() takes them."""
        return {
            "convention": str(self.convention), "score": str(self.score), "max_iter": self.max_iter, "lr": self.lr,
            "nb_premises_at_startup": self.starts, "bounds": self.bounds, "tolerance": self.tolerance,
            "epsilon": self.epsilon, "seed": self.seed,
        }  # fmt: skip


@dataclass(frozen=True)
class Learnt:
    """The end of a search for one target: the mask (h,w) before normalisation, and its weights (K,)."""

    mask: Floats
    weights: Doubles
    score: float
    iterations: int
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class LearntMask:
    """Aggregator: the mask that was learnt, n(up(S))."""

    explore: Callable[[Probe], list[Learnt]]

    def __call__(self, probe: Probe) -> list[Outcome]:
        return [Outcome(stretched(upsample(e.mask, probe.size)), e.mask, e.notes) for e in self.explore(probe)]


@dataclass(frozen=True)
class CoefficientSearch:
    """Explorer: a gradient search over the weights of the feature maps."""

    settings: Settings

    def __call__(self, probe: Probe) -> list[Learnt]:
        settings, features = self.settings, finite_features(probe)
        if not live(features).any():
            raise UndefinedSaliency("all feature maps are constant over space for this picture; try another --layer")
        grid = features.shape[1:]
        starts = _Starts(settings, features.reshape(len(features), -1).astype(np.float64), probe.targets)
        probe.expect(len(starts.u) * (settings.max_iter + 1))
        for iteration in range(settings.max_iter + 1):
            open_rows = np.flatnonzero(starts.open)
            masks = product(starts.weights(starts.u[open_rows]), starts.maps)
            signed = (settings.sign * masks).reshape(-1, 1, *grid).astype(np.float32)
            scores, gradient = probe.score_gradient(signed, starts.target[open_rows], settings.score)
            if iteration == 0:
                _check_start(scores, gradient, starts.target)
            starts.learn(scores, gradient.reshape(len(open_rows), -1), iteration)
            if not starts.open.any():
                break
        return [starts.best_of(t, grid) for t in range(probe.targets)]


def _check_start(scores: Floats, gradient: Floats, target: Indices) -> None:
    if not np.isfinite(scores).all() or not np.isfinite(gradient).all():
        raise UndefinedSaliency("the score or its gradient is NaN or infinite on this picture: nothing can be learnt")
    if not all(gradient[target == t].any() for t in target):
        raise UndefinedSaliency(
            "the gradient of the score is zero everywhere, so no mask can be learnt; "
            "a saturated probability has none: try the logit, or a method without gradients"
        )


class _Starts:
    """The state of the search: one row for each start of each target. maps: (K, cells).

    u (rows,K): the coefficients. target (rows,): each row's target. open (rows,): whether the row is still moving.
    last, best (rows,): its last and its best score, times the sign of the settings. best_u (rows,K): the coefficients
    of the best score.
    broken (rows,): the step at which the score was no longer a number, else -1. steps (rows,): the last step.
    """

    def __init__(self, settings: Settings, maps: Doubles, targets: int) -> None:
        self.settings, self.maps = settings, maps
        self.u = np.tile(settings.coefficients(len(maps)), (targets, 1))
        self.target = np.repeat(np.arange(targets), settings.starts)
        self.adam = Adam(self.u.shape, settings.lr, settings.epsilon)
        count = len(self.u)
        self.open = np.ones(count, bool)
        self.last = np.full(count, np.nan)
        self.best = np.full(count, -np.inf)
        self.best_u = self.u.copy()
        self.broken = np.full(count, -1)
        self.steps = np.zeros(count, int)

    def weights(self, u: Doubles) -> Doubles:
        """(rows,K) softmax of the coefficients."""
        e = np.exp(u - u.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def learn(self, scores: Floats, gradient: Floats, iteration: int) -> None:
        """One step of the open rows. gradient: d score / d mask (rows, cells)."""
        rows = np.flatnonzero(self.open)
        value = self.settings.sign * scores.astype(np.float64)
        slope = gradient.astype(np.float64)
        sound = np.isfinite(value) & np.isfinite(slope).all(axis=1)
        self.broken[rows[~sound]] = iteration
        better = sound & (value > self.best[rows])
        self.best[rows[better]], self.best_u[rows[better]] = value[better], self.u[rows[better]]
        self.steps[rows] = iteration
        moved = ~(np.abs(value - self.last[rows]) < self.settings.tolerance)
        self.last[rows] = value
        self.open[rows[~(sound & moved)]] = False
        going = sound & moved
        rows = rows[going]
        if iteration == self.settings.max_iter or not len(rows):
            self.open[:] = False
            return
        # Of n(-S) too: d(-score)/dS = d score / d(-S), so the sign cancels.
        w = self.weights(self.u[rows])
        by_mask = _without_invariances(slope[going], product(w, self.maps))
        # Softmax: dw/du = diag(w) - w w^T, whose second part gives w <S, dS> = 0.
        by_u = w * product(by_mask, self.maps.T)
        self.u[rows] = self.adam.step(self.u[rows], -by_u, rows)
        if self.settings.bounds is not None:
            self.u[rows] = np.clip(self.u[rows], *self.settings.bounds)

    def best_of(self, target: int, grid: tuple[int, ...]) -> Learnt:
        """The result of the target's best start."""
        rows = np.flatnonzero(self.target == target)
        best = rows[int(self.best[rows].argmax())]
        weights = self.weights(self.best_u[best : best + 1])
        notes = tuple(
            Note(
                NoteCode.SEARCH_BROKE,
                f"the score was no longer a number at step {self.broken[r]} of a start: "
                f"its best mask until then counts",
            )
            for r in rows[self.broken[rows] > 0][:1]
        )
        mask = product(weights, self.maps).reshape(grid).astype(np.float32)
        return Learnt(mask, weights[0], self.settings.sign * float(self.best[best]), int(self.steps[best]), notes)


def _without_invariances(slope: Doubles, masks: Doubles) -> Doubles:
    """d score / dS (rows, cells) without its parts along a constant and along S.

    n(S) does not change when S is shifted or scaled, so both parts are 0 but for rounding. Adam would divide what is
    left of them by its own size: every map that is constant over space would walk at full speed in a random direction.
    """
    slope = slope - slope.mean(axis=1, keepdims=True)
    centred = masks - masks.mean(axis=1, keepdims=True)
    length = np.maximum((centred * centred).sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.asarray(slope - centred * ((slope * centred).sum(axis=1, keepdims=True) / length))
