"""Rows and results of an evaluation that never ran, for tests of what stores, sums up and shows them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxcam.evaluation.rows import ItemResult, Row, RowKey

MODEL, OPENING = "a" * 64, "b" * 64
METHODS, METRICS = ("grad-cam", "score-cam"), (("deletion", "zero"), ("insertion", "blur"), ("road", ""))


def key_of(
    picture: str, method: str = "grad-cam", metric: str = "deletion", protocol: str = "zero", **changed: Any
) -> RowKey:
    """The key of a row. changed: other fields of RowKey."""
    sha256 = hashlib.sha256(picture.encode("utf-8", "surrogatepass")).hexdigest()
    key = RowKey(MODEL, OPENING, picture, sha256, method, "prediction", metric, protocol, "{}")
    return dataclasses.replace(key, **changed)


def keys_of(picture: str, methods: Sequence[str] = METHODS, **changed: Any) -> tuple[RowKey, ...]:
    """The keys of every method and metric of a picture."""
    return tuple(key_of(picture, method, *metric, **changed) for method in methods for metric in METRICS)


def row_of_key(key: RowKey, **changed: Any) -> Row:
    """A row with numbers that are no others'. changed: fields of Row."""
    number = int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) / 7
    curve = np.linspace((0, number), (1, 0), 5, dtype=np.float32) if key.metric in ("deletion", "insertion") else None
    row = Row(
        key, "tiny.onnx", key.method.title(), number, curve=curve, label="cat", target_index=3, target_name="tabby",
        probability=0.25, passes=12, seconds=0.5, method_passes=7, method_seconds=1.5,
    )  # fmt: skip
    return dataclasses.replace(row, **changed)


def result_of(keys: Sequence[RowKey]) -> ItemResult:
    return ItemResult(keys[0].picture, tuple(row_of_key(key) for key in keys))


def plain_row(row: Row) -> tuple[Any, ...]:
    """All of a row as values that compare; a curve with its type."""
    values = [getattr(row, field.name) for field in dataclasses.fields(row)]
    return tuple((str(v.dtype), v.tolist()) if isinstance(v, np.ndarray) else v for v in values)
