"""Medians of samples in which other processes took next to nothing of the machine."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.04
"""Of the machine, what other processes may take in a sample that counts."""
SHORTEST = 0.3
"""Seconds of a sample; the system counts in hundredths."""
Case = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """seconds of each case, as samples; others: the largest share of the machine that other processes had in one."""

    seconds: dict[str, list[float]]
    others: float

    def median(self, case: str) -> float:
        return statistics.median(self.seconds[case])

    def ratio(self, above: str, below: str) -> float:
        return self.median(above) / self.median(below)

    def note(self) -> str:
        times = ", ".join(f"{case} {1000 * self.median(case):.4g} ms" for case in self.seconds)
        fewest = min(len(s) for s in self.seconds.values())
        return f"{times}; {fewest} samples each, others took {self.others:.0%} at most"


def samples(cases: dict[str, Case], count: int, patience: float) -> Times:
    """Rounds over the cases, until each has `count` quiet samples or `patience` seconds are over: then the quietest.

    What comes first in a process is not counted.
    """
    for case in cases.values():
        case()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    start = time.perf_counter()
    while open_ := [name for name in cases if sum(share <= QUIET for share, _ in found[name]) < count]:
        if time.perf_counter() - start > patience and all(len(found[name]) >= count for name in cases):
            break
        for name in open_:
            found[name].append(sample(cases[name]))
    kept = {name: sorted(taken)[:count] for name, taken in found.items()}
    others = max(share for taken in kept.values() for share, _ in taken)
    return Times({name: [seconds for _, seconds in taken] for name, taken in kept.items()}, others)


def sample(case: Case) -> tuple[float, float]:
    """What others took of the machine meanwhile, and seconds a call; short cases are called several times."""
    busy, start, calls = busy_elsewhere(), time.perf_counter(), 0
    while time.perf_counter() - start < SHORTEST:
        case()
        calls += 1
    elapsed = time.perf_counter() - start
    share = (busy_elsewhere() - busy) / (elapsed * (os.cpu_count() or 1))
    return max(0.0, share), elapsed / calls


def busy_elsewhere() -> float:
    """Processor seconds that the machine has spent on other processes; 0 where the system does not tell."""
    try:
        numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = numbers
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()
