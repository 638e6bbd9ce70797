"""`RunRecord`: what was run, for summary.json and the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunRecord:
    """What made the rows.

    command: as it was typed; empty from the library. started, finished: ISO 8601 with the zone; finished is empty for
    a run that was stopped. engine: 'local' or 'ray', and how many workers. versions: of the packages, by name. data,
    format: name and reader of the data set. options: of the evaluation, by name, as plain values. openings: how each
    RowKey.opening opened its model, as plain values. skipped: what of the data was left out, and why. source: that of
    the DataSet.
    """

    command: str = ""
    started: str = ""
    finished: str = ""
    engine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    format: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    openings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
