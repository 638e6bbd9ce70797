"""What a metric is, as data: `Metric`, a row of the table in registry.py, and `MetricInputs`, what a row measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy.typing as npt

from onnxcam.metrics.measurement import Measurement
from onnxcam.types import Image, Map, Placement, Progress

if TYPE_CHECKING:
    from onnxcam.metrics.scorer import Scorer

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels, with 0 at the outer edge of the first pixel."""
Boxes = Box | Sequence[Box]
"""One box, or several of one object's class, whose union counts."""
Explain = Callable[[Image], Map]
"""Gives the map (*size) of an image (C,*size), by the method that is measured, for the same target."""


class Better(StrEnum):
    """Which values of a metric speak for a map."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Need(StrEnum):
    """What a metric needs beside the map."""

    SCORER = "scorer"
    """The model, as a Scorer of the picture and the target."""
    BOX = "box"
    """The object's box."""
    EXPLAIN = "explain"
    """The method, to explain another image."""
    SEED = "seed"
    """Numbers drawn at random."""


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """What is measured, and what a metric may need for it.

    saliency_map: (*size) of any tool. scorer: of one target. box: one or several, in pixels of the upright picture
    where there is a placement, else of the model's input. placement: where the map lies on the picture; a Saliency and
    a Scorer have it. step: pixels a step of a curve; None takes the metric's default. seed: of metrics that draw
    numbers.
    """

    saliency_map: npt.ArrayLike
    scorer: "Scorer | None" = None
    box: Boxes | None = None
    placement: Placement | None = None
    explain: Explain | None = None
    step: int | None = None
    seed: int = 0
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Metric:
    """A row of METRICS.

    name: as in records. title: for tables. better: which values speak for a map. range: the values it takes, as text.
    source: the papers. protocols: how it can be measured, the default first; empty where there is one way without a
    name. cost: forward passes, as text. run: measures under a protocol (None where there are none); it is called only
    with all of `needs`. unit: of the value, '%' or none. meaning: what is measured, in one clause.
    """

    name: str
    title: str
    better: Better
    range: str
    source: str
    needs: frozenset[Need]
    cost: str
    run: Callable[[MetricInputs, str | None], Measurement]
    protocols: tuple[str, ...] = ()
    unit: str = ""
    meaning: str = ""
