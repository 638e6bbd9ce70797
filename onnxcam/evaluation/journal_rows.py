"""Rows as a Journal's file has them: the SQL that writes and reads them, and the way from a Row to values and back."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.evaluation.rows import Row, RowKey

VALUES = (
    "value", "reason", "note", "error", "curve", "label", "target_index", "target_name", "probability", "passes",
    "seconds", "method_passes", "method_seconds", "transient",
)  # fmt: skip
"""Columns of a row, in the order of values_of()."""
UPSERT = (
    f"INSERT INTO rows (picture, setting, {', '.join(VALUES)}) VALUES (?, ?{', ?' * len(VALUES)}) "
    f"ON CONFLICT (picture, setting) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in VALUES)} "
    f"WHERE rows.error IS NOT NULL"
)
"""A row without an error stays as it was first measured."""
_COLUMNS = (
    "SELECT models.sha256, models.opening, pictures.key, pictures.sha256, settings.method, settings.target, "
    "settings.metric, settings.protocol, settings.options, models.name, settings.method_name, "
    f"{', '.join(f'rows.{name}' for name in VALUES)} "
)
_OF_RUN = (
    "FROM run_pictures CROSS JOIN plan_settings ON plan_settings.plan = run_pictures.plan "
    "CROSS JOIN {table} ON {table}.picture = run_pictures.picture AND {table}.setting = plan_settings.setting "
)  # CROSS JOIN keeps this order of loops, in which nothing has to be sorted
_NAMED = (
    "JOIN settings ON settings.id = {table}.setting JOIN models ON models.id = settings.model "
    "JOIN pictures ON pictures.id = {table}.picture"
)
SELECT = f"{_COLUMNS} FROM rows {_NAMED.format(table='rows')}"
ORDER = " ORDER BY rows.id"
SELECT_RUN = f"{_COLUMNS} {_OF_RUN.format(table='rows')} {_NAMED.format(table='rows')}"
ORDER_RUN = " ORDER BY run_pictures.position, plan_settings.place"
_MAP_COLUMNS = (
    "SELECT maps.file, models.sha256, models.opening, pictures.key, pictures.sha256, settings.target, settings.options "
)
SELECT_MAPS = f"{_MAP_COLUMNS} FROM maps {_NAMED.format(table='maps')}"
SELECT_MAPS_OF_RUN = f"{_MAP_COLUMNS} {_OF_RUN.format(table='maps')} {_NAMED.format(table='maps')}"
NAN = "nan"
"""SQLite makes NULL of NaN, which would be an undefined metric."""


def plain(text: str) -> str:
    """The text with what UTF-8 lacks, such as bytes of a file's name that are no text, escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def values_of(row: Row) -> tuple[Any, ...]:
    """The values of VALUES. NumPy's numbers would be stored as bytes, so all are made Python's."""
    curve = None if row.curve is None else np.ascontiguousarray(row.curve, "<f4").tobytes()
    return (
        _real(row.value), _text(row.reason), _text(row.note), _text(row.error), curve,
        _text(row.label) if isinstance(row.label, str) else _whole(row.label), _whole(row.target_index),
        _text(row.target_name), _real(row.probability), int(row.passes), float(row.seconds), int(row.method_passes),
        float(row.method_seconds), int(row.transient),
    )  # fmt: skip


def row_of(values: Sequence[Any]) -> Row:
    """The Row of what SELECT gives."""
    value, reason, note, error, curve, label, index, name, probability, *counts = values[11:]
    points = None if curve is None else np.frombuffer(curve, "<f4").reshape(-1, 2).astype(np.float32)
    passes, seconds, method_passes, method_seconds, transient = counts
    return Row(
        RowKey(*values[:9]), values[9], values[10], _number(value), reason, note, error, points, label, index, name,
        _number(probability), passes, seconds, method_passes, method_seconds, bool(transient),
    )  # fmt: skip


def _text(value: str | None) -> str | None:
    return None if value is None else plain(value)


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _real(value: float | None) -> float | str | None:
    if value is None:
        return None
    return NAN if math.isnan(value) else float(value)


def _number(value: Any) -> float | None:
    return math.nan if value == NAN else value
