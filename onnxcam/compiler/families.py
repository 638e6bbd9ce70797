"""Which methods can be compiled, and how each of them runs. registry.py has the builders; here nothing loads onnx."""

from collections.abc import Mapping
from enum import StrEnum

from onnxcam.errors import CompileError


class Family(StrEnum):
    """How a compiled method runs."""

    BATCH = "batch"
    """No loop over pictures: any number of images and targets in one run, as far as the model takes them."""
    LOOP = "loop"
    """One image a run, for any number of targets; a Loop scores masks or searches."""


FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(
        (
            "grad-cam", "grad-cam++", "layer-cam", "hires-cam", "xgrad-cam", "cam", "ablation-cam", "recipro-cam",
            "eigen-cam", "gradient", "integrated-gradients", "guided-backprop",
        ),
        Family.BATCH,
    ),
    **dict.fromkeys(("score-cam", "opti-cam", "mask", "rise"), Family.LOOP),
}  # fmt: skip
"""The family of each method that can be compiled, by name."""


def check_compilable(name: str) -> None:
    """Raises CompileError for the name of a method that cannot be compiled; it lists those that can be."""
    if name not in FAMILIES:
        raise CompileError(f"{name} cannot be compiled; what can: {', '.join(FAMILIES)}")
