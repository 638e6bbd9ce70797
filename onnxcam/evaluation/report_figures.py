"""The drawings of the report as numbers and SVG paths: axes, distributions and mean curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.evaluation.collection import GRID, Column
from onnxcam.evaluation.statistics import Estimate, means_with_intervals
from onnxcam.types import Doubles

BINS = 36
"""Of a distribution."""
CURVE_RESAMPLES = 2000
"""Draws for the band of a curve, which has hundreds of numbers."""
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 400, 260, 34, 30, 10, 12
"""Of a panel of curves, in its own units, and what is left for numbers and names around its axes."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Numbers from low to high, with ticks at round ones. digits: after the point."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def percent(self, value: float) -> float:
        """Where the value lies, in percent of the axis; values outside lie at its ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    @property
    def labels(self) -> tuple[tuple[float, str], ...]:
        """The ticks: their places in percent, and their numbers."""
        return tuple((self.percent(tick), number(tick, self.digits)) for tick in self.ticks)


@dataclass(frozen=True)
class Line:
    """A mean curve. path, band: SVG paths, the band that of the 95 % interval, empty without one. n: of the curves."""

    method: str
    path: str
    band: str
    n: int


@dataclass(frozen=True)
class CurveFigure:
    """Mean curves of one measure. ticks: (place, number) along y."""

    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def number(value: float, digits: int) -> str:
    """With a minus sign as it is printed, and no minus before 0."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")  # noqa: RUF001


def axis(low: float, high: float, most: int = 5) -> Axis:
    """An axis from low to high, widened to round numbers, with at most `most` ticks and three at least."""
    if not high > low:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in STEPS if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, (1 if step / power == 2.5 else 0) - math.floor(math.log10(step) + 1e-9))
    ticks = tuple(i * step for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, digits)


def distribution(values: Doubles, along: Axis) -> str:
    """The histogram as an SVG path in a box of 100 by 100, its highest bin as high as the box; empty without values."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return ""
    counts = np.histogram(np.clip(defined, along.low, along.high), BINS, (along.low, along.high))[0]
    tops = 100 - 100 * counts / counts.max()
    edges = np.linspace(0, 100, BINS + 1)
    steps = [f"V{tops[i]:.4g}H{edges[i + 1]:.4g}" for i in range(BINS)]
    return f"M0 100{''.join(steps)}V100Z"


def mean_curves(columns: Sequence[Column], seed: int = 0) -> CurveFigure | None:
    """The mean curve of each method with the band of its 95 % bootstrap interval. None where there are no curves."""
    drawn = [column for column in columns if column.curves is not None]
    if not drawn:
        return None
    table = np.concatenate([np.asarray(column.curves, np.float64) for column in drawn], axis=1)
    estimates = means_with_intervals(table, seed=seed, resamples=CURVE_RESAMPLES)
    parts = [estimates[i * len(GRID) : (i + 1) * len(GRID)] for i in range(len(drawn))]
    defined = [estimate for estimate in estimates if estimate is not None]
    up = axis(min(0.0, *(estimate.low for estimate in defined)), max(estimate.high for estimate in defined))
    lines = [_line(column.method, part, up) for column, part in zip(drawn, parts, strict=True)]
    across = tuple((round(_x(share), 1), f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1))
    return CurveFigure(tuple(lines), across, tuple((round(_y(t, up), 1), number(t, up.digits)) for t in up.ticks))


def _line(method: str, estimates: Sequence[Estimate | None], up: Axis) -> Line:
    """estimates: at GRID, None where no curve reaches."""
    points = [(share, one) for share, one in zip(GRID, estimates, strict=True) if one is not None]
    mean = [_point(share, one.mean, up) for share, one in points]
    top = [_point(share, one.high, up) for share, one in points]
    bottom = [_point(share, one.low, up) for share, one in points]
    has_band = all(one.interval for _, one in points)
    band = f"M{'L'.join([*top, *bottom[::-1]])}Z" if has_band else ""
    return Line(method, f"M{'L'.join(mean)}", band, max(one.n for _, one in points))


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(score: float, up: Axis) -> float:
    return HEIGHT - BOTTOM - (score - up.low) / (up.high - up.low) * (HEIGHT - BOTTOM - TOP)


def _point(share: float, score: float, up: Axis) -> str:
    return f"{_x(share):.1f} {_y(score, up):.1f}"
