"""Markdown tables of an evaluation, as docs/metrics.md has them, of the summary.json that `onnxcam evaluate` writes.

    python tools/metric_tables.py results/summary.json

In each cell: the mean with its 95 % interval, and below the paired difference to the method that the evaluation
compares with, bold where its interval excludes 0. It says how often a value is undefined, or could not be computed,
where that is more than for the other methods: a photograph without a box has no pointing game of any.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TABLES = {
    "Average drop, increase and gain": ("average_drop", "average_increase", "average_gain"),
    "Insertion and deletion": ("insertion", "deletion"),
    "Imputation, correlation, complexity": ("road", "faithfulness_correlation", "adcc", "sparseness"),
    "Where the object is": ("energy_pointing_game", "pointing_game"),
}
REST = "Other metrics"
NAMES = {"ones": "*map of ones*", "gaussian": "*centred Gaussian*"}
"""Of the baselines, as people read them."""
ARROWS = {"higher": " ↑", "lower": " ↓"}
Line = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Markdown tables of the summary.json of an evaluation.")
    parser.add_argument("summary", type=Path)
    summary = json.loads(parser.parse_args().summary.read_text(encoding="utf-8"))
    print("\n".join(tables(summary["summary"])))


def tables(lines: Sequence[Line]) -> Iterator[str]:
    """The tables of each model, those of one kind of metrics in one, methods and metrics in the summary's order."""
    setups = list(dict.fromkeys(_setup(line) for line in lines))
    for setup in setups:
        its = [line for line in lines if _setup(line) == setup]
        if len(setups) > 1:
            yield f"### {its[0]['model_name']}, target: {its[0]['target']}\n"
        for title in (*TABLES, REST):
            table = [line for line in its if _title(line) == title]
            if table:
                yield from _table(title, table)


def _setup(line: Line) -> tuple[str, str, str]:
    return line["model"], line["opening"], line["target"]


def _title(line: Line) -> str:
    return next((title for title, metrics in TABLES.items() if line["metric"] in metrics), REST)


def _table(title: str, lines: Sequence[Line]) -> Iterator[str]:
    columns = list(dict.fromkeys(_measure(line) for line in lines))
    by_place = {(line["method"], _measure(line)): line for line in lines}
    yield f"**{title}**\n"
    yield f"| method | {' | '.join(_heading(*column) for column in columns)} |"
    yield "|---|" + "---|" * len(columns)
    for method in dict.fromkeys(line["method"] for line in lines):
        row = [by_place[method, column] for column in columns]
        cells = [_cell(line, [other for other in lines if _measure(other) == _measure(line)]) for line in row]
        yield f"| {NAMES.get(method, row[0]['method_name'])} | {' | '.join(cells)} |"
    yield ""


def _measure(line: Line) -> tuple[str, str, str, str]:
    return line["metric"], line["protocol"], line["options"], line["better"]


def _heading(metric: str, protocol: str, options: str, better: str) -> str:
    return f"{metric.replace('_', '-')}{f':{protocol}' if protocol else ''}{ARROWS.get(better, '')}"


def _cell(line: Line, column: Sequence[Line]) -> str:
    """column: the lines of the same metric, of all methods."""
    if line["estimate"] is None:
        return "undefined" if line["undefined"] else "no value"
    usual = min(_lacking(other) for other in column if other["estimate"] is not None)
    more = _lacking(line) - usual
    text = _estimate(line["estimate"], "") + (f", {more} without a value" if more else "")
    difference = line["difference"]
    if difference is None:
        return text
    bold = "**" if difference["low"] is not None and not difference["low"] <= 0 <= difference["high"] else ""
    return f"{text}<br>{_estimate(difference, '+', bold)}"


def _lacking(line: Line) -> int:
    return int(line["undefined"] + line["errors"] + line["missing"])


def _estimate(estimate: Mapping[str, float | None], sign: str, bold: str = "") -> str:
    """The mean and, where there is one, the interval. sign: '+' for differences."""
    mean = f"{bold}{estimate['mean']:{sign}.3g}{bold}"
    return mean if estimate["low"] is None else f"{mean} ({estimate['low']:{sign}.3g} to {estimate['high']:{sign}.3g})"


if __name__ == "__main__":
    main()
