"""Text that `onnxcam compare` prints for a reader: rows with their targets, a table of metrics, notes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnxcam.cli.printing import wrapped
from onnxcam.cli.summary import better_marks, preprocessing_doubt

if TYPE_CHECKING:
    from onnxcam.outputs.comparison import ComparedMethod, ComparedMetric, Comparison, ComparisonRow

COLUMNS = 80
"""Of a terminal of the usual width."""
ABSENT = "-"
"""Stands for a number that there is none of; the reason is below the table."""
Table = list[list[str]]
"""Lines of cells."""


def comparison_summary(comparison: "Comparison", pictures: Sequence[Path], file: Path) -> list[str]:
    """The file, each row with its target and metrics, and every note once: first what is assumed."""
    from onnxcam.outputs.comparison import Best

    lines = [f"{', '.join(map(str, pictures))} -> {file}"]
    for row in comparison.rows:
        lines.append(f"  {_title(comparison, row)}")
        lines += [f"    {line}" for line in (*_tables(comparison, row), *_reasons(comparison, row))]
    if any(metric.best is not Best.NONE for metric in comparison.metrics):
        higher, lower = better_marks()
        lines.append(f"  ({higher} higher is better, {lower} lower)")
    passes = f"{comparison.passes} forward pass{'es' if comparison.passes != 1 else ''}"
    lines.append(f"  {passes}, {comparison.seconds:.2f} s")
    return [*lines, *(line for note in _notes(comparison) for line in wrapped("  note  ", note))]


def _title(comparison: "Comparison", row: "ComparisonRow") -> str:
    """What sets the row apart, and its target with its score."""
    from onnxcam.outputs.captions import cautious_score

    saliency = next((cell.saliency for cell in row.maps if cell.saliency is not None), None)
    if saliency is None or row.target is None:
        return f"{row.name}  no map"
    scored = f"{comparison.target_name(row)}: {cautious_score(saliency)}"
    return scored if scored.startswith(row.name) else f"{row.name}  {scored}"


def _tables(comparison: "Comparison", row: "ComparisonRow") -> list[str]:
    """The metrics in lines and the methods in columns, in several tables where they are wider than a terminal."""
    if not comparison.metrics:
        return []
    names = [["", "", ""], *([*_name(metric), _protocol(row, metric)] for metric in comparison.metrics)]
    beside = sum(map(_widths(names).__getitem__, range(3))) + 2 + 2 + 4
    parts: list[Table] = []
    room = 0
    for column in _columns(comparison, row):
        wide = max(map(len, column)) + 2
        if not parts or wide > room:
            parts.append([])
            room = COLUMNS - beside
        parts[-1].append(column)
        room -= wide
    return [line for columns in parts for line in _lines(names, columns)]


def _lines(names: Table, columns: Table) -> Iterator[str]:
    """The lines of a table: names at the left, numbers at the right of their columns."""
    wide = _widths(names)
    for i, parts in enumerate(names):
        left = "  ".join(part.ljust(width) for part, width in zip(parts, wide, strict=True))
        yield "  ".join([left, *(column[i].rjust(max(map(len, column))) for column in columns)])


def _widths(table: Table) -> list[int]:
    return [max(map(len, cells)) for cells in zip(*table, strict=True)]


def _columns(comparison: "Comparison", row: "ComparisonRow") -> Iterator[list[str]]:
    """Of each method its name and its numbers."""
    from onnxcam.outputs.figure_cells import shown_numbers

    columns = [[str(method)] for method in comparison.methods]
    for metric in comparison.metrics:
        values = [cell.metrics[metric.name].value if metric.name in cell.metrics else None for cell in row.maps]
        numbers = iter(shown_numbers([value for value in values if value is not None], metric.unit))
        for column, value in zip(columns, values, strict=True):
            column.append(next(numbers) if value is not None else ABSENT)
    yield from columns


def _name(metric: "ComparedMetric") -> tuple[str, str]:
    """A metric's name as it is typed, and which way is better."""
    from onnxcam.outputs.comparison import Best

    higher, lower = better_marks()
    marks = {Best.HIGHEST: higher, Best.LOWEST: lower, Best.NONE: ""}
    return metric.name.partition(":")[0].replace("_", "-"), marks[metric.best]


def _protocol(row: "ComparisonRow", metric: "ComparedMetric") -> str:
    """How a metric was measured; nothing where there is one way without a name."""
    measured = (cell.metrics[metric.name].protocol for cell in row.maps if metric.name in cell.metrics)
    return next(measured, None) or ""


def _reasons(comparison: "Comparison", row: "ComparisonRow") -> Iterator[str]:
    """Why there is no map of a method, or no value of a metric."""
    for method, cell in zip(comparison.methods, row.maps, strict=True):
        if cell.saliency is None:
            yield from wrapped(f"{method}  ", f"no map: {cell.reason}", margin=4)
    undefined: dict[tuple[str, str], list[ComparedMethod]] = {}
    for method, cell in zip(comparison.methods, row.maps, strict=True):
        for metric in comparison.metrics:
            one = cell.metrics.get(metric.name)
            if one is not None and one.value is None:
                undefined.setdefault((_name(metric)[0], one.reason or ""), []).append(method)
    for (name, reason), methods in undefined.items():
        yield from wrapped(f"{name} of {', '.join(map(str, methods))}  ", f"undefined: {reason}", margin=4)


def _notes(comparison: "Comparison") -> Iterator[str]:
    """Each note once: first assumed preprocessing, then those on the comparison, on maps, and on metrics.

    Before a note on some of the rows or of the methods stand their names.
    """
    cells = [cell for row in comparison.rows for cell in row.maps]
    maps = [cell.saliency for cell in cells]
    rows = [row.name for row in comparison.rows for _ in row.maps]
    sides = rows, [str(method) for _ in comparison.rows for method in comparison.methods]
    yield from _placed(sides, [[preprocessing_doubt(one)] if one is not None else [] for one in maps])
    yield from map(str, comparison.notes)
    yield from _placed(sides, [[str(note) for note in one.provenance.notes] if one is not None else [] for one in maps])
    yield from _placed(sides, [[one.note for one in cell.metrics.values() if one.note is not None] for cell in cells])


def _placed(sides: tuple[Sequence[str], Sequence[str]], texts: Sequence[Sequence[str]]) -> Iterator[str]:
    """The texts, each once, with the names of the rows and the methods that have it unless all have it.

    sides: the row and the method of each map. texts: of each map; empty ones are left out.
    """
    places: dict[str, list[int]] = {}
    for i, several in enumerate(texts):
        for text in filter(None, several):
            places.setdefault(text, []).append(i)
    for text, numbers in places.items():
        names = [
            ", ".join(dict.fromkeys(side[i] for i in numbers))
            for side in sides
            if len({side[i] for i in numbers}) < len(set(side))
        ]
        yield f"{', '.join(names)}: {text}" if names else text
