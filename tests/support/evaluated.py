"""Rows of an evaluation, made by hand."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from onnxcam.evaluation.rows import Row, RowKey

MODEL, OPENING = "a" * 64, "0" * 16


def row(
    picture: str,
    method: str,
    metric: str,
    value: float | None,
    *,
    model: str = "small",
    protocol: str = "",
    **other: Any,
) -> Row:
    """One row. other: fields of Row, and `opening`, `target` and `options` of RowKey."""
    target, options = other.pop("target", "prediction"), other.pop("options", "")
    opening = other.pop("opening", OPENING)
    sha = model[0] * 64
    key = RowKey(sha, opening, picture, f"sha of {picture}", method, target, metric, protocol, options)
    return Row(key, model, other.pop("method_name", method), value, **other)


def rows(values: Mapping[str, Mapping[str, list[float | None]]], **other: Any) -> Iterator[Row]:
    """values: of each method, of each metric, a number for each picture, named 0.jpg and so on."""
    for method, metrics in values.items():
        for metric, numbers in metrics.items():
            for i, value in enumerate(numbers):
                reason = None if value is not None else "the map is constant"
                name, _, protocol = metric.partition(":")
                yield row(f"{i}.jpg", method, name, value, protocol=protocol, reason=reason, **other)


def curve(scores: list[float]) -> Any:
    """(M,2) at equal distances from 0 to 1."""
    return np.stack([np.linspace(0, 1, len(scores)), scores], axis=1).astype(np.float32)
