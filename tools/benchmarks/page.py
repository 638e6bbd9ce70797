"""Writes the tables of docs/benchmarks.md from docs/benchmarks.json, a file that run_all.py made.

    python tools/benchmarks/run_all.py --json docs/benchmarks.json --figure docs/benchmarks.webp
    python tools/benchmarks/page.py

A table stands between `<!-- measured: PART -->` and `<!-- end -->`, below a line that says where and when it was
measured. The text around the tables is written by hand and stays.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from figure import difference
from table import Row, Rows

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLACE = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CROSSED = {"speed", "budget"}
"""Parts whose rows are called `SUBJECT: FIGURE`: a line for each subject, a column for each figure."""
QUIET = 0.05
"""The share of the machine that other processes may take before the page warns."""
LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "torch", "grad-cam", "torchcam", "muppet-xai")
FIGURE = (
    "![Processor seconds against two measures of quality, for every method of onnxcam, pytorch-grad-cam and TorchCAM]"
    "(benchmarks.webp)"
)
NOTHING = "not measured"


def with_tables(page: str, parts: Mapping[str, Any]) -> str:
    """The page with each table made anew. A part that was never measured is said to be so."""

    def made(match: re.Match[str]) -> str:
        part = match[2]
        lines = list(part_lines(part, parts[part])) if part in parts else ["Not measured yet."]
        return match[1] + "\n".join(["", *lines, ""]) + "\n" + match[3]

    return PLACE.sub(made, page)


def part_lines(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    """The line of conditions and the table of one part."""
    yield measured_on(part)
    yield ""
    if name == "methods":
        yield from (FIGURE, "")
        yield from quality_table(part["rows"])
    elif name in CROSSED:
        yield from crossed_table(part["rows"])
    else:
        yield from plain_table(part["rows"])


def measured_on(part: Mapping[str, Any]) -> str:
    """Where and when a part was measured, and how busy the machine was."""
    day = datetime.fromisoformat(part["when"])
    versions = [f"{name} {part['versions'][name]}" for name in LIBRARIES if name in part["versions"]]
    where = [part["machine"], *part.get("gpus", ())]
    text = f"*{day.day} {day:%B %Y}; {'; '.join(where)}; {', '.join(versions)}."
    others = part.get("others")
    if others is not None and others <= QUIET:
        text += " A quiet machine."
    elif others is not None:
        text += f" Other processes took {others:.0%} of the machine: seconds are too long, ratios uncertain."
    return f"{text}{' ' + part['comment'] if 'comment' in part else ''}*"


def plain_table(rows: Rows) -> Iterator[str]:
    """A line for each row."""
    yield "| what | measured | reach | note |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| {row['what']} | {measured(row)} | {reach(row)} | {row['note']} |"


def crossed_table(rows: Rows) -> Iterator[str]:
    """A line for each subject, a column for each figure, notes below; then a plain table of what has one figure."""
    pairs = [(*row["what"].rpartition(": ")[::2], row) for row in rows]
    counts = Counter(subject for subject, _, _ in pairs)
    crossed = [pair for pair in pairs if pair[0] and counts[pair[0]] > 1]
    figures = list(dict.fromkeys(figure for _, figure, _ in crossed))
    cells = {(subject, figure): row for subject, figure, row in crossed}
    if crossed:
        yield f"| | {' | '.join(figures)} |"
        yield "|---|" + "---|" * len(figures)
    for subject in dict.fromkeys(subject for subject, _, _ in crossed):
        values = [cells.get((subject, figure)) for figure in figures]
        yield f"| {subject} | {' | '.join('' if row is None else cell(row) for row in values)} |"
    notes = dict.fromkeys(f"- {subject}: {row['note']}" for subject, _, row in crossed if row["note"])
    if notes:
        yield from ("", *notes)
    if len(crossed) < len(pairs):
        yield ""
        yield from plain_table([row for subject, _, row in pairs if not subject or counts[subject] == 1])


def quality_table(rows: Rows) -> Iterator[str]:
    """A line for each method of each tool, and the reason for each that was not measured."""
    yield "| tool | method | processor seconds | seconds | the first | Pearson | insertion - deletion |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        if row["value"] is not None:
            times = [number(row[name]) for name in ("processor", "value", "first")]
            numbers = [*times, decimals(row["pearson"]), decimals(difference(row))]
            yield f"| {row['tool']} | {row['method']} | {' | '.join(numbers)} |"
    for row in rows:
        if row["value"] is None:
            yield f"| {row['tool']} | {row['method']} | {NOTHING}: {row['note']} | | | | |"


def measured(row: Row) -> str:
    """The median, and the spread where there are several rounds."""
    if row["value"] is None:
        return NOTHING
    spread = f" ({number(row['least'])} to {number(row['most'])})" if row["rounds"] > 1 else ""
    return number(row["value"]) + spread


def reach(row: Row) -> str:
    """The bound, and whether it was missed."""
    return row["reach"] + (", missed" if row["met"] is False else "")


def cell(row: Row) -> str:
    """A value with its bound, if it has one."""
    return measured(row) + (f"; reach {reach(row)}" if row["reach"] else "")


def number(value: float) -> str:
    """Four digits at most: 0.9998, 17.3, 202."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def decimals(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=DOCS / "benchmarks.json", help="what run_all.py measured")
    parser.add_argument("--page", type=Path, default=DOCS / "benchmarks.md", help="the page that is rewritten")
    given = parser.parse_args(arguments)
    text = given.page.read_text("utf-8")
    given.page.write_text(with_tables(text, json.loads(given.json.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
