"""The rows of a benchmark: what was measured, its spread over the rounds, and the bound that it should reach.

The benchmarks make rows with `row`, write them as JSON with `save` and print them with `show`.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = dict[str, Any]
"""what: text. value (the median), least, most: numbers, None if nothing was measured. rounds: the number of values.

reach: a bound such as ">= 0.95", or "". met: whether the value is within the bound, None if there is no bound or no
value. note: text.
"""
Rows = list[Row]


def row(what: str, values: Sequence[float], reach: str = "", note: str = "") -> Row:
    """A row of one value per round. Where nothing could be measured, values is empty and the note says why."""
    median, least, most = (statistics.median(values), min(values), max(values)) if values else (None, None, None)
    return {
        "what": what, "value": median, "least": least, "most": most, "rounds": len(values),
        "reach": reach, "met": is_met(median, reach), "note": note,
    }  # fmt: skip


def is_met(value: float | None, reach: str) -> bool | None:
    if value is None or not reach:
        return None
    side, bound = reach.split()
    return value >= float(bound) if side == ">=" else value <= float(bound)


def save(rows: Rows | dict[str, Any], path: Path | None) -> None:
    """Writes JSON. The file is replaced at once, so that no reader sees half of it. Does nothing without a path."""
    if path is not None:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(rows, indent=2) + "\n")
        temporary.replace(path)


def show(rows: Rows) -> None:
    """Prints the rows as a table."""
    table = Table("what", "median", "spread", "reach", "met", "note")
    for r in rows:
        value = "not measured" if r["value"] is None else f"{r['value']:.4g}"
        spread = f"{r['least']:.4g} .. {r['most']:.4g}" if r["rounds"] > 1 else ""
        verdict = {None: "", True: "yes", False: "[red]no[/red]"}[r["met"]]
        table.add_row(escape(r["what"]), value, spread, r["reach"], verdict, escape(r["note"]))
    Console(width=170).print(table)
