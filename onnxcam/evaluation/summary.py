"""An evaluation as a whole: `summarise` gives means with intervals, and differences over the same pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from onnxcam.evaluation.collection import Collection, Column, Measure, MethodRuns, Setup, State, collect
from onnxcam.evaluation.options import key_named
from onnxcam.evaluation.rows import Row
from onnxcam.evaluation.statistics import Estimate, means_with_intervals
from onnxcam.metrics.metric import Better
from onnxcam.types import Doubles

BY_DEFINITION = frozenset({("ones", "average_drop", "mult")})
"""Baselines whose value says nothing (method, metric, protocol): a mask of 1 keeps all of the score."""


class Standing(StrEnum):
    """Where a method stands among those of its model, by one measure. Baselines are compared, but hold no place.

    A method is clearly better than another if the interval of their paired difference, over the pictures on which both
    have a value, excludes 0; fewer than six pairs tell nothing apart (Estimate.excludes_zero). The leader has the best
    mean over the pictures on which all methods have a value, unless another is clearly better. BEST: it is clearly
    better than every other method. LEADING: the leader where it is not BEST, and methods that are not clearly worse.
    AHEAD: a baseline that is clearly better than the leader, but for those BY_DEFINITION. NONE: everything else.
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

    @property
    def against_has_values(self) -> bool:
        """Whether there is anything to compare with."""
        return any(line.method == self.against and line.estimate is not None for line in self.lines)


def summarise(rows: Iterable[Row] | Collection, *, against: str | None = None, seed: int = 0) -> Summary:
    """Means, medians, 95 % bootstrap intervals and paired differences of every measure of every method of every model.

    Rows of other targets, openings, protocols or options are never averaged. against: the method, as in the rows, that
    the others are compared with; by default the first that is no baseline and has a value. seed: of the bootstrap,
    which draws pictures; all columns of a model share its draws. Raises OptionError for an unknown method.
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
        valued = {column.method for column in collection.columns if column.count(State.VALUE)}
        # stable: the others in their order
        methods = sorted(collection.methods, key=lambda runs: (runs.method not in valued, runs.baseline))
        return methods[0].method if methods else ""
    return key_named(against, {runs.method: runs.name for runs in collection.methods})


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
    values = [column.values for column in columns]
    to_against = [_difference(column, table.get((against, column.measure))) for column in columns]
    estimates = means_with_intervals(np.stack([*values, *to_against], axis=1), seed=seed) if columns else ()
    count = len(columns)
    standings = _standings(columns, runs, seed)
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


def _standings(columns: Sequence[Column], runs: Mapping[str, MethodRuns], seed: int) -> dict[Column, Standing]:
    """Where each column stands. Its leader is exchanged for a method that is clearly better until there is none."""
    standings = dict.fromkeys(columns, Standing.NONE)
    leaders = {measure: _first_leader(columns, runs, measure) for measure in {column.measure for column in columns}}
    open_leaders: dict[Measure, tuple[Column, ...]] = {
        measure: (leader,) for measure, leader in leaders.items() if leader is not None
    }
    while open_leaders:  # each round adds a method to the leaders of a measure, so there are as many as methods at most
        others = [c for c in columns if c.measure in open_leaders and c.count(State.VALUE)]
        gains = _gains(others, {measure: before[-1] for measure, before in open_leaders.items()}, seed)
        again = {}
        for measure, before in open_leaders.items():
            rivals = {c: gains[c] for c in others if c.measure == measure and c is not before[-1]}
            better = [c for c, (gain, clear) in rivals.items() if clear and gain > 0 and not runs[c.method].baseline]
            if better and not set(better) & set(before):
                again[measure] = (*before, max(better, key=lambda c: rivals[c][0]))
            else:
                standings |= _standings_by(before[-1], rivals, runs)
        open_leaders = again
    return standings


def _first_leader(columns: Sequence[Column], runs: Mapping[str, MethodRuns], measure: Measure) -> Column | None:
    """The method with the best mean over the pictures on which all have a value; over each one's pictures if there are
    none. None where the metric has no direction or no method has a value.
    """
    rivals = [c for c in columns if c.measure == measure and not runs[c.method].baseline and c.count(State.VALUE)]
    if not rivals or measure.better is Better.NEITHER:
        return None
    shared = ~np.isnan(np.stack([c.values for c in rivals])).any(axis=0)
    sign = 1 if measure.better is Better.HIGHER else -1
    return max(rivals, key=lambda c: sign * float(np.nanmean(c.values[shared] if shared.any() else c.values)))


def _gains(columns: Sequence[Column], leaders: Mapping[Measure, Column], seed: int) -> dict[Column, tuple[float, bool]]:
    """By how much each is better than the leader of its measure over the pictures of both, and whether it is clear."""
    differences = np.stack([_difference(column, leaders[column.measure]) for column in columns], axis=1)
    estimates = means_with_intervals(differences, seed=seed)
    return {
        column: (0.0, False)
        if one is None
        else (one.mean if column.measure.better is Better.HIGHER else -one.mean, one.excludes_zero)
        for column, one in zip(columns, estimates, strict=True)
    }


def _standings_by(
    leader: Column, rivals: Mapping[Column, tuple[float, bool]], runs: Mapping[str, MethodRuns]
) -> dict[Column, Standing]:
    """The standings of one measure. rivals: the other columns, their gain on the leader and whether it is clear."""
    standings = {}
    methods = [column for column in rivals if not runs[column.method].baseline]
    for column, (gain, clear) in rivals.items():
        known = (column.method, column.measure.metric, column.measure.protocol) in BY_DEFINITION
        if column in methods and not (clear and gain < 0):
            standings[column] = Standing.LEADING
        elif column not in methods and clear and gain > 0 and not known:
            standings[column] = Standing.AHEAD
    close = Standing.LEADING in standings.values()
    standings[leader] = Standing.LEADING if close else Standing.BEST if methods else Standing.NONE
    return standings
