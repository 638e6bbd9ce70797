"""What was found out about a model, kept for the next start, never its weights: its shapes, how it batches, its pace.

A record is a small JSON file under the user's cache folder, named by the hash of everything that it depends on. A
damaged or unreadable record is no record; ONNXCAM_CACHE names another folder, or 'off'.
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
from onnxcam.versions import versions

FORMAT = 2
MODES = ("dynamic", "rewritten", "looped")
LARGEST = 2**24
"""Bytes of a record; what is larger is not kept."""
logger = logging.getLogger(__name__)
Record = TypeVar("Record")


@dataclass(frozen=True)
class Known:
    """trace: of the model with its branches taken. mode, reason: how pictures are batched."""

    trace: Trace
    mode: str
    reason: str


def folder() -> Path | None:
    """Where records are kept; None if they are not."""
    chosen = os.environ.get("ONNXCAM_CACHE")
    if chosen is not None and chosen.lower() in ("", "off", "0"):
        return None
    return Path(chosen) if chosen else user_cache_path("onnxcam", appauthor=False)


def key(*parts: str) -> str:
    """The record's name: of the given parts and of the versions of what made it."""
    found = [str(FORMAT), *parts, *(f"{name}={number}" for name, number in versions().items())]
    return hashlib.sha256("\0".join(found).encode("utf-8", "surrogatepass")).hexdigest()


def machine() -> str:
    """What a pace is measured on: the processor's name, and the cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()}, {available_threads()} cores"


def load(name: str) -> Known | None:
    """The record, None if there is none or it cannot be understood."""
    return _load(name, _known)


def load_plan(name: str) -> RunPlan | None:
    """The measured pace, None if there is none or it cannot be understood."""
    return _load(name, _pace)


def store(name: str, known: Known) -> None:
    """Written whole or not at all; a folder that cannot be written to is only logged."""
    trace = known.trace
    record = {
        "shapes": {k: list(v) for k, v in trace.shapes.items()},
        "values": {k: _plain(v) for k, v in trace.values.items()},
        "taken": dict(trace.taken),
        "mode": known.mode,
        "reason": known.reason,
    }
    _store(name, record)


def store_plan(name: str, plan: RunPlan) -> None:
    """As store()."""
    _store(name, asdict(plan))


def _known(found: Any) -> Known:
    shapes = {str(k): tuple(int(d) for d in v) for k, v in found["shapes"].items()}
    values = {str(k): _array(v) for k, v in found["values"].items()}
    taken = {str(k): bool(v) for k, v in found["taken"].items()}
    if found["mode"] not in MODES:
        raise ValueError(f"mode {found['mode']!r}")
    return Known(Trace(shapes, values, taken), str(found["mode"]), str(found["reason"]))


def _pace(found: Any) -> RunPlan:
    plan = RunPlan(*(int(found[name]) for name in ("threads", "parallel", "batch")))
    if not all(1 <= n <= MOST_THREADS for n in (plan.threads, plan.parallel, plan.batch)):
        raise ValueError(f"out of range: {plan}")
    return plan


def _load(name: str, read: Callable[[Any], Record]) -> Record | None:
    place = folder()
    if place is None:
        return None
    try:
        return read(json.loads((place / f"{name}.json").read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        logger.info("cache: the record %s is not usable (%s)", name, error)
        return None


def _store(name: str, record: Mapping[str, Any]) -> None:
    place = folder()
    if place is None:
        return
    text = json.dumps(record)
    if len(text) > LARGEST:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=place, delete=False) as file:
            file.write(text)
        os.replace(file.name, place / f"{name}.json")
    except OSError as error:
        logger.info("cache: %s cannot be written (%s)", place, error)


def _plain(array: npt.NDArray[np.generic]) -> dict[str, Any]:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": array.tobytes().hex()}


def _array(found: dict[str, Any]) -> npt.NDArray[np.generic]:
    dtype = np.dtype(str(found["dtype"]))
    if dtype.hasobject:
        raise ValueError("a record holds numbers only")
    return np.frombuffer(bytes.fromhex(found["data"]), dtype).reshape([int(d) for d in found["shape"]])
