"""How each method of families.py is compiled. batch_methods.py and loop_methods.py hold the builders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from onnxcam.compiler.batch_methods import BATCH_METHODS
from onnxcam.compiler.families import Family
from onnxcam.compiler.loop_methods import LOOP_METHODS
from onnxcam.compiler.prepared import Prepared
from onnxcam.methods.blocks import Method
from onnxcam.methods.registry import method
from onnxcam.surgeon.ir import Model

Build = Callable[[Prepared], Model]
"""Gives the graph with the tensors of interface.py; raises CompileError where the options or the model do not fit."""


@dataclass(frozen=True)
class Compilable:
    """How a method is compiled.

    most: the largest numbers of options with which the finished file is compared with an Explainer. A longer method is
    compared as a shorter one: a sum of thousands of masks takes minutes, and a search ends elsewhere for one rounding.
    tolerance: the largest difference of a map; None for the usual one.
    """

    family: Family
    build: Build
    most: Mapping[str, int] = field(default_factory=dict)
    tolerance: float | None = None

    def estimates(self, chosen: Method) -> bool:
        """Whether the file estimates a map, which is then compared with the exact one."""
        return chosen.options.get("budget") is not None

    def compared(self, chosen: Method) -> Method:
        """The method that is compared in place of the chosen one, which may be that one."""
        shorter = {name: min(number, chosen.options[name]) for name, number in self.most.items()}
        options = {**chosen.options, **shorter}
        if self.estimates(chosen):
            options["budget"] = None
        return chosen if options == dict(chosen.options) else method(chosen.name, **options)


SHORTER: Mapping[str, Mapping[str, int]] = {"integrated-gradients": {"steps": 40}}
"""Compilable.most of batch methods."""
COMPILABLE: Mapping[str, Compilable] = {
    **{name: Compilable(Family.BATCH, build, SHORTER.get(name, {})) for name, build in BATCH_METHODS.items()},
    **{name: Compilable(Family.LOOP, *entry) for name, entry in LOOP_METHODS.items()},
}
"""The methods that can be compiled, by name."""
