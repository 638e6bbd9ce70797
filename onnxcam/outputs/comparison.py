"""Maps side by side: `Comparison`, what onnxcam.evaluation.comparison.compare() returns and figure.py draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from onnxcam.outputs.drawing import Original
from onnxcam.outputs.record import NOT_MEASURED, Measurements, plain, record
from onnxcam.outputs.saliency import Saliency, ScoredTarget
from onnxcam.types import Note

Box = tuple[float, float, float, float]


class Axis(StrEnum):
    """What the rows of a comparison differ in; its columns are the methods."""

    TARGETS = "targets"
    LAYERS = "layers"
    MODELS = "models"
    PICTURES = "pictures"


class Best(StrEnum):
    """Which value of a metric is the best of several."""

    HIGHEST = "highest"
    LOWEST = "lowest"
    NONE = "none"


@dataclass(frozen=True)
class ComparedMethod:
    """A method of a comparison. options: in words, those that differ from the defaults."""

    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.options)})" if self.options else self.name


@dataclass(frozen=True)
class ComparedMetric:
    """A metric under each map. name: as in ComparedMap.metrics, with its protocol where one was chosen.

    unit: '%' or none.
    """

    name: str
    best: Best = Best.NONE
    unit: str = ""


@dataclass(frozen=True, eq=False)
class ComparedMap:
    """The map of one method in one row. saliency: None where there is no map, for the reason in one sentence."""

    saliency: Saliency | None
    reason: str | None = None
    metrics: Measurements = field(default_factory=lambda: NOT_MEASURED)


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One target of one picture, explained by one model at one layer, by every method.

    name: what sets the row apart: a target, a layer, a model or a picture. picture: the picture's path or name.
    original: what was explained, as the drawings take it. target: what was scored; None where no method has a map.
    maps: one a method.
    """

    name: str
    picture: str
    original: Original
    target: ScoredTarget | None
    maps: tuple[ComparedMap, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of several methods, row by row. passes: forward passes and steps that were made, metrics included.

    seconds: duration of the comparison, without opening the models that the caller opened. boxes: of the object, as a
    person drew them, (left, top, right, bottom) in the pixels of a target's box. notes: on the comparison; those on a
    map are in its provenance.
    """

    axis: Axis
    methods: tuple[ComparedMethod, ...]
    rows: tuple[ComparisonRow, ...]
    metrics: tuple[ComparedMetric, ...] = ()
    passes: int = 0
    seconds: float = 0.0
    boxes: tuple[Box, ...] = ()
    notes: tuple[Note, ...] = ()

    def target_name(self, row: ComparisonRow) -> str:
        """The name of a row's target, with its number where another row has no label for it; '' without any map."""
        targets = [one.target for one in self.rows if one.target is not None and one.target.kind == "classes"]
        target = row.target
        if target is None or target.label is None or all(one.label is not None for one in targets):
            return target.name if target is not None else ""
        return f"{target.name} ({target.index})"


def comparison_record(comparison: Comparison, outputs: Sequence[Path | str] = ()) -> dict[str, Any]:
    """The comparison in plain JSON values.

    maps: the record of each map with its metrics, row by row, as record() makes it. undefined: the method, the row and
    the reason of each map that there is none of. outputs: the files of the figure. notes: on the comparison as a whole.
    """
    cells = [
        (row, method, cell)
        for row in comparison.rows
        for method, cell in zip(comparison.methods, row.maps, strict=True)
    ]
    values: Mapping[str, Any] = {
        "axis": comparison.axis,
        "methods": [str(method) for method in comparison.methods],
        "rows": [row.name for row in comparison.rows],
        "maps": [record(c.saliency, metrics=c.metrics) for _, _, c in cells if c.saliency is not None],
        "undefined": [
            {"row": row.name, "image": row.picture, "method": str(method), "reason": c.reason}
            for row, method, c in cells
            if c.saliency is None
        ],
        "passes": comparison.passes,
        "seconds": comparison.seconds,
        "outputs": list(outputs),
        "notes": comparison.notes,
    }
    return {key: plain(value) for key, value in values.items()}
