"""What an opening learnt about a model, stored for the next one: tensor shapes, how it batches, the fastest run plan.

A record is a small JSON file in the user's cache folder. Its name is a hash of everything that it depends on; weights
are never stored. Each record is checked when it is read: a damaged one counts as none. The environment variable
ONNXCAM_CACHE names another folder, or 'off'. opening.py reads and writes the records.
"""

import hashlib
import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from onnxcam.engine.parallel import RunPlan
from onnxcam.engine.session import MOST_THREADS, available_threads
from onnxcam.surgeon.analysis.tracing import Trace
from onnxcam.types import BatchMode
from onnxcam.versions import versions

FORMAT = 3
"""To be raised whenever the same file and options give another trace, so that records of before are not read."""
LARGEST = 2**24
"""Bytes of a record; larger ones are not stored."""
logger = logging.getLogger(__name__)
Record = TypeVar("Record")


@dataclass(frozen=True)
class ModelRecord:
    """trace: of the model with its branches taken. mode, reason: how images are batched, as BatchSupport has them."""

    trace: Trace
    mode: BatchMode
    reason: str


def folder() -> Path | None:
    """Where records are stored; None if ONNXCAM_CACHE turns the cache off."""
    chosen = os.environ.get("ONNXCAM_CACHE")
    if chosen is not None and chosen.lower() in ("", "off", "0"):
        return None
    return Path(chosen) if chosen else user_cache_path("onnxcam", appauthor=False)


def key(*parts: str) -> str:
    """Name of a record: a hash of the parts, and of the versions of the packages that wrote it."""
    texts = [str(FORMAT), *parts, *(f"{name}={number}" for name, number in versions().items())]
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def machine() -> str:
    """The machine that a run plan is measured on: the processor's name, and the cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()}, {available_threads()} cores"


def load(name: str) -> ModelRecord | None:
    """The record of a model; None if there is none, or if it is damaged."""
    return _load(name, _model_record)


def load_plan(name: str) -> RunPlan | None:
    """The measured plan; None if there is none, or if its record is damaged."""
    return _load(name, _run_plan)


def store(name: str, model: ModelRecord) -> None:
    """Writes the record at once or not at all. A folder that cannot be written to is only logged."""
    trace = model.trace
    record = {
        "shapes": {k: list(v) for k, v in trace.shapes.items()},
        "values": {k: _to_json(v) for k, v in trace.values.items()},
        "taken": dict(trace.taken),
        "mode": model.mode,
        "reason": model.reason,
    }
    _store(name, record)


def store_plan(name: str, plan: RunPlan) -> None:
    """Writes a measured plan, as store() writes a model's record."""
    _store(name, asdict(plan))


def _model_record(data: Any) -> ModelRecord:
    shapes = {str(k): tuple(int(d) for d in v) for k, v in data["shapes"].items()}
    values = {str(k): _array(v) for k, v in data["values"].items()}
    taken = {str(k): bool(v) for k, v in data["taken"].items()}
    return ModelRecord(Trace(shapes, values, taken), BatchMode(data["mode"]), str(data["reason"]))


def _run_plan(data: Any) -> RunPlan:
    plan = RunPlan(*(int(data[name]) for name in ("threads", "parallel", "batch")))
    if not all(1 <= n <= MOST_THREADS for n in (plan.threads, plan.parallel, plan.batch)):
        raise ValueError(f"out of range: {plan}")
    return plan


def _load(name: str, parse: Callable[[Any], Record]) -> Record | None:
    directory = folder()
    if directory is None:
        return None
    try:
        return parse(json.loads((directory / f"{name}.json").read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        logger.info("cache: the record %s is not usable (%s)", name, error)
        return None


def _store(name: str, record: Mapping[str, Any]) -> None:
    directory = folder()
    if directory is None:
        return
    text = json.dumps(record)
    if len(text) > LARGEST:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, delete=False) as file:
            file.write(text)
        os.replace(file.name, directory / f"{name}.json")
    except OSError as error:
        logger.info("cache: %s cannot be written (%s)", directory, error)


def _to_json(array: npt.NDArray[np.generic]) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes().hex()}


def _array(data: dict[str, Any]) -> npt.NDArray[np.generic]:
    dtype = np.dtype(str(data["dtype"]))
    if dtype.hasobject:
        raise ValueError("a record holds numbers only")
    return np.frombuffer(bytes.fromhex(data["data"]), dtype).reshape([int(d) for d in data["shape"]])
