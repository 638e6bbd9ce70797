"""Compiled files with the product's own maps of one picture, for the hosts that run them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from small_models import CLASSIFIER, filled

import onnxcam
from onnxcam.compiler.compiled import Compiled
from onnxcam.inputs.presets import PRESETS

METHODS = ("grad-cam", "recipro-cam", "eigen-cam", "score-cam")
TARGETS = (-1, 2)
"""The prediction, and another class."""
PICTURE = np.random.default_rng(8).integers(0, 256, (37, 29, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class HostCase:
    """compiled: the file. feeds: its inputs but the target. maps, classes: of an Explainer, for each of TARGETS."""

    compiled: Compiled
    feeds: dict[str, np.ndarray]
    maps: tuple[np.ndarray, ...]
    classes: tuple[int, ...]

    def check(self, number: int, saliency: np.ndarray, explained: int, tolerance: float) -> None:
        """Asserts that a host's answer for TARGETS[number] is the product's."""
        assert explained == self.classes[number]
        assert saliency.shape == self.maps[number].shape
        assert np.abs(saliency - self.maps[number]).max() <= tolerance
        assert np.ptp(self.maps[number]) == 1, "the map says something"


@cache
def host_case(method: str, *, raw: bool) -> HostCase:
    """A small classifier, whose images are resized bilinearly, explained by a method."""
    model, preset = filled(CLASSIFIER), PRESETS["imagenet"]
    compiled = onnxcam.compile(model, method, raw=raw, preset=preset)
    with onnxcam.Explainer(model, method, preset=preset, providers=["cpu"]) as explain:
        image = explain.prepare(PICTURE)
        expected = explain.explain(PICTURE, [None, *TARGETS[1:]])
    assert compiled.interface.image is not None or raw
    feeds = {"picture": PICTURE} if raw else {"x": image.image[None]}
    return HostCase(compiled, feeds, tuple(s.map for s in expected), tuple(s.target.index for s in expected))
