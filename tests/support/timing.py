"""How a call's time grows with the size of its task."""

import gc
import time
from collections.abc import Callable

RUNS = 5


def growth(call: Callable[[int], object], n: int) -> float:
    """Processor time of call(n) over that of call(n // 2), the best of several runs each.

    About 2 for work in proportion to n, about 4 for work in proportion to its square.
    """
    times: dict[int, list[float]] = {n // 2: [], n: []}
    gc.disable()  # else the objects of other tests are walked through, the more often the more are made here
    try:
        for _ in range(RUNS):
            for size, seconds in times.items():
                start = time.process_time()
                call(size)
                seconds.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(times[n]) / min(times[n // 2])
