"""An evaluation as a whole: `summarise` gives means with intervals, and differences over the same pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from onnxcam.errors import OptionError, near
from onnxcam.evaluation.collection import Collection, Column, Measure, MethodRuns, Setup, State, collect
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.statistics import Estimate, means_with_intervals
from onnxcam.metrics.metric import Better
from onnxcam.types import Doubles


class Standing(StrEnum):
    """Where a method stands among those of its model, by one measure. Baselines are compared, but hold no place.

    BEST: its mean is the best, and the interval of its paired difference to every other method excludes 0. LEADING: its
    mean is the best, or its difference to the best is not told apart from 0, and there are several of these. AHEAD: a
    baseline that is better than the best method, by an interval that excludes 0. NONE: everything else. Fewer than six
    pairs tell nothing apart (Estimate.excludes_zero).
    """

    BEST = "best"
    LEADING = "leading"
    AHEAD = "ahead"
    NONE = ""


@dataclass(frozen=True)
class SummaryLine:
    """One measure of one method of one model.

    estimate: mean, 95 % interval and the number of values. median: None where there is no value. difference: of the
    method less the one it is compared with, over the pictures on which both have a value; None for that method itself.
    undefined, errors, missing: pictures on which the metric is undefined, that gave no map or number, and that were not
    measured.
    """

    setup: Setup
    model_name: str
    method: str
    method_name: str
    baseline: bool
    measure: Measure
    estimate: Estimate | None
    median: float | None
    difference: Estimate | None
    undefined: int
    errors: int
    missing: int
    standing: Standing = Standing.NONE


@dataclass(frozen=True)
class MethodLine:
    """What the maps of one method of one model cost. seconds, passes: the means a map; None where there is no map."""

    setup: Setup
    model_name: str
    method: str
    method_name: str
    baseline: bool
    maps: int
    errors: int
    seconds: float | None
    passes: float | None


@dataclass(frozen=True)
class Summary:
    """lines: a model at a time, in it a method, in it a measure, in the order of the rows. against: the method that the
    differences are to. pictures, rows: how many there are in all."""

    lines: tuple[SummaryLine, ...]
    methods: tuple[MethodLine, ...]
    against: str
    pictures: int
    rows: int


def summarise(rows: Iterable[Row] | Collection, *, against: str | None = None, seed: int = 0) -> Summary:
    """Means, medians, 95 % bootstrap intervals and paired differences of every measure of every method of every model.

    Rows of other targets, openings, protocols or options are never averaged. against: the method, as in the rows, that
    the others are compared with; the first that is no baseline by default. seed: of the bootstrap, which draws
    pictures; all columns of a model share its draws. Raises OptionError for an unknown method.
    """
    collection = rows if isinstance(rows, Collection) else collect(rows)
    chosen = _chosen(collection, against)
    lines = [line for setup in collection.setups for line in _lines(collection, setup, chosen, seed)]
    return Summary(
        tuple(lines), tuple(_method_line(collection, runs) for runs in collection.methods), chosen,
        len(collection.pictures), collection.rows,
    )  # fmt: skip


def _chosen(collection: Collection, against: str | None) -> str:
    """The key of the method that the others are compared with."""
    if against is None:
        methods = sorted(collection.methods, key=lambda runs: runs.baseline)  # stable: the others in their order
        return methods[0].method if methods else ""
    for runs in collection.methods:
        if against in (runs.method, runs.name):
            return runs.method
    listed = near(against, [runs.name for runs in collection.methods]) if collection.methods else "there are no rows"
    raise OptionError(f"nothing was measured of a method {against!r} to compare with; {listed}")


def _method_line(collection: Collection, runs: MethodRuns) -> MethodLine:
    errors = int((runs.states == State.ERROR).sum())
    maps = int((runs.states == State.VALUE).sum())
    return MethodLine(
        runs.setup, collection.setups[runs.setup], runs.method, runs.name, runs.baseline, maps, errors,
        _mean(runs.seconds), _mean(runs.passes),
    )  # fmt: skip


def _mean(values: Doubles) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _lines(collection: Collection, setup: Setup, against: str, seed: int) -> list[SummaryLine]:
    """The lines of one model: every mean and every difference from the same draws of pictures."""
    columns = [column for column in collection.columns if column.setup == setup]
    runs = {one.method: one for one in collection.methods_of(setup)}
    columns.sort(key=lambda column: list(runs).index(column.method))
    table = {(column.method, column.measure): column for column in columns}
    best = {measure: _best(columns, runs, measure) for measure in collection.measures(setup)}
    values = [column.values for column in columns]
    to_against = [_difference(column, table.get((against, column.measure))) for column in columns]
    to_best = [_difference(column, best[column.measure]) for column in columns]
    estimates = means_with_intervals(np.stack([*values, *to_against, *to_best], axis=1), seed=seed) if columns else ()
    count = len(columns)
    standings = _standings(columns, runs, best, dict(zip(columns, estimates[2 * count :], strict=True)))
    seen = sum(one is not None for one in collection.explained[setup])
    return [
        SummaryLine(
            setup, collection.setups[setup], column.method, runs[column.method].name, runs[column.method].baseline,
            column.measure, estimates[i], float(np.nanmedian(column.values)) if estimates[i] else None,
            estimates[count + i], column.count(State.UNDEFINED), column.count(State.ERROR),
            seen - int((column.states != State.MISSING).sum()), standings[column],
        )
        for i, column in enumerate(columns)
    ]  # fmt: skip


def _difference(column: Column, other: Column | None) -> Doubles:
    """The values less the other's; NaN throughout where there is no other, or it is the same."""
    if other is None or other is column:
        return np.full_like(column.values, np.nan)
    return column.values - other.values


def _best(columns: Sequence[Column], runs: Mapping[str, MethodRuns], measure: Measure) -> Column | None:
    """The method with the best mean; None where the metric has no direction or no method has a value."""
    means = {
        column: mean
        for column in columns
        if column.measure == measure and not runs[column.method].baseline and (mean := _mean(column.values)) is not None
    }
    if not means or measure.better is Better.NEITHER:
        return None
    choose = max if measure.better is Better.HIGHER else min
    return choose(means, key=means.__getitem__)


def _standings(
    columns: Sequence[Column],
    runs: Mapping[str, MethodRuns],
    best: Mapping[Measure, Column | None],
    to_best: Mapping[Column, Estimate | None],
) -> dict[Column, Standing]:
    standings = dict.fromkeys(columns, Standing.NONE)
    for measure, leader in best.items():
        if leader is None:
            continue
        others = [column for column in columns if column.measure == measure and column is not leader]
        rivals = 0
        for column in others:
            difference, baseline = to_best[column], runs[column.method].baseline
            clear = difference is not None and difference.excludes_zero
            if (
                baseline
                and difference is not None
                and clear
                and (difference.mean > 0) == (measure.better is Better.HIGHER)
            ):
                standings[column] = Standing.AHEAD
            elif not baseline and not clear and column.count(State.VALUE):
                standings[column] = Standing.LEADING
            rivals += not baseline and column.count(State.VALUE) > 0
        close = any(standings[column] is Standing.LEADING for column in others)
        standings[leader] = Standing.LEADING if close else Standing.BEST if rivals else Standing.NONE
    return standings
