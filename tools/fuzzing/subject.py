"""What a kind of input is to the fuzzer: how its cases are made, what runs on them, and within which bounds."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fuzzing.kept import Bounds, Check, Files

Rng = random.Random


@dataclass(frozen=True)
class Case:
    """Files with their changes in words. origin: the name of the seed. must_answer: an error would be a failure too."""

    origin: str
    files: Files = field(repr=False)
    changes: tuple[str, ...] = ()
    must_answer: bool = False


@dataclass(frozen=True)
class Subject:
    """make: the case of a random generator, from the seeds. seeds: made once. start: called in each process."""

    name: str
    seeds: Callable[[], dict[str, Files]]
    make: Callable[[Rng, dict[str, Files]], Case]
    check: Check
    bounds: Bounds = Bounds()  # noqa: RUF009 - frozen
    start: Callable[[], None] | None = None


SUBJECTS: dict[str, Subject] = {}


def subject(one: Subject) -> Subject:
    """Adds it to the table, under its name."""
    SUBJECTS[one.name] = one
    return one
