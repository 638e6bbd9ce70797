"""What the figures of a benchmark depend on: the time, the machine, the versions, and how busy the machine was."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from gradient_parts.timing import busy_elsewhere

from onnxcam.engine.session import available_threads
from onnxcam.versions import versions

PEERS = ("torch", "torchvision", "grad-cam", "torchcam", "muppet-xai")
"""Packages whose versions the figures depend on, beside those that onnxcam reports itself."""


def conditions() -> dict[str, Any]:
    """when, machine, system, python, versions by package, and gpus: what nvidia-smi says of each, if it is there."""
    installed = {d.name.lower(): d.version for d in distributions()}
    peers = {name: installed[name] for name in PEERS if name in installed}
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"), "machine": machine(),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "versions": {**versions(), **peers}, "gpus": gpus(),
    }  # fmt: skip


def gpus() -> list[str]:
    """Name, driver and memory of each GPU of NVIDIA; none without nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return []
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.splitlines() if done.returncode == 0 else []


def machine() -> str:
    """The processor's name and the cores that this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.processor() or platform.machine()}, {available_threads()} cores"


def others_share() -> Callable[[], float | None]:
    """Starts to watch. The function gives the share of the machine, 0 to 1, that other processes have taken since then.

    Programs that this one started and waited for are no others. None if the system does not report it.
    """
    busy, start = _elsewhere(), time.perf_counter()

    def share() -> float | None:
        elapsed = time.perf_counter() - start
        if not Path("/proc/stat").exists() or not elapsed:
            return None
        return min(1.0, max(0.0, (_elsewhere() - busy) / (elapsed * (os.cpu_count() or 1))))

    return share


def _elsewhere() -> float:
    """Processor seconds of all processes but this one and those that it waited for."""
    times = os.times()
    return busy_elsewhere() - times.children_user - times.children_system
