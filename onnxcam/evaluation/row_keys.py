"""The keys of a picture's rows, known before anything is computed, so that a run can go on where it ended."""

import json
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from onnxcam.errors import PictureError, TargetError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.model_request import ModelIdentity, canonical_json, digest
from onnxcam.evaluation.options import DataTarget, EvaluationOptions, MapSource
from onnxcam.evaluation.other_maps import map_file
from onnxcam.evaluation.rows import RowKey
from onnxcam.evaluation.targets_of_data import label_of, number_of
from onnxcam.files import ARRAY, read_bytes
from onnxcam.limits import is_whole
from onnxcam.metrics.metric import Need
from onnxcam.metrics.registry import metric_named

CURVES = ("deletion", "insertion")
"""Metrics that take a step."""
OF_THE_MAP = ("label", "class", "map")
"""What options say of the map rather than of the metric."""
DIGITS = 16
"""Of a digest within a key."""


class RowMeaning(NamedTuple):
    """What a row measures: the map of a source by a metric. name: the metric's, as metric_named() takes it."""

    source: MapSource
    name: str


def row_keys(
    model: ModelIdentity, options: EvaluationOptions, item: DataItem, picture_sha256: str
) -> dict[RowKey, RowMeaning]:
    """The keys of a picture's rows where all goes well, in the order of the rows, with what each measures.

    Of maps in folders it reads the files, whose digest is part of the key.
    """
    of_picture, target = _of_picture(options, item), str(options.target)
    metrics = [(name, *metric_named(name), _of_metric(name, options, item)) for name in options.metrics]
    usual = [canonical_json({**of_picture, **of_metric}) for *_, of_metric in metrics]
    keys: dict[RowKey, RowMeaning] = {}
    for source in options.sources:
        texts = usual
        if source.folder is not None:
            of_map = {**of_picture, **_of_map(source.folder, item)}
            texts = [canonical_json({**of_map, **of_metric}) for *_, of_metric in metrics]
        for (name, metric, protocol, _), text in zip(metrics, texts, strict=True):
            key = RowKey(
                model.sha256, model.opening, item.key, picture_sha256, source.key, target, metric.name, protocol or "",
                text,
            )  # fmt: skip
            keys[key] = RowMeaning(source, name)
    return keys


def without_map(key: RowKey) -> RowKey:
    """The key of the row that stands in the place of this one where there is no map."""
    kept = {name: value for name, value in json.loads(key.options).items() if name in OF_THE_MAP}
    return replace(key, metric="", protocol="", options=canonical_json(kept))


def missing(keys: Sequence[RowKey], stored: Container[RowKey]) -> tuple[RowKey, ...]:
    """The keys whose rows are not stored, and for which no row says that there is no map."""
    return tuple(key for key in keys if key not in stored and without_map(key) not in stored)


def _of_picture(options: EvaluationOptions, item: DataItem) -> dict[str, Any]:
    """The label that is explained, where one is, so that a corrected label gives other rows."""
    if options.target is not DataTarget.LABEL:
        return {}
    try:
        label = label_of(item)
    except TargetError:
        return {"label": None}
    number = number_of(label, options.classes)
    return {"label": _plain(label)} if number is None else {"label": _plain(label), "class": number}


def _of_map(folder: Path, item: DataItem) -> dict[str, Any]:
    """The digest of a map of another tool; None where there is no file."""
    try:
        return {"map": digest(read_bytes(map_file(folder, item.key), ARRAY))[:DIGITS]}
    except PictureError:
        return {"map": None}


def _of_metric(name: str, options: EvaluationOptions, item: DataItem) -> dict[str, Any]:
    """The options that this metric reads."""
    metric, _ = metric_named(name)
    values: dict[str, Any] = {}
    if metric.name in CURVES and options.step is not None:
        values["step"] = options.step
    if Need.SEED in metric.needs:
        values["seed"] = options.seed
    if Need.BOX in metric.needs:
        # As text, which holds NaN and infinity too: the metric says what is wrong with such a box.
        boxes = [[*map(repr, map(float, b.box)), _plain(b.label), _number(b.label, options)] for b in item.boxes]
        values["boxes"] = digest(canonical_json(boxes))[:DIGITS]
    return values


def _plain(label: str | int | None) -> str | int | None:
    """The label with NumPy's whole numbers as Python's."""
    return int(label) if is_whole(label) else label


def _number(label: str | int | None, options: EvaluationOptions) -> int | None:
    return number_of(label, options.classes) if label is not None else None
