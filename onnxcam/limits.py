"""How much a file may cost: `Limits`, one value for the library and the command line.

Pictures and models come from strangers. What they claim (sides, numbers of frames, shapes, sizes of weights) is checked
before it is read, and every run of a model has a deadline. An error says what was found, the limit, and what raises it.
"""

import math
import time
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypeGuard

from onnxcam.errors import OptionError, TimedOut

OPTIONS = {"pixels": "--max-pixels", "seconds": "--timeout", "memory": "--max-memory"}
"""The option of the command line that sets a limit; the others are set in Python only."""
WORK = 16
"""Times the limit of pixels that a decoder may go through for a picture that it makes smaller, or for a long clip."""
LONGEST = 10**8
"""Seconds that a limit may have: three years, which the clocks of all systems can add."""
BYTES_A_PIXEL = 24
"""Of an array or of a file's bands: three doubles."""


def is_number(value: object) -> bool:
    """Whether this is a real number, of Python or NumPy, that a float holds; False for bool, NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except (OverflowError, ValueError):  # a whole number of hundreds of digits
        return False


def is_whole(value: object, least: int | None = None) -> TypeGuard[int]:
    """Whether this is a whole number, of Python or NumPy, of at least `least`; False for bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and (least is None or int(value) >= least)


def brief(value: object) -> str:
    """A value as messages have it: in one line, cut where it is long; in words for a number too long for Python."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 120 else f"{text[:120]}..."


def check_limits(limits: object) -> None:
    """Raises OptionError for what are no Limits."""
    if not isinstance(limits, Limits):
        raise OptionError(f"limits is Limits(...), not {brief(limits)} ({type(limits).__name__})")


@dataclass(frozen=True)
class Limits:
    """What one picture or model may take; None means no limit. Raises OptionError for a limit that is not positive.

    pixels: of a picture, width times height, and of all frames of a clip that are kept; the default holds what medium
    formats and satellites take. A larger JPEG is read at a fraction of its size. seconds: of one forward pass, for each
    picture in it, of reading a model and of opening it; only an endless loop takes as long as the default. memory:
    bytes of a model's weights, and of any one tensor that it computes for one picture. nodes: of a graph, functions
    inlined and loops unrolled. depth: of functions that call functions.
    """

    pixels: int | None = 2**27
    seconds: float | None = 120.0
    memory: int | None = 8 * 2**30
    nodes: int | None = 50_000
    depth: int | None = 32

    def __post_init__(self) -> None:
        for name in ("pixels", "memory", "nodes", "depth"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise OptionError(
                    f"the limit {name} is a whole number from 1 on, or None for no limit, not {brief(value)}"
                )
        seconds = self.seconds
        if seconds is not None and not (is_number(seconds) and 0 < seconds <= LONGEST):
            raise OptionError(
                f"the limit seconds is a number above 0 and up to {LONGEST:,}, or None for no limit, "
                f"not {brief(seconds)}"
            )

    def begin(self, what: str) -> "Limits":
        """These limits for work that begins now and may take the seconds in all, runs included. what: "opening ..."."""
        if self.seconds is None:
            return self
        end = time.monotonic() + self.seconds
        return TimedLimits(self.pixels, self.seconds, self.memory, self.nodes, self.depth, end, what)

    def check(self) -> None:
        """Raises TimedOut where begin() gave these limits and the time is over. Cheap: for every round of a loop."""

    @property
    def lasting(self) -> "Limits":
        """These limits for what outlives the work that has begun."""
        return self

    def seconds_of_run(self, pictures: int) -> float | None:
        """What a forward pass of so many pictures may take from now on; None for no limit."""
        return None if self.seconds is None else self.seconds * pictures

    def exceeded(self, name: str, amount: float) -> bool:
        """Whether the amount is above the limit of this name."""
        limit = getattr(self, name)
        return limit is not None and amount > limit

    def way_out(self, name: str, factor: int = 1) -> str:
        """The end of a message: the limit of this name, times the factor, and what raises it."""
        limit = getattr(self, name) * factor
        shown = f"{limit:g} s" if name == "seconds" else amount_of(limit) if name == "memory" else f"{limit:,} {name}"
        option = f"{OPTIONS[name]} or " if name in OPTIONS else ""
        return f"the limit is {f'{limit:,}' if name == 'depth' else shown}; raise it with {option}Limits({name}=...)"


@dataclass(frozen=True)
class TimedLimits(Limits):
    """Limits of work that has begun, as Limits.begin() gives them. end: by time.monotonic(). what: for the message."""

    end: float = math.inf
    what: str = ""

    def begin(self, what: str) -> Limits:
        """These: a part of the work has no time of its own."""
        return self

    def check(self) -> None:
        """Raises TimedOut."""
        if time.monotonic() >= self.end:
            raise TimedOut(f"{self.what} took more than {self.seconds:g} s and was given up; {self.way_out('seconds')}")

    @property
    def lasting(self) -> Limits:
        """Without the end."""
        return Limits(self.pixels, self.seconds, self.memory, self.nodes, self.depth)

    def seconds_of_run(self, pictures: int) -> float | None:
        """No more than what is left."""
        whole = super().seconds_of_run(pictures)
        return None if whole is None else max(0.0, min(whole, self.end - time.monotonic()))


SAFE = Limits()
"""The defaults."""


def amount_of(size: int) -> str:
    """Bytes as people read them: 1.5 GiB."""
    value, units = float(min(size, 2**99)), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"
