"""Arranges a comparison as lines of cells, each with the words above and below it; figure.py places and draws them.

One line that is long is broken; of a table the longer side goes down the page, since a column of print is narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

import numpy as np

from onnxcam.outputs.captions import cautious_score
from onnxcam.outputs.comparison import Axis, Best, Box, ComparedMap, Comparison, ComparisonRow
from onnxcam.outputs.drawing import Original
from onnxcam.outputs.figure_text import USUAL, Words
from onnxcam.outputs.saliency import Saliency

ACROSS = 4
"""Most cells beside each other in one column of print."""
Part = tuple[float, float, float, float]
UNDEFINED = "n/a"
SHORT = {
    "average_drop": "AD", "average_increase": "AI", "average_gain": "AG", "deletion": "Del", "insertion": "Ins",
    "energy_pointing_game": "EPG", "pointing_game": "PG", "road": "ROAD", "faithfulness_correlation": "faith.",
    "adcc": "ADCC", "sparseness": "Gini",
}  # fmt: skip
"""Tables' names of metrics, where a cell is narrow: then all metrics of a figure have theirs."""
ACRONYMS = ("road", "adcc")
"""Metrics that have no other name."""
ARROWS = {Best.HIGHEST: "\N{UPWARDS ARROW}", Best.LOWEST: "\N{DOWNWARDS ARROW}", Best.NONE: ""}
"""Behind a metric's name: which values are better."""
SIGNAL_ASPECT = 0.6
TALLEST, FLATTEST = 1.5, 0.2
"""A cell's height at most and at least, as a multiple of its width."""


class Shown(Enum):
    """What a cell shows."""

    PICTURE = auto()
    """The picture, with what the model did not see of it grey and dim."""
    MAP = auto()
    """The map over what the model saw."""
    NOTHING = auto()
    """That there is no map."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture of the figure.

    saliency: the map; where there is none, and for the picture itself, another of the row, which has the same place;
    None for a row without maps. shown: what is drawn. above, below: lines of words. slice_index: of a volume.
    truth: boxes of the object, as a person drew them.
    """

    saliency: Saliency | None
    original: Original | None
    shown: Shown = Shown.MAP
    above: tuple[Words, ...] = ()
    below: tuple[Words, ...] = ()
    slice_index: int | None = None
    truth: tuple[Box, ...] = ()

    @property
    def part(self) -> Part:
        """(left, top, right, bottom) of what is drawn, in the pixels of a target's box.

        Of a map only what the model saw of a photograph; the picture itself is whole.
        """
        if self.saliency is None or self.saliency.map.ndim == 1:
            return 0.0, 0.0, 1.0, 1.0
        height, width = map(float, self.saliency.map.shape[-2:])
        placement = self.saliency.placement
        if placement is None or self.saliency.map.ndim == 3:
            return 0.0, 0.0, width, height
        if self.original is None:
            return placement.box
        (height, width), (left, top, right, bottom) = placement.picture, placement.box
        if self.shown is Shown.PICTURE:
            return 0.0, 0.0, float(width), float(height)
        return max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)

    @property
    def aspect(self) -> float:
        """Height by width, within what a figure takes."""
        if self.saliency is None:
            return 1.0
        if self.saliency.map.ndim == 1:
            return SIGNAL_ASPECT
        left, top, right, bottom = self.part
        return min(max((bottom - top) / (right - left), FLATTEST), TALLEST)


@dataclass(frozen=True, eq=False)
class Line:
    """Cells beside each other; None leaves a place free. label: words at the left, turned by 90 degrees.

    on_top: whether the words above begin at one height, as methods' names with options below some of them; else they
    end at one.
    """

    cells: tuple[Cell | None, ...]
    label: tuple[Words, ...] = ()
    on_top: bool = False


def lines(comparison: Comparison) -> list[Line]:
    """The comparison as lines of at most ACROSS cells where it can be."""
    methods, rows = len(comparison.methods), len(comparison.rows)
    if rows == 1:
        row = comparison.rows[0]
        maps = [_map(comparison, row, i, above=_method(comparison, i)) for i in range(methods)]
        parts = _broken([_picture(comparison, row, with_target=True), *maps])
        return [replace(part, on_top=True) for part in parts]
    if methods == 1 and comparison.axis is not Axis.PICTURES:
        maps = [_map(comparison, row, 0, above=_row(comparison, row)) for row in comparison.rows]
        first = _picture(comparison, comparison.rows[0], with_target=_names_no_target(comparison))
        return _broken([first, *maps])
    differ = comparison.axis is Axis.PICTURES  # the pictures take a line, else the one picture takes a column
    across, down = rows + (not differ), methods + differ
    if methods < ACROSS or across > ACROSS or down > 2 * across:  # a longer one is no page
        return _methods_across(comparison)
    return _rows_across(comparison)


def _methods_across(comparison: Comparison) -> list[Line]:
    """A line for each row, the picture first; where all rows have the same picture, only once."""
    result = []
    for number, row in enumerate(comparison.rows):
        above = [_method(comparison, i) if number == 0 else () for i in range(len(comparison.methods))]
        maps = [_map(comparison, row, i, above=above[i]) for i in range(len(comparison.methods))]
        picture = None
        if number == 0 or comparison.axis is Axis.PICTURES:
            shown = _picture(comparison, row, with_target=number == 0 and _names_no_target(comparison))
            picture = shown if number == 0 else replace(shown, above=())
        result.append(Line((picture, *maps), _row(comparison, row), on_top=True))
    return result


def _rows_across(comparison: Comparison) -> list[Line]:
    """A line for each method, under a heading for each row; pictures that differ in a line of their own."""
    result = []
    headings = [_row(comparison, row) for row in comparison.rows]
    differ = comparison.axis is Axis.PICTURES
    if differ:
        pictures = [
            replace(_picture(comparison, row), above=h) for row, h in zip(comparison.rows, headings, strict=True)
        ]
        result.append(Line(tuple(pictures), (Words("input", size=USUAL),)))
    for i in range(len(comparison.methods)):
        first = i == 0 and not differ
        maps = [
            _map(comparison, row, i, above=h if first else ()) for row, h in zip(comparison.rows, headings, strict=True)
        ]
        picture = _picture(comparison, comparison.rows[0], with_target=_names_no_target(comparison)) if i == 0 else None
        result.append(Line(tuple(maps) if differ else (picture, *maps), _method(comparison, i)))
    return result


def _broken(cells: list[Cell]) -> list[Line]:
    """The cells in lines of three or four, whichever leaves fewer places free."""
    count = len(cells)
    across = count if count <= ACROSS else min((ACROSS - 1, ACROSS), key=lambda n: (-count % n, -n))
    parts = [cells[i : i + across] for i in range(0, count, across)]
    return [Line((*part, *[None] * (across - len(part)))) for part in parts]


def _names_no_target(comparison: Comparison) -> bool:
    """Whether the rows have one target, which is named below the picture."""
    return comparison.axis is Axis.LAYERS


def _method(comparison: Comparison, i: int) -> tuple[Words, ...]:
    """A method's name, and below it its options."""
    method = comparison.methods[i]
    return Words(method.name, size=USUAL), *map(Words, method.options)


def _row(comparison: Comparison, row: ComparisonRow) -> tuple[Words, ...]:
    """What sets a row apart, and below it the score of its target."""
    if comparison.axis is Axis.LAYERS:
        return (Words(row.name, size=USUAL, from_start=True),)
    if comparison.axis is Axis.MODELS:
        return Words(row.name, size=USUAL), *_target(comparison, row)
    return _target(comparison, row) or (Words(row.name),)


def _target(comparison: Comparison, row: ComparisonRow) -> tuple[Words, ...]:
    """The name of a row's target, and below it its score."""
    saliency = _any_of(row)
    if row.target is None or saliency is None:
        return ()
    number = comparison.target_name(row).removeprefix(row.target.name).strip()
    return Words(row.target.name, number), Words("", cautious_score(saliency))


def _picture(comparison: Comparison, row: ComparisonRow, *, with_target: bool = False) -> Cell:
    """The picture with what the model saw of it."""
    index, target = _slice(row), _target(comparison, row) if with_target else ()
    slices = () if index is None else (Words("slice", str(index)),)
    heading: tuple[Words, ...] = (Words("input", size=USUAL),)
    below = (*target, *slices)
    return Cell(_any_of(row), row.original, Shown.PICTURE, heading, below, index, comparison.boxes)


def _map(comparison: Comparison, row: ComparisonRow, method: int, *, above: tuple[Words, ...]) -> Cell:
    cell = row.maps[method]
    below = tuple(_value(comparison, row, cell, i) for i in range(len(comparison.metrics)))
    if cell.saliency is None:
        return Cell(_any_of(row), row.original, Shown.NOTHING, above, below, _slice(row))
    return Cell(cell.saliency, row.original, Shown.MAP, above, below, _slice(row), comparison.boxes)


def _any_of(row: ComparisonRow) -> Saliency | None:
    return next((cell.saliency for cell in row.maps if cell.saliency is not None), None)


def _value(comparison: Comparison, row: ComparisonRow, cell: ComparedMap, metric: int) -> Words:
    """A metric of a map; the best of a row stands out, and those that look the same, unless all do."""
    compared = comparison.metrics[metric]
    name, best = compared.name, compared.best
    value, numbers = _number(cell, name), [n for n in (_number(other, name) for other in row.maps) if n is not None]
    shown = dict(zip(numbers, shown_numbers(numbers, compared.unit), strict=True))
    words = Words(spoken(name), UNDEFINED, ARROWS[best], short=_shortened(name))
    if value is None:
        return words
    bold = False
    if best is not Best.NONE:
        leading = shown[max(numbers) if best is Best.HIGHEST else min(numbers)]
        bold = shown[value] == leading and len(set(shown.values())) > 1
    return replace(words, end=shown[value], bold=bold)


def _shortened(metric: str) -> str:
    """'average-drop:half' as 'AD, half'; nothing for a metric without a shorter name."""
    name, colon, protocol = metric.partition(":")
    short = SHORT.get(name.replace("-", "_"), "")
    return f"{short}, {protocol}" if short and colon else short


def _number(cell: ComparedMap, metric: str) -> float | None:
    return cell.metrics[metric].value if metric in cell.metrics else None


def shown_numbers(values: Sequence[float], unit: str = "") -> list[str]:
    """Three decimals, or one of a percentage and of a number of 10 and more.

    One or two more where that tells numbers apart which look the same.
    """
    few = [1 if unit or abs(value) >= 10 else 3 for value in values]
    shown = [[f"{value:.{n + more}f}{unit}" for value, n in zip(values, few, strict=True)] for more in range(3)]
    return max(shown, key=lambda texts: len(set(texts)))


def spoken(metric: str) -> str:
    """'average_drop:half' as 'average-drop, half'."""
    name, colon, protocol = metric.partition(":")
    word = name.upper() if name in ACRONYMS else name.replace("_", "-")
    return word + (f", {protocol}" if colon else "")


def _slice(row: ComparisonRow) -> int | None:
    """Of volumes, the index of the slice whose maps are largest together; None for others."""
    maps = [cell.saliency.map for cell in row.maps if cell.saliency is not None]
    if not maps or maps[0].ndim != 3:
        return None
    return int(sum(m.mean(axis=(1, 2), dtype=np.float64) for m in maps).argmax())
