"""Times of cases that take turns, by samples during which other processes took next to nothing of the machine."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.04
"""The share of the machine that other processes may take in a quiet sample."""
SHORTEST = 0.3
"""Seconds that a sample takes at least, because the system counts processor time in hundredths."""
Case = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """seconds: the samples of each case; others: the largest share of the machine that other processes took in one."""

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
    """Samples the cases in turn until each has `count` quiet samples, or until `patience` seconds are over.

    The `count` quietest samples of each case count. A first call of each case does not.
    """
    for case in cases.values():
        case()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    start = time.perf_counter()
    while open_ := [name for name in cases if sum(share <= QUIET for share, _ in taken[name]) < count]:
        if time.perf_counter() - start > patience and all(len(taken[name]) >= count for name in cases):
            break
        for name in open_:
            taken[name].append(sample(cases[name]))
    quietest = {name: sorted(pairs)[:count] for name, pairs in taken.items()}
    others = max(share for pairs in quietest.values() for share, _ in pairs)
    return Times({name: [seconds for _, seconds in pairs] for name, pairs in quietest.items()}, others)


def sample(case: Case) -> tuple[float, float]:
    """(share of the machine that other processes took, seconds a call). A short case is called several times."""
    busy, start, calls = busy_elsewhere(), time.perf_counter(), 0
    while time.perf_counter() - start < SHORTEST:
        case()
        calls += 1
    elapsed = time.perf_counter() - start
    share = (busy_elsewhere() - busy) / (elapsed * (os.cpu_count() or 1))
    return max(0.0, share), elapsed / calls


def busy_elsewhere() -> float:
    """Processor seconds that the machine has spent on other processes; 0 if the system does not report it."""
    try:
        numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *interrupts = numbers
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - time.process_time()
