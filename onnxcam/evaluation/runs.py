"""What a journal says of the runs that wrote it, as values."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from onnxcam.evaluation.run_record import RunRecord


class RunState(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """By a signal, an error, or whoever took its rows."""
    KILLED = "killed"
    """It ended without a word; the next run that writes the journal says so."""


@dataclass(frozen=True)
class Run:
    """One call of evaluate(). number: as Journal.rows() takes it."""

    number: int
    state: RunState
    record: RunRecord


@dataclass(frozen=True)
class KeptMaps:
    """A file of maps, for map_files.read_maps(). The other fields are those of RowKey without a metric.

    A picture may have several: its maps of other tools lie in files of their own.
    """

    file: Path
    model: str
    opening: str
    picture: str
    picture_sha256: str
    target: str
    options: str
