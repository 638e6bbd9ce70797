"""Text that `onnxcam evaluate` prints for a reader: what will be measured, then the tables, the costs, the files."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from onnxcam.cli.evaluation_progress import duration
from onnxcam.cli.printing import wrapped
from onnxcam.cli.summary import better_marks

if TYPE_CHECKING:
    from onnxcam.evaluation.collection import Collection, Measure, MethodRuns
    from onnxcam.evaluation.dataset import DataSet
    from onnxcam.evaluation.journal import Journal
    from onnxcam.evaluation.options import EvaluationOptions
    from onnxcam.evaluation.pace import EvaluationProgress
    from onnxcam.evaluation.results import Results
    from onnxcam.evaluation.statistics import Estimate
    from onnxcam.evaluation.summary import Summary, SummaryLine

LISTED = 3
"""Errors that are printed of maps and of metrics, and entries of the data that were left out."""
TABLE = "results.parquet"
"""What names all errors where there is no report."""
MARGIN = 11
"""Columns of the words before the lines below the tables."""
MARKS = {"best": "*", "leading": "=", "ahead": "!", "": ""}
"""Of each Standing, before the method's name."""
ABSENT = "-"
"""Stands for a mean that there is none of."""


def count(number: int, noun: str) -> str:
    """1 picture, 1,200 pictures, 2 passes."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def announcement(models: int, data: "DataSet", options: "EvaluationOptions", journal: "Journal") -> list[str]:
    """What is measured: 36 pictures x 2 methods and 2 baselines x 6 metrics: 864 rows. Then each in a line."""
    from onnxcam.evaluation.options import SourceKind
    from onnxcam.metrics.arguments import typed

    kinds = [source.kind for source in options.sources]
    nouns = {SourceKind.METHOD: "method", SourceKind.FOLDER: "other tool", SourceKind.BASELINE: "baseline"}
    sources = " and ".join(count(kinds.count(kind), noun) for kind, noun in nouns.items() if kind in kinds)
    parts = [count(models, "model")] if models > 1 else []
    parts += [count(len(data.items), "picture"), sources, count(len(options.metrics), "metric")]
    rows = models * len(data.items) * len(kinds) * len(options.metrics)
    stored = journal.count()
    left_out = [f"{key}: {why}" for key, why in data.skipped.items()]
    lines = [
        f"{' x '.join(parts)}: {count(rows, 'row')}",
        f"data     {data.name}, read as {data.format}",
        *(f"left out {text}" for text in left_out[:LISTED]),
        *(
            [f"left out {len(left_out) - LISTED:,} more, which summary.json will name"]
            if len(left_out) > LISTED
            else []
        ),
        f"maps     {', '.join(source.title for source in options.sources)}",
        f"metrics  {', '.join(typed(name) for name in options.metrics)}",
    ]
    if stored:
        lines.append(
            f"journal  {count(stored, 'row')} of earlier runs; what this run shares with them is not measured again"
        )
        last = journal.runs()[-1]
        if (last.record.data, last.record.source.get("source")) != (data.name, data.source.get("source")):
            folder = journal.path.parent
            lines.append(
                f"note     tables and report in {folder} are of other data ({last.record.data}), and are replaced; "
                f"`onnxcam evaluate {folder} --run {last.number}` makes them again"
            )
    return lines


def evaluation_summary(results: "Results", progress: "EvaluationProgress | None", seconds: float) -> list[str]:
    """The tables, then what maps cost, what went wrong, and where the files are. progress: None if nothing was run."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    summary, collection = results.summary, results.collection
    openings = results.run.record.openings
    lines = [
        *_tables(summary, collection, columns, openings),
        *_legend(summary),
        *_costs(summary),
        *_errors(collection, shown=next((path.name for path in results.files if path.suffix == ".html"), TABLE)),
    ]
    report = [path for path in results.files if path.suffix == ".html"]
    first, *rest = (path for path in results.files if path not in report)
    for path in report:
        lines += _below("report", str(path))
    lines += _below("tables", ", ".join([str(first), *(path.name for path in rest)]))
    parts = [count(len(collection.pictures), "picture"), count(collection.rows, "row")]
    parts += [f"{progress.kept:,} measured before"] if progress is not None and progress.kept else []
    return [*lines, ", ".join([*parts, duration(seconds)])]


@dataclass(frozen=True)
class Row:
    """A line of a table as text: a method, or the name of a metric above its methods. value: mean and interval.

    change: the same of the difference to the compared method. gap: what is missing.
    """

    name: str
    value: tuple[str, str] = ("", "")
    change: tuple[str, str] = ("", "")
    gap: str = ""


def _tables(
    summary: "Summary", collection: "Collection", columns: int | None, openings: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """For each model a table with a part for each metric. columns: of the terminal, None for any width."""
    from onnxcam.evaluation.model_request import preprocessing_doubt

    lines: list[str] = []
    names = {line.method: line.method_name for line in summary.methods}
    for setup, of_setup in groupby(summary.lines, key=lambda line: line.setup):
        listed = list(of_setup)
        pictures = sum(one is not None for one in collection.explained[setup])
        broken = min(line.errors for line in listed)
        to = names.get(summary.against, "")
        differences = f"; differences to {to}" if any(line.difference is not None for line in listed) else ""
        if to and not any(line.method == summary.against and line.estimate is not None for line in listed):
            differences = f"; no differences: {to} has no value"
        rows = []
        for measure in dict.fromkeys(line.measure for line in listed):
            rows += [
                Row(_title(measure)),
                *(_row(line, broken, pictures) for line in listed if line.measure == measure),
            ]
        shown = f"{count(pictures, 'picture')}{f', {broken:,} with errors' if broken else ''}"
        lines += wrapped("", f"{listed[0].model_name}, {shown}, target: {setup.target}")
        lines += wrapped("  ", f"{_means(listed)}{differences}")
        opening = openings.get(setup.opening, {})
        if opening.get("assumed"):
            lines += _below("note", preprocessing_doubt(listed[0].model_name, opening["preprocessing"]))
        lines += _table(rows, columns)
    return lines


def _means(lines: "Sequence[SummaryLine]") -> str:
    """What the numbers are, in words."""
    from onnxcam.evaluation.statistics import LEAST_PAIRS

    estimates = [line.estimate for line in lines if line.estimate is not None]
    if not any(one.interval for one in estimates):
        return f"means; intervals need {LEAST_PAIRS} pictures"
    few = not all(one.interval for one in estimates)
    return f"means with 95 % intervals{f', which need {LEAST_PAIRS} pictures' if few else ''}"


def _row(line: "SummaryLine", broken: int, pictures: int) -> Row:
    """broken: pictures with an error in every line, which the heading says, as it does the number of pictures."""
    gaps = {"undefined": line.undefined, "with errors": line.errors - broken, "missing": line.missing}
    words = [f"{number:,} {what}" for what, number in gaps.items() if number]
    if line.estimate is not None and line.estimate.n != pictures - broken:
        words.insert(0, f"n = {line.estimate.n:,}")
    if line.estimate is not None and line.difference is not None and line.difference.n != line.estimate.n:
        words.append(count(line.difference.n, "pair"))
    gap = ", ".join(words)
    name = f"({line.method_name})" if line.baseline else line.method_name
    percent = _is_percent(line.measure)
    mean, interval = _estimate(line.estimate, percent)
    change = _estimate(line.difference, percent, signed=True)
    if line.estimate is None:
        return Row(f"{MARKS[line.standing]:1} {name}", (ABSENT, gap))
    return Row(f"{MARKS[line.standing]:1} {name}", (mean, interval), change, gap)


def _estimate(estimate: "Estimate | None", percent: bool, *, signed: bool = False) -> tuple[str, str]:
    """(mean, interval) as text; empty where there is none, the interval where there are too few pictures."""
    if estimate is None:
        return "", ""
    sign = "+" if signed else ""
    numbers = [_number(value, percent, sign) for value in (estimate.mean, *(estimate.interval or ()))]
    return numbers[0], f"[{', '.join(numbers[1:])}]" if estimate.interval else ""


def _number(value: float, percent: bool, sign: str) -> str:
    """12.9 of %, else 0.228; small numbers with one digit that is not 0."""
    if percent:
        return f"{value:{sign}.1f}"
    return f"{value:{sign}.3f}" if value == 0 or abs(value) >= 5e-4 else f"{value:{sign}.0e}"


def _is_percent(measure: "Measure") -> bool:
    from onnxcam.metrics.registry import METRICS

    return measure.metric in METRICS and METRICS[measure.metric].unit == "%"


def _title(measure: "Measure") -> str:
    """average-drop (mult), %, with the arrow of what is better."""
    from onnxcam.metrics.metric import Better

    higher, lower = better_marks()
    mark = {Better.HIGHER: higher, Better.LOWER: lower}.get(measure.better, "")
    protocol = f" ({measure.protocol})" if measure.protocol else ""
    unit = ", %" if _is_percent(measure) else ""
    return f"{measure.metric.replace('_', '-')}{protocol}{unit} {mark}".rstrip()


def _table(rows: Sequence[Row], columns: int | None) -> list[str]:
    """The lines of a table; where they are wider than the terminal, the numbers stand below the names."""
    cells = [
        [row.name for row in rows],
        _aligned([row.value for row in rows]),
        _aligned([row.change for row in rows]),
        [row.gap for row in rows],
    ]
    wide = [max(map(len, column)) for column in cells]
    lines = [
        "  ".join(["", *(cell.ljust(width) for cell, width in zip(line, wide, strict=True) if width)]).rstrip()
        for line in zip(*cells, strict=True)
    ]
    if columns is None or max(map(len, lines)) <= columns:
        return lines
    return [line for row in rows for line in _stacked(row)]


def _stacked(row: Row) -> list[str]:
    """The name, and below it the numbers."""
    return [
        f"  {row.name}",
        *(f"      {text}" for text in (" ".join(row.value), " ".join(row.change), row.gap) if text.strip()),
    ]


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Mean and interval, the means at the right of their column."""
    wide = max(len(mean) for mean, _ in pairs)
    return [f"{mean:>{wide}} {interval}".rstrip() for mean, interval in pairs]


def _legend(summary: "Summary") -> list[str]:
    """What the marks mean, those that are there."""
    from onnxcam.evaluation.summary import Standing

    meanings = {
        Standing.BEST: "the best: better than each other method by a paired difference whose interval excludes 0",
        Standing.LEADING: "leads, or is not told apart from the method that leads",
        Standing.AHEAD: "a baseline that is better than the method that leads",
    }
    seen = {line.standing for line in summary.lines}
    lines = [
        part
        for standing, text in meanings.items()
        if standing in seen
        for part in wrapped(f"  {MARKS[standing]}   ", text)
    ]
    has_baselines = any(line.baseline for line in summary.lines)
    return [*lines, *(wrapped("  ( ) ", "a baseline: a map that explains nothing") if has_baselines else [])]


def _cost(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else duration(seconds)


def _costs(summary: "Summary") -> list[str]:
    """What a map of each method takes, of each model where there are several."""
    several = len({line.setup for line in summary.methods}) > 1
    parts = [
        f"{f'{line.model_name}, ' if several else ''}{line.method_name}: "
        f"{_cost(line.seconds)} and {count(round(line.passes), 'pass')} a map"
        for line in summary.methods
        if not line.baseline and line.seconds is not None and line.passes is not None
    ]
    return [line for i, part in enumerate(parts) for line in _below("" if i else "cost", part)]


def _errors(collection: "Collection", shown: str) -> list[str]:
    """The first few pictures without a map of some method, then the first few numbers that a metric could not compute.

    shown: the file that names the others.
    """
    maps, metrics = _errors_of_maps(collection), _errors_of_metrics(collection)
    texts = []
    for one, what in ((maps, "maps"), (metrics, "metrics")):
        more = len(one) - LISTED
        texts += [*one[:LISTED], *([f"{more:,} more of {what}: see {shown}"] if more > 0 else [])]
    listed = [*texts, "--retry computes them again"] if texts else []
    return [line for i, text in enumerate(listed) for line in _below("" if i else "errors", text)]


def _errors_of_maps(collection: "Collection") -> list[str]:
    """A line for each picture and reason, with the models and the methods that it is of unless it is of all."""
    runs_of: dict[tuple[str, str], list[MethodRuns]] = {}
    for runs in collection.methods:
        for i, text in runs.errors.items():
            picture = collection.pictures[i]
            runs_of.setdefault((picture, text.removeprefix(f"{picture}: ")), []).append(runs)
    all_methods = {runs.name for runs in collection.methods}
    lines = []
    for (picture, text), several in runs_of.items():
        setups = dict.fromkeys(runs.setup for runs in several)
        methods = dict.fromkeys(runs.name for runs in several)
        models = [collection.setups[setup] for setup in setups] if len(setups) < len(collection.setups) else []
        lines.append(f"{', '.join([picture, *models, *(methods if len(methods) < len(all_methods) else ())])}: {text}")
    return lines


def _errors_of_metrics(collection: "Collection") -> list[str]:
    """A line for each metric and reason: how many numbers there are not, the methods, and the first of the pictures."""
    from onnxcam.evaluation.collection import State

    names = {runs.method: runs.name for runs in collection.methods}
    places: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for column in collection.columns:
        for i, text in column.reasons.items():
            if column.states[i] == State.ERROR:
                places.setdefault((column.measure.name, text), []).append(
                    (names[column.method], collection.pictures[i])
                )
    lines = []
    for (metric, text), pairs in places.items():
        methods = ", ".join(dict.fromkeys(method for method, _ in pairs))
        pictures = list(dict.fromkeys(picture for _, picture in pairs))
        where = f"{pictures[0]}{', ...' if len(pictures) > 1 else ''}"
        lines.append(f"{metric.replace('_', '-')}, {count(len(pairs), 'number')} of {methods} ({where}): {text}")
    return lines


def _below(name: str, text: str) -> list[str]:
    """A line below the tables."""
    return wrapped(f"  {name}".ljust(MARGIN), text)
