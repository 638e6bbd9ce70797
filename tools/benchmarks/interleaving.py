"""What several benchmarks share: cases timed in turn, a stand-in for a peer's missing import, and peak memory."""

import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path


def interleaved(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each case. Every round runs all cases once; a first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(repeats + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if round_:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def stand_in_for_torchvision() -> None:
    """Puts empty modules in place of torchvision where it cannot be imported, as beside some CPU builds of torch.

    pytorch-grad-cam imports it for helpers that ScoreCAM does not use.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.ops"):
            stand_in = types.ModuleType(name)
            for attribute in ("Compose", "Normalize", "ToTensor", "resize"):
                setattr(stand_in, attribute, None)
            sys.modules[name] = stand_in


def peak() -> float:
    """Peak memory of this process in megabytes. /proc is preferred: Linux' ru_maxrss starts at the parent's size."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
