"""What the benchmarks share: turns taken in rounds, a peer's missing import, and a process' own peak of memory."""

import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path


def interleaved(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each case, one after another in every round; a first round is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(repeats + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if round_:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def stand_in_for_torchvision() -> None:
    """pytorch-grad-cam imports torchvision for helpers that ScoreCAM does not use; a CPU torch may lack it."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.ops"):
            stand_in = types.ModuleType(name)
            for attribute in ("Compose", "Normalize", "ToTensor", "resize"):
                setattr(stand_in, attribute, None)
            sys.modules[name] = stand_in


def peak() -> float:
    """Megabytes at the peak of this program; Linux' ru_maxrss begins with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))) / 1024
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
