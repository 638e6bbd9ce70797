"""The rows of an evaluation as columns: `collect` reads them once, whatever their number, into a few small arrays.

A column is one metric of one method, a number for each picture. summary.py makes means of them, report.py draws them.
"""

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from onnxcam.errors import OptionError
from onnxcam.evaluation.model_request import canonical_json
from onnxcam.evaluation.rows import Row
from onnxcam.metrics.baselines import BASELINES
from onnxcam.metrics.metric import Better
from onnxcam.metrics.registry import METRICS
from onnxcam.types import Doubles, Floats

GRID = np.linspace(0, 1, 41)
"""Shares of the pixels at which curves are kept, so that curves of other steps have a mean."""
TINY = 1e-5
"""Of a share, by which one of float32 is off."""
REASONS = 1000
"""Different texts of reasons that are kept for each column, at most."""
OF_THE_PICTURE = ("boxes", "map", "label", "class")
"""Options of a row that say what is in its picture, so that they differ between rows of one measure."""


class State(IntEnum):
    """What a column has of a picture."""

    MISSING = 0
    VALUE = 1
    UNDEFINED = 2
    ERROR = 3


@dataclass(frozen=True)
class Setup:
    """A model as it was opened, and what of it is explained. The fields are those of RowKey."""

    model: str
    opening: str
    target: str


@dataclass(frozen=True)
class Measure:
    """A metric with its protocol and options, as RowKey has them but for what belongs to one picture."""

    metric: str
    protocol: str
    options: str = ""

    @property
    def name(self) -> str:
        """As it is requested: 'deletion:zero', 'road'."""
        return f"{self.metric}:{self.protocol}" if self.protocol else self.metric

    @property
    def better(self) -> Better:
        """Which values speak for a map; NEITHER for a metric that METRICS lacks."""
        return METRICS[self.metric].better if self.metric in METRICS else Better.NEITHER


@dataclass(frozen=True, eq=False)
class Column:
    """One metric of one method in one setup.

    values: (n,) for the pictures of the Collection, NaN where there is none. states: (n,) of State. reasons: why there
    is no value, by the number of the picture. curves: (n,41) the score at GRID, NaN where there is none; None where
    none was collected.
    """

    setup: Setup
    method: str
    measure: Measure
    values: Doubles
    states: npt.NDArray[np.uint8]
    reasons: Mapping[int, str]
    curves: Floats | None = None

    def count(self, state: State) -> int:
        return int((self.states == state).sum())


@dataclass(frozen=True, eq=False)
class MethodRuns:
    """What a method did in one setup. name: as people read it. baseline: a map that knows nothing of the model.

    states: (n,) of State, without UNDEFINED: whether there was a map. errors: by the number of the picture. seconds,
    passes: (n,) of each map, NaN where there is none.
    """

    setup: Setup
    method: str
    name: str
    baseline: bool
    states: npt.NDArray[np.uint8]
    errors: Mapping[int, str]
    seconds: Doubles
    passes: Doubles


@dataclass(frozen=True)
class Explained:
    """What was explained of one picture in one setup, as Row has it."""

    label: str | int | None
    target_index: int | None
    target_name: str | None
    probability: float | None


@dataclass(frozen=True, eq=False)
class Collection:
    """All rows.

    pictures: keys in the order of the rows; sha256: of their files. setups: with the model's name. methods: in the
    order of the rows. columns: of each method one for every measure of its setup, without a value too. explained: by
    setup, for each picture; None where it was not measured. rows: how many.
    """

    pictures: tuple[str, ...]
    sha256: tuple[str, ...]
    setups: Mapping[Setup, str]
    methods: tuple[MethodRuns, ...]
    columns: tuple[Column, ...]
    explained: Mapping[Setup, tuple[Explained | None, ...]]
    rows: int

    def measures(self, setup: Setup) -> tuple[Measure, ...]:
        return tuple(dict.fromkeys(column.measure for column in self.columns if column.setup == setup))

    def methods_of(self, setup: Setup) -> tuple[MethodRuns, ...]:
        return tuple(method for method in self.methods if method.setup == setup)

    def table(self, setup: Setup) -> dict[tuple[str, Measure], Column]:
        """The columns of a setup, by method and measure."""
        return {(column.method, column.measure): column for column in self.columns if column.setup == setup}


def collect(rows: Iterable[Row], *, curves: bool = False) -> Collection:
    """Reads the rows once. curves: whether those of the metrics are kept too, 41 numbers each.

    A row without a metric says why a method has no map; one without a method, too, says it of every method. Raises
    OptionError for two rows of one key, whose numbers cannot both count.
    """
    building = _Building(curves)
    for row in rows:
        building.add(row)
    return building.collection()


@dataclass
class _Cells:
    """A column as it grows."""

    pictures: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    states: bytearray = field(default_factory=bytearray)
    reasons: dict[int, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    curves: dict[int, Floats] = field(default_factory=dict)


@dataclass
class _Runs:
    name: str
    errors: dict[int, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    passes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Place:
    """Where the rows of one setup, method and measure go. cells: None for rows without a metric."""

    setup: Setup
    explained: dict[int, Explained]
    runs: _Runs | None
    cells: _Cells | None


class _Building:
    def __init__(self, curves: bool) -> None:
        self.curves = curves
        self.rows = 0
        self.pictures: dict[tuple[str, str], int] = {}
        self.setups: dict[Setup, str] = {}
        self.runs: dict[tuple[Setup, str], _Runs] = {}
        self.cells: dict[tuple[Setup, str, Measure], _Cells] = {}
        self.explained: dict[Setup, dict[int, Explained]] = {}
        self.broken: dict[Setup, dict[int, str]] = {}
        self.places: dict[tuple[str, ...], _Place] = {}

    def add(self, row: Row) -> None:
        key, self.rows = row.key, self.rows + 1
        options = shared_options(key.options)
        parts = (key.model, key.opening, key.target, key.method, key.metric, key.protocol, options)
        place = self.places.get(parts) or self.places.setdefault(parts, self._place(row))
        picture = self.pictures.setdefault((key.picture, key.picture_sha256), len(self.pictures))
        before = place.explained.get(picture)
        if before is None or (before.target_index is None and row.target_index is not None):
            place.explained[picture] = Explained(row.label, row.target_index, row.target_name, row.probability)
        if place.runs is None:
            self.broken.setdefault(place.setup, {})[picture] = row.error or row.reason or "no map"
        elif place.cells is None:
            place.runs.errors[picture] = row.error or row.reason or "no map"
        else:
            place.runs.seconds[picture], place.runs.passes[picture] = row.method_seconds, row.method_passes
            self._measure(place.cells, picture, row)

    def _place(self, row: Row) -> _Place:
        key = row.key
        setup = Setup(key.model, key.opening, key.target)
        self.setups.setdefault(setup, row.model_name)
        explained = self.explained.setdefault(setup, {})
        if not key.method:
            return _Place(setup, explained, None, None)
        runs = self.runs.setdefault((setup, key.method), _Runs(row.method_name))
        measure = Measure(key.metric, key.protocol, shared_options(key.options))
        cells = self.cells.setdefault((setup, key.method, measure), _Cells()) if key.metric else None
        return _Place(setup, explained, runs, cells)

    def _measure(self, cells: _Cells, picture: int, row: Row) -> None:
        cells.pictures.append(picture)
        finite = row.value is not None and math.isfinite(row.value)
        cells.values.append(row.value if row.value is not None and finite else np.nan)
        state = State.VALUE if finite else State.ERROR if row.error else State.UNDEFINED
        cells.states.append(state)
        if state is not State.VALUE:
            gave = "no reason was given" if row.value is None else f"{row.value} is no finite number"
            text = row.error or row.reason or gave
            key = text if len(cells.texts) < REASONS else "another reason"
            cells.reasons[picture] = cells.texts.setdefault(key, key)
        if self.curves and row.curve is not None:
            cells.curves[picture] = on_grid(row.curve)

    def collection(self) -> Collection:
        explained = {
            setup: tuple(self.explained[setup].get(i) for i in range(len(self.pictures))) for setup in self.setups
        }
        return Collection(
            tuple(key for key, _ in self.pictures), tuple(sha for _, sha in self.pictures), dict(self.setups),
            tuple(self._method(*place) for place in self.runs), tuple(self._columns()),
            explained, self.rows,
        )  # fmt: skip

    def _method(self, setup: Setup, method: str) -> MethodRuns:
        runs, count = self.runs[setup, method], len(self.pictures)
        states = np.zeros(count, np.uint8)
        states[list(runs.seconds)] = State.VALUE
        errors = {**self.broken.get(setup, {}), **runs.errors}
        states[list(errors)] = State.ERROR
        return MethodRuns(
            setup, method, runs.name, method in BASELINES, states, errors, _spread(runs.seconds, count),
            _spread(runs.passes, count),
        )  # fmt: skip

    def _columns(self) -> Iterator[Column]:
        """Every measure of a setup of each of its methods, so that a method whose maps all failed is not left out."""
        measures: dict[Setup, dict[Measure, None]] = {}
        for setup, _, measure in self.cells:
            measures.setdefault(setup, {})[measure] = None
        for setup, method in self.runs:
            for measure in measures.get(setup, {}):
                yield self._column(setup, method, measure)

    def _column(self, setup: Setup, method: str, measure: Measure) -> Column:
        cells, count = self.cells.get((setup, method, measure), _Cells()), len(self.pictures)
        places = np.asarray(cells.pictures, np.int64)  # not frombuffer, which some releases refuse of nothing
        if len(np.unique(places)) != len(places):
            twice = int(np.argmax(np.bincount(places)))
            picture = tuple(self.pictures)[twice][0]
            raise OptionError(
                f"{measure.name} of {method} has two rows for the picture {picture}; give each row of a key once"
            )
        values, states = np.full(count, np.nan), np.zeros(count, np.uint8)
        values[places], states[places] = np.asarray(cells.values), np.asarray(cells.states, np.uint8)
        errors = [*self.broken.get(setup, {}), *self.runs[setup, method].errors]
        states[[i for i in errors if states[i] == State.MISSING]] = State.ERROR
        curves = None
        if cells.curves:
            curves = np.full((count, len(GRID)), np.nan, np.float32)
            curves[list(cells.curves)] = np.stack(list(cells.curves.values()))
        return Column(setup, method, measure, values, states, dict(cells.reasons), curves)


@lru_cache(maxsize=65536)
def shared_options(options: str) -> str:
    """The options of a row, as JSON, without those OF_THE_PICTURE."""
    if not any(f'"{name}"' in options for name in OF_THE_PICTURE):
        return options if options != "{}" else ""
    kept = {name: value for name, value in json.loads(options).items() if name not in OF_THE_PICTURE}
    return canonical_json(kept) if kept else ""


def on_grid(curve: Floats) -> Floats:
    """The score of a curve (M,2) at GRID, (41,), by straight lines between its points; NaN outside of them."""
    shares = curve[:, 0]
    inside = (shares[0] - TINY <= GRID) & (shares[-1] + TINY >= GRID)
    return np.where(inside, np.interp(GRID, shares, curve[:, 1]), np.nan).astype(np.float32)


def _spread(numbers: Mapping[int, float], count: int) -> Doubles:
    values = np.full(count, np.nan)
    values[list(numbers)] = list(numbers.values())
    return values
