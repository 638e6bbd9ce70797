"""The gallery of the report: which pictures it shows, and all that it says of them, as plain values for JSON."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.errors import OnnxCamError
from onnxcam.evaluation.collection import Collection, Column, Explained, Measure, MethodRuns, Setup, State
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.map_files import PictureMaps
from onnxcam.evaluation.report_pictures import EmbeddedPicture, embed_map, embed_picture, reduced
from onnxcam.evaluation.similarity import map_spearman
from onnxcam.inputs.sources import name_of
from onnxcam.metrics.metric import Better

CHOSEN = 0.75
"""The share of a sample that is worst, best or disagreeing; the rest is drawn at random."""
LARGE, SMALL, MANY = 560, 400, 60
"""Pixels of a picture's longer side, for a gallery of up to MANY pictures and for a larger one."""
COMPARED_SIDE = 28
"""Pixels of a map when it is compared with others."""
CURVE_SCALE = 1000
"""A score of a curve is written as a whole number of thousandths."""


MapsOf = Callable[[Setup, str, str], PictureMaps | None]
"""Gives the maps that were kept of a picture (its key, the SHA-256 of its file) in a setup; None where none were."""


def sampled(collection: Collection, most: int, seed: int = 0) -> list[int]:
    """The numbers of the pictures that a gallery shows: all of them, or `most`.

    Three quarters of a sample are the worst and the best of each method by each measure, and those on which the methods
    disagree most: the first of each of these lists, then the second, and so on. The others are drawn at random.
    """
    count = len(collection.pictures)
    if count <= most:
        return list(range(count))
    chosen: dict[int, None] = {}
    for picture in (place for places in zip_longest(*_extremes(collection)) for place in places if place is not None):
        if len(chosen) >= CHOSEN * most:
            break
        chosen[int(picture)] = None
    others = [i for i in range(count) if i not in chosen]
    drawn = random.Random(seed).sample(others, most - len(chosen))
    return sorted([*chosen, *drawn])


def _extremes(collection: Collection) -> Iterator[list[int]]:
    """Lists of pictures, the most extreme first: disagreements, then worst and best of each column."""
    baselines = {(runs.setup, runs.method) for runs in collection.methods if runs.baseline}
    columns = [column for column in collection.columns if (column.setup, column.method) not in baselines]
    for setup, measure in dict.fromkeys((column.setup, column.measure) for column in columns):
        spread = spreads([c.values for c in columns if (c.setup, c.measure) == (setup, measure)])
        yield _ordered(-spread)
    for column in columns:
        sign = -1 if column.measure.better is Better.LOWER else 1
        yield _ordered(sign * column.values)
        yield _ordered(-sign * column.values)


def _ordered(values: Any) -> list[int]:
    """Places of the numbers, the lowest first, without NaN."""
    order = np.argsort(values, kind="stable")
    return [int(i) for i in order if not np.isnan(values[i])]


def spreads(values: Sequence[Any]) -> Any:
    """(n,) by how much the largest of the methods' values is above the smallest; NaN where fewer than two have one."""
    table = np.stack(values)
    counts = (~np.isnan(table)).sum(axis=0)
    filled = np.where(np.isnan(table), -np.inf, table).max(axis=0) - np.where(np.isnan(table), np.inf, table).min(
        axis=0
    )
    return np.where(counts >= 2, filled, np.nan)


def gallery(
    collection: Collection, shown: Sequence[int], items: Mapping[str, DataItem], maps_of: MapsOf | None
) -> list[dict[str, Any]]:
    """The pictures, as plain values. items: by key; a picture without one, or that cannot be read, has no image."""
    side = LARGE if len(shown) <= MANY else SMALL
    tables = {setup: collection.table(setup) for setup in collection.setups}
    return [_picture(collection, tables, i, items.get(collection.pictures[i]), side, maps_of) for i in shown]


Table = Mapping[tuple[str, Measure], Column]


def _picture(
    collection: Collection,
    tables: Mapping[Setup, Table],
    i: int,
    item: DataItem | None,
    side: int,
    maps_of: MapsOf | None,
) -> dict[str, Any]:
    image, why = _image(item.path if item else None, side)
    return {
        "key": collection.pictures[i], "group": item.group if item else "", "why": why,
        "image": image and {"source": image.source, "width": image.width, "height": image.height},
        "results": [_result(collection, setup, tables[setup], i, maps_of) for setup in collection.setups],
    }  # fmt: skip


def _image(path: Path | None, side: int) -> tuple[EmbeddedPicture | None, str]:
    """The picture, or why there is none."""
    if path is None:
        return None, "the file of this picture was not given to the report"
    try:
        return embed_picture(path, side), ""
    except OnnxCamError as error:
        # Whoever reads the report has other folders. The message begins with the path, without its middle where long.
        _, name, rest = str(error).partition(name_of(path)[-80:])
        return None, f"{path.name}{rest}" if name else str(error)


def _result(
    collection: Collection, setup: Setup, table: Table, i: int, maps_of: MapsOf | None
) -> dict[str, Any] | None:
    """What one model gave for a picture; None where it was not measured."""
    explained = collection.explained[setup][i]
    if explained is None:
        return None
    methods, measures = collection.methods_of(setup), collection.measures(setup)
    cells = [[table.get((runs.method, measure)) for measure in measures] for runs in methods]
    kept, why = _kept(maps_of, setup, collection.pictures[i], collection.sha256[i])
    return {
        "label": None if explained.label is None else str(explained.label),
        "target": target_name(explained), "probability": _rounded(explained.probability), "agrees": agrees(explained),
        "values": [[_rounded(float(c.values[i])) if c is not None else None for c in row] for row in cells],
        "reasons": _texts((m, k, c.reasons[i]) for m, k, c in _with_columns(cells) if i in c.reasons),
        "failed": [f"{m},{k}" for m, k, column in _with_columns(cells) if _failed(column, i)],
        "errors": {str(m): runs.errors[i] for m, runs in enumerate(methods) if i in runs.errors},
        "curves": _curves(cells, i), "maps": _maps(methods, kept), "mapsWhy": why,
        "unlike": _unlike(methods, kept),
    }  # fmt: skip


def _kept(maps_of: MapsOf | None, setup: Setup, picture: str, sha256: str) -> tuple[PictureMaps | None, str]:
    """The maps, or why they cannot be shown; neither where none were kept."""
    try:
        return (maps_of(setup, picture, sha256) if maps_of is not None else None), ""
    except OnnxCamError as error:
        return None, str(error)


def _with_columns(cells: Sequence[Sequence[Column | None]]) -> Iterator[tuple[int, int, Column]]:
    for m, row in enumerate(cells):
        yield from ((m, k, column) for k, column in enumerate(row) if column is not None)


def _failed(column: Column, i: int) -> bool:
    """Whether the metric of a map ended in an error, which has its reason."""
    return bool(column.states[i] == State.ERROR) and i in column.reasons


def _texts(cells: Iterator[tuple[int, int, str]]) -> dict[str, str]:
    return {f"{m},{k}": text for m, k, text in cells}


def _curves(cells: Sequence[Sequence[Column | None]], i: int) -> dict[str, list[int | None]]:
    """By 'method,measure': the scores at GRID in thousandths, None where the curve does not reach."""
    return {
        f"{m},{k}": [None if np.isnan(score) else round(float(score) * CURVE_SCALE) for score in column.curves[i]]
        for m, k, column in _with_columns(cells)
        if column.curves is not None and not np.isnan(column.curves[i]).all()
    }


def _maps(methods: Sequence[MethodRuns], kept: PictureMaps | None) -> dict[str, Any]:
    """By the method's number."""
    embedded = {}
    for m, runs in enumerate(methods):
        if kept is not None and runs.name in kept.maps:
            one = embed_map(kept.maps[runs.name], kept.placements.get(runs.name))
            if one is not None:
                embedded[str(m)] = {"source": one.source, "box": one.box}
    return embedded


def _unlike(methods: Sequence[MethodRuns], kept: PictureMaps | None) -> float | None:
    """1 less the mean Spearman correlation of all pairs of the methods' maps; None with fewer than two."""
    names = [runs.name for runs in methods if not runs.baseline]
    maps = [kept.maps[name] for name in names if name in kept.maps] if kept is not None else []
    small = [reduced(one, COMPARED_SIDE) for one in maps if one.ndim == 2]
    pairs = [map_spearman(*pair) for pair in combinations(small, 2) if pair[0].shape == pair[1].shape]
    defined = [value for value in pairs if value is not None]
    return _rounded(1 - sum(defined) / len(defined)) if defined else None


def target_name(explained: Explained) -> str:
    """The class that was explained, as people read it."""
    if explained.target_name:
        return explained.target_name
    return "" if explained.target_index is None else f"class {explained.target_index}"


def agrees(explained: Explained) -> bool | None:
    """Whether the class that was explained is the data's label; None where one of them is unknown."""
    label, index, name = explained.label, explained.target_index, explained.target_name
    if label is None or (index is None and name is None):
        return None
    if isinstance(label, int):
        return label == index
    return _folded(label) in (_folded(name or ""), str(index))


def _folded(text: str) -> str:
    return text.replace("_", " ").strip().casefold()


def _rounded(value: float | None, digits: int = 5) -> float | None:
    """To significant digits; None for NaN."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.{digits}g}")
