"""Rows of a benchmark: what was measured, with its spread, beside what is to be reached."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Row = dict[str, Any]
Rows = list[Row]
"""what; value (median), least, most, rounds, all None where nothing was measured; reach, "" or a bound such as
">= 0.95"; met, None where there is nothing to tell; note.
"""


def row(what: str, values: Sequence[float], reach: str = "", note: str = "") -> Row:
    """values: one a round; none where it could not be measured, and the note says why."""
    found: Row = {"what": what, "value": None, "least": None, "most": None, "rounds": len(values)}
    if values:
        found |= {"value": statistics.median(values), "least": min(values), "most": max(values)}
    return {**found, "reach": reach, "met": met(found["value"], reach), "note": note}


def met(value: float | None, reach: str) -> bool | None:
    if value is None or not reach:
        return None
    side, bound = reach.split()
    return value >= float(bound) if side == ">=" else value <= float(bound)


def keep(found: Rows | dict[str, Any], path: Path | None) -> None:
    """As JSON; whoever reads the file meanwhile finds the old text or the new one."""
    if path is not None:
        lock_of = path.with_name(f".{path.name}.tmp")
        lock_of.write_text(json.dumps(found, indent=2) + "\n")
        lock_of.replace(path)


def show(rows: Rows) -> None:
    table = Table("what", "median", "spread", "reach", "met", "note")
    for r in rows:
        measured = "not measured" if r["value"] is None else f"{r['value']:.4g}"
        spread = f"{r['least']:.4g} .. {r['most']:.4g}" if r["rounds"] > 1 else ""
        verdict = {None: "", True: "yes", False: "[red]no[/red]"}[r["met"]]
        table.add_row(escape(r["what"]), measured, spread, r["reach"], verdict, escape(r["note"]))
    Console(width=170).print(table)
