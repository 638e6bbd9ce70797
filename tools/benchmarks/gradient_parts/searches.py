"""Opti-CAM on one image, step by step: the library's search, and the same search in PyTorch."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from torch_models import Step, mask_of, opti_cam

from gradient_parts.subjects import THREADS, lite0
from onnxcam import Explainer
from onnxcam.inputs.bundled import pictures
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Convention
from onnxcam.methods.opti_cam import CoefficientSearch, Settings
from onnxcam.network.probe import ImageProbe
from onnxcam.types import Floats, Score

STEPS, RATE = 100, 0.2
MAIN = ("onnxcam", "PyTorch 2 threads")
PAIRS = (("PyTorch 1 thread", "PyTorch 2 threads"), ("PyTorch 2 threads", "float64"), ("onnxcam", "float64"))


@dataclass(frozen=True)
class TargetedImage:
    """A preprocessed image (C,H,W), and its predicted class. name: of the picture's file."""

    name: str
    image: Floats
    target: int

    def tensor(self, precision: torch.dtype) -> torch.Tensor:
        """The image as (1,C,H,W)."""
        return torch.from_numpy(np.array(self.image))[None].to(precision)


def targeted_images(explain: Explainer, folder: Path | None, count: int) -> list[TargetedImage]:
    """At most `count` images: the bundled pictures first, then the folder's."""
    endings = (".jpg", ".jpeg", ".png")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings) if folder is not None else []
    chosen = [*pictures().values(), *files][:count]
    images = [(p.name, explain.prepare(p).image) for p in chosen]
    return [TargetedImage(name, image, int(logits(explain, image).argmax())) for name, image in images]


def logits(explain: Explainer, image: Floats) -> npt.NDArray[np.float64]:
    """(classes,) of the unmasked image."""
    network = explain._heads.first.network
    return network.forward(network.feeds(image, None, {}))[1]


def probe_of(explain: Explainer, subject: TargetedImage) -> ImageProbe:
    """The probe that the explainer's method would get."""
    (forward,) = explain._forward(subject.image).results.values()
    return explain._pipeline.resolve(forward, [subject.target], None).probe


@dataclass(frozen=True, eq=False)
class RecordingProbe(ImageProbe):
    """A probe that records each step's mask (h,w) and its score."""

    steps: list[tuple[npt.NDArray[np.float64], float]] = field(default_factory=list, kw_only=True)

    def score_gradient(self, maps: Floats, *arguments: Any) -> tuple[Floats, Floats]:
        scores, gradient = super().score_gradient(maps, *arguments)
        self.steps.append((maps[0, 0].astype(np.float64), float(scores[0])))
        return scores, gradient


def library_search(
    explain: Explainer, subject: TargetedImage, *, epsilon: float = 1e-8, score: Score = Score.LOGIT,
    bounds: tuple[float, float] | None = None,
) -> list[Step]:  # fmt: skip
    """Every step of the library's search, recorded at its probe (masks, scores) and at its Adam (coefficients)."""
    settings = Settings(
        convention=Convention.CONSTRUCTIVE, score=score, max_iter=STEPS, lr=RATE, starts=1, bounds=bounds,
        tolerance=0.0, epsilon=epsilon, seed=0,
    )  # fmt: skip
    plain = probe_of(explain, subject)
    probe = RecordingProbe(**{f.name: getattr(plain, f.name) for f in fields(ImageProbe)})
    coefficients_of_steps = [np.full(len(probe.features), np.clip(0.0, *bounds) if bounds is not None else 0.0)]
    original = Adam.step

    def step(self: Adam, *arguments: Any) -> npt.NDArray[np.float64]:
        u = original(self, *arguments)
        coefficients_of_steps.append(u[0] if bounds is None else np.clip(u[0], *bounds))
        return u

    with patch.object(Adam, "step", step):
        CoefficientSearch(settings)(probe)
    return [Step(u, mask, value) for u, (mask, value) in zip(coefficients_of_steps, probe.steps, strict=True)]


def torch_search(subject: TargetedImage, precision: torch.dtype, threads: int, epsilon: float = 1e-8) -> list[Step]:
    """Every step of the same search in PyTorch."""
    network, image = lite0(precision), subject.tensor(precision)
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            features = network.features(image)[0]
        return list(opti_cam(network, image, features, subject.target, steps=STEPS, rate=RATE, epsilon=epsilon))
    finally:
        torch.set_num_threads(THREADS)


def all_searches(explain: Explainer, subject: TargetedImage, epsilon: float) -> dict[str, list[Step]]:
    """The steps of the library's search and of three in PyTorch, by name."""
    return {
        "onnxcam": library_search(explain, subject, epsilon=epsilon),
        "PyTorch 1 thread": torch_search(subject, torch.float32, 1, epsilon),
        "PyTorch 2 threads": torch_search(subject, torch.float32, THREADS, epsilon),
        "float64": torch_search(subject, torch.float64, 1, epsilon),
    }


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def map_difference(a: Step, b: Step) -> float:
    """The largest difference between the two masks, normalised to [0,1]."""
    one, other = (mask_of(torch.from_numpy(s.mask)[None, None]) for s in (a, b))
    return float((one - other).abs().max())
