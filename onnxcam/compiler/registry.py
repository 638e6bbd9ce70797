"""Which methods can be compiled, by the builder of each. batch_methods.py and loop_methods.py hold the tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.loop_methods import LOOP_METHODS
from onnxcam.compiler.prepared import Prepared
from onnxcam.errors import CompileError
from onnxcam.surgeon.ir import Model

Build = Callable[[Prepared], Model]
"""Gives the graph with the tensors of interface.py; raises CompileError where the options or the model do not fit."""


class Family(StrEnum):
    """How a compiled method runs."""

    BATCH = "batch"
    """No loop over pictures: any number of images and targets in one run, as far as the model takes them."""
    LOOP = "loop"
    """One image a run, for any number of targets; a Loop scores masks or searches."""


@dataclass(frozen=True)
class Compilable:
    """How a method is compiled."""

    family: Family
    build: Build


COMPILABLE: Mapping[str, Compilable] = {
    **{name: Compilable(Family.BATCH, build) for name, build in BATCH_METHODS.items()},
    **{name: Compilable(Family.LOOP, build) for name, build in LOOP_METHODS.items()},
}
"""The methods that can be compiled, by name."""


def compilable(name: str) -> Compilable:
    """How the method of that name is compiled. Raises CompileError, which lists the methods that can be."""
    if name not in COMPILABLE:
        raise CompileError(f"{name} cannot be compiled; what can: {', '.join(COMPILABLE)}")
    return COMPILABLE[name]
