"""Evaluators for the tests of the Ray engine, which open no model: workers import them by name."""

import os
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam.errors import ModelError
from onnxcam.evaluation.dataset import DataItem
from onnxcam.evaluation.rows import ItemResult, Row, RowKey


@dataclass(frozen=True)
class FakeRequest:
    """As a ModelRequest. log: a file that gets a line for each picture that is begun."""

    model: Path
    log: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """As a ModelIdentity or a MapSource, as far as an engine reads them."""

    name: str = "model"
    key: str = "cam"
    title: str = "CAM"


@dataclass(frozen=True)
class FakeOptions:
    """As EvaluationOptions. seconds: of a picture. deadly, faulty: keys whose pictures kill the worker, or raise."""

    seconds: float = 0.0
    deadly: tuple[str, ...] = ()
    faulty: tuple[str, ...] = ()
    bytes_of_map: int = 0
    maps_folder: tuple[Path, ...] = ()
    sources: tuple[Named, ...] = (Named(),)


def keys(item: DataItem, picture_sha256: str) -> tuple[RowKey, ...]:
    return (RowKey("m", "o", item.key, picture_sha256, "cam", "prediction", "deletion", "", "{}"),)


@dataclass(frozen=True)
class FakeEvaluator:
    """The value of a row is the length of the picture's key."""

    request: FakeRequest
    options: FakeOptions
    identity: Named = field(default_factory=Named)

    def __post_init__(self) -> None:
        if self.request.model.read_bytes() == b"broken":
            raise ModelError(f"{self.request.model.name} is no model")

    def evaluate(self, item: DataItem, picture_sha256: str, only: Collection[RowKey] | None = None) -> ItemResult:
        with self.request.log.open("a") as log:
            log.write(f"{item.key} {os.getpid()} {time.time()} {self.request.arguments['threads']}\n")
        if item.key in self.options.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if item.key in self.options.faulty:
            raise ZeroDivisionError("a fault of the program")
        time.sleep(self.options.seconds)
        rows = tuple(Row(key, "model", "CAM", len(item.key)) for key in keys(item, picture_sha256))
        maps = {"CAM": np.zeros(self.options.bytes_of_map // 4, np.float32)} if self.options.bytes_of_map else {}
        return ItemResult(item.key, rows, maps)

    def close(self) -> None:
        pass
