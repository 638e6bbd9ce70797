"""What an evaluation measures, as values: `Row`, one number, and `ItemResult`, all that one picture gave."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxcam.types import Floats, Map


@dataclass(frozen=True)
class RowKey:
    """What makes a row one of a kind: the same key is never measured again and never stored twice.

    model: the SHA-256 of the model's file; opening: of how it was opened (layer, preset, size, output and the rest).
    picture: the DataItem's key; picture_sha256: of its file. method: 'grad-cam', with its options that are no defaults
    as JSON behind it; or a baseline, or the name of the folder of another tool's maps. target: as it was asked for.
    metric and protocol: as METRICS names them; metric is empty in the row that says why there is no map. options: as
    JSON, what else changes the number: the step, the seed and a digest of the boxes, of metrics that read them; the
    data's label, where that is explained; a digest of another tool's map.
    """

    model: str
    opening: str
    picture: str
    picture_sha256: str
    method: str
    target: str
    metric: str
    protocol: str
    options: str


@dataclass(frozen=True, eq=False)
class Row:
    """One metric of one map of one picture.

    value: None where the metric is undefined (reason says why), or where the map or the metric could not be computed
    (error says why). transient: an error of time or memory, which another try or other limits may not have. curve:
    (M,2), the fraction of the pixels and the score there. model_name, method_name: as people read them. target_index,
    target_name, probability: what was explained; None where nothing was. label: the picture's class in the data.
    passes: forward passes that the metric takes alone; seconds: that it took here, where others may have made its
    passes. method_passes, method_seconds: of the map, with what methods share counted once for each.
    """

    key: RowKey
    model_name: str
    method_name: str
    value: float | None = None
    reason: str | None = None
    note: str | None = None
    error: str | None = None
    curve: Floats | None = None
    label: str | int | None = None
    target_index: int | None = None
    target_name: str | None = None
    probability: float | None = None
    passes: int = 0
    seconds: float = 0.0
    method_passes: int = 0
    method_seconds: float = 0.0
    transient: bool = False


@dataclass(frozen=True, eq=False)
class ItemResult:
    """All rows of one picture by one model; the unit of work, of a transaction, and of what is computed again.

    item: the DataItem's key. maps: by method_name, (H,W) in [0,1], where maps are kept, with their placement on the
    picture in `placements` and, in `map_keys`, without_map() of their rows' keys. errors of a picture are rows, never
    exceptions.
    """

    item: str
    rows: tuple[Row, ...]
    maps: Mapping[str, Map] = field(default_factory=dict)
    placements: Mapping[str, Any] = field(default_factory=dict)
    map_keys: Mapping[str, RowKey] = field(default_factory=dict)
    seconds: float = 0.0
