"""The tables and panels of the report, as values that its template writes: everything that is text or a path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxcam.evaluation.collection import Collection, Column, Measure, MethodRuns, Setup, State
from onnxcam.evaluation.report_figures import Axis, CurveFigure, axis, distribution, mean_curves, number
from onnxcam.evaluation.statistics import Estimate
from onnxcam.evaluation.summary import MethodLine, Standing, Summary, SummaryLine
from onnxcam.metrics.metric import Better
from onnxcam.metrics.registry import METRICS

COLOURS = 8
"""Colours of methods in report.css; further methods take them again with another dash."""


@dataclass(frozen=True)
class ShownMethod:
    """A method as it is drawn. colour: the number of its colour, 'base' for a baseline. dash: of its lines, 0 to 2."""

    key: str
    name: str
    baseline: bool
    colour: str
    dash: int
    seconds: str
    passes: str


@dataclass(frozen=True)
class ShownMeasure:
    """A measure in words. arrow: which values are better. span: its values, as text. options: of the metric, if any."""

    name: str
    title: str
    protocol: str
    better: Better
    unit: str
    digits: int
    meaning: str
    span: str
    source: str
    options: str

    @property
    def arrow(self) -> str:
        return {Better.HIGHER: "↑", Better.LOWER: "↓"}.get(self.better, "")


@dataclass(frozen=True)
class Cell:
    """One measure of one method. interval: empty for too few pictures. n: of the values; fewer: the same in words,
    where it is less than the pictures of the model. place, low, high: of mean and interval, and median's, in percent of
    the panel's axis.

    change: the difference to the compared method with its interval; clear: whether the interval excludes 0; gain:
    whether it is then better, None where the metric has no direction. holes: what is missing, in words; gap: in one.
    """

    mean: str
    interval: str
    median: str
    n: int
    place: float
    low: float
    high: float
    middle: float
    path: str
    change: str
    change_interval: str
    clear: bool
    gain: bool | None
    standing: Standing
    holes: str
    gap: str
    fewer: str = ""


@dataclass(frozen=True)
class Panel:
    """One measure of all methods. rows: by the method's key; without those that have no line. common: what every row
    that has values lacks, in words, which is then not said of each."""

    measure: ShownMeasure
    axis: Axis
    rows: Mapping[str, Cell]
    verdict: str
    common: str
    curves: CurveFigure | None


@dataclass(frozen=True)
class ShownSetup:
    """One model of the report. title: what tells it from the others. facts: words about it, by what they say."""

    title: str
    facts: Mapping[str, str]
    methods: tuple[ShownMethod, ...]
    panels: tuple[Panel, ...]

    @property
    def curved(self) -> tuple[tuple[int, ShownMethod], ...]:
        """The methods that have curves, with their numbers."""
        keys = {line.method for panel in self.panels if panel.curves for line in panel.curves.lines}
        return tuple((i, method) for i, method in enumerate(self.methods) if method.key in keys)


def shown_setups(collection: Collection, summary: Summary, openings: Mapping[str, str]) -> list[ShownSetup]:
    """The models in the order of the rows. openings: how each was opened, in words, where that is known."""
    titles = _titles(collection.setups)
    return [
        _setup(collection, summary, setup, titles[setup], openings.get(setup.opening, ""))
        for setup in collection.setups
    ]


def _titles(setups: Mapping[Setup, str]) -> dict[Setup, str]:
    """The models' names; with the target, and what the opening begins with, where others have the same name."""
    titles = {}
    for setup, name in setups.items():
        same = [other for other, its in setups.items() if its == name and other != setup]
        words = [setup.target] if any(other.target != setup.target for other in same) else []
        words += [setup.model[:8]] if any(other.model != setup.model for other in same) else []
        words += [setup.opening[:8]] if any(other.opening != setup.opening for other in same) else []
        titles[setup] = f"{name} ({', '.join(words)})" if words else name
    return titles


def _setup(collection: Collection, summary: Summary, setup: Setup, title: str, opening: str) -> ShownSetup:
    runs = collection.methods_of(setup)
    costs = {line.method: line for line in summary.methods if line.setup == setup}
    lines = {(line.method, line.measure): line for line in summary.lines if line.setup == setup}
    columns = [column for column in collection.columns if column.setup == setup]
    measures = collection.measures(setup)
    names = [measure.name for measure in measures]
    methods = shown_methods(runs, costs)
    panels = [
        _panel(
            shown_measure(measure, names.count(measure.name) > 1), measure, methods,
            [column for column in columns if column.measure == measure], lines, summary.against,
        )
        for measure in measures
    ]  # fmt: skip
    seen = [explained for explained in collection.explained[setup] if explained is not None]
    facts = {"SHA-256": setup.model, "opening": setup.opening, "opened with": opening, "explained": setup.target}
    facts["pictures"] = f"{len(seen):,}"
    return ShownSetup(title, {name: text for name, text in facts.items() if text}, methods, tuple(panels))


def shown_methods(runs: Sequence[MethodRuns], costs: Mapping[str, MethodLine]) -> tuple[ShownMethod, ...]:
    """With a colour for each method; baselines are grey, each with a dash of its own."""
    shown, methods, baselines = [], 0, 0
    for one in runs:
        cost = costs[one.method]
        seconds = (
            ""
            if one.baseline or cost.seconds is None
            else f"{cost.seconds:.{0 if cost.seconds >= 10 else 1 if cost.seconds >= 1 else 2}f}"
        )
        passes = "" if one.baseline or cost.passes is None else f"{cost.passes:,.0f}"
        if one.baseline:
            colour, dash, baselines = "base", 1 + baselines % 2, baselines + 1
        else:
            colour, dash, methods = str(methods % COLOURS), methods // COLOURS % 3, methods + 1
        shown.append(ShownMethod(one.method, one.name, one.baseline, colour, dash, seconds, passes))
    return tuple(shown)


def shown_measure(measure: Measure, with_options: bool) -> ShownMeasure:
    """with_options: whether others of the same name differ in their options only."""
    metric = METRICS.get(measure.metric)
    options = measure.options if with_options else ""
    if metric is None:
        name = measure.metric
        return ShownMeasure(measure.name, name, measure.protocol, Better.NEITHER, "", 3, "", "", "", options)
    digits = 1 if metric.unit == "%" else 3
    return ShownMeasure(
        measure.name, metric.title, measure.protocol, metric.better, metric.unit, digits, metric.meaning, metric.range,
        metric.source, options,
    )  # fmt: skip


def _panel(
    shown: ShownMeasure,
    measure: Measure,
    methods: Sequence[ShownMethod],
    columns: Sequence[Column],
    lines: Mapping[tuple[str, Measure], SummaryLine],
    against: str,
) -> Panel:
    values = np.concatenate([column.values for column in columns])
    defined = values[~np.isnan(values)]
    along = axis(float(defined.min()), float(defined.max())) if len(defined) else axis(0, 1)
    by_method = {column.method: column for column in columns}
    rows = {
        method.key: _cell(lines[method.key, measure], by_method[method.key], along, shown)
        for method in methods
        if method.key in by_method
    }
    verdict = _verdict([(method, rows[method.key]) for method in methods if method.key in rows], shown)
    order = [by_method[method.key] for method in methods if method.key in by_method]
    holes = {cell.holes for cell in rows.values() if cell.n}
    common = holes.pop() if len(holes) == 1 else ""
    return Panel(shown, along, rows, verdict, common, mean_curves(order))


def _cell(line: SummaryLine, column: Column, along: Axis, shown: ShownMeasure) -> Cell:
    estimate, digits = line.estimate, shown.digits
    holes, gap = _holes(line, column), _gap(line)
    if estimate is None or line.median is None:
        return Cell("", "", "", 0, 0, 0, 0, 0, "", "", "", False, None, line.standing, holes, gap)
    change, clear, gain = line.difference, False, None
    if change is not None:
        clear = change.excludes_zero
        gain = None if shown.better is Better.NEITHER else (change.mean > 0) == (shown.better is Better.HIGHER)
    return Cell(
        number(estimate.mean, digits), _interval(estimate, digits), number(line.median, digits), estimate.n,
        along.percent(estimate.mean), along.percent(estimate.low), along.percent(estimate.high),
        along.percent(line.median), distribution(column.values, along),
        "" if change is None else signed(change.mean, digits), "" if change is None else _interval(change, digits),
        clear, gain, line.standing, holes, gap, f"n = {estimate.n:,}" if holes else "",
    )  # fmt: skip


def signed(value: float, digits: int) -> str:
    text = number(value, digits)
    return f"+{text}" if value > 0 and float(f"{value:.{digits}f}") else text


def _interval(estimate: Estimate, digits: int) -> str:
    """With a dash between; with a word where a minus sign would meet the dash. Empty for too few pictures."""
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{number(low, digits)}{'–' if low >= 0 else ' to '}{number(high, digits)}"  # noqa: RUF001


def _holes(line: SummaryLine, column: Column) -> str:
    """What has no value, and why where there is one reason: '3 undefined: the map is constant; 1 error'."""
    counts = {State.UNDEFINED: (line.undefined, "undefined"), State.ERROR: (line.errors, "error")}
    words = []
    for state, (count, name) in counts.items():
        reasons = {text for i, text in column.reasons.items() if column.states[i] == state}
        why = f" ({reasons.pop()})" if len(reasons) == 1 and not column.count(State.VALUE) else ""
        if count:
            words.append(f"{count:,} {name}{'s' if count > 1 and state is State.ERROR else ''}{why}")
    words += [f"{line.missing:,} not measured"] if line.missing else []
    return ", ".join(words)


def _gap(line: SummaryLine) -> str:
    return "undefined" if line.undefined else "error" if line.errors else "not measured"


def _verdict(rows: Sequence[tuple[ShownMethod, Cell]], shown: ShownMeasure) -> str:
    """What the intervals allow to be said, in a sentence."""
    best = [method.name for method, cell in rows if cell.standing is Standing.BEST]
    leading = [method.name for method, cell in rows if cell.standing is Standing.LEADING]
    ahead = [method.name for method, cell in rows if cell.standing is Standing.AHEAD]
    if shown.better is Better.NEITHER:
        sentence = "No value is better than another."
    elif best:
        sentence = f"{best[0]} is the best: the interval of its gain on every other method excludes 0."
    elif len(leading) == 1:
        sentence = f"{leading[0]} leads, but no method is better than all others."
    elif leading:
        sentence = f"No single best: {_listed(leading)} cannot be told apart."
    else:
        sentence = ""
    if ahead:
        sentence += f" {_listed(ahead)}, which {'know' if len(ahead) > 1 else 'knows'} nothing of the model, "
        sentence += f"{'do' if len(ahead) > 1 else 'does'} better than the method that leads."
    return sentence.strip()


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
