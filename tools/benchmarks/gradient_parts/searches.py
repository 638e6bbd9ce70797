"""Opti-CAM on a picture, step by step: the library's, and the same one written in PyTorch."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from benchmark import THREADS
from torch_models import Step, mask_of, opti_cam

from gradient_parts.subjects import lite0
from onnxcam import Explainer
from onnxcam.inputs.bundled import pictures
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Convention
from onnxcam.methods.opti_cam import Settings, coefficients
from onnxcam.network.probe import PictureProbe
from onnxcam.types import Floats, Score

STEPS, RATE = 100, 0.2
MAIN = ("onnxcam", "PyTorch 2 threads")
PAIRS = (("PyTorch 1 thread", "PyTorch 2 threads"), ("PyTorch 2 threads", "float64"), ("onnxcam", "float64"))


@dataclass(frozen=True)
class RunLimits:
    """A picture as both sides take it, and its predicted class."""

    name: str
    image: Floats
    target: int

    def tensor(self, precision: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.array(self.image))[None].to(precision)


def asked(explain: Explainer, folder: Path | None, count: int) -> list[RunLimits]:
    """The embedded pictures first, then the folder's."""
    endings = (".jpg", ".jpeg", ".png")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in endings) if folder is not None else []
    chosen = [*pictures().values(), *found][:count]
    prepared = [(p.name, explain.prepare(p).image) for p in chosen]
    return [RunLimits(name, image, int(predicted(explain, image).argmax())) for name, image in prepared]


def predicted(explain: Explainer, image: Floats) -> npt.NDArray[np.float64]:
    network = explain._networks.first.network
    return network.forward(network.feeds(image, None, {}))[1]


def probe_of(explain: Explainer, picture: RunLimits) -> PictureProbe:
    """What the explainer's method would see."""
    network, inquiry = explain._networks.of(explain._networks.default), explain._inquiry
    answer = inquiry.forward(network, explain.prepare(picture.image), {})
    return inquiry.ask(network, answer, [picture.target], None).probe


@dataclass(frozen=True, eq=False)
class Watched(PictureProbe):
    """seen: each step's mask (h,w) and its score."""

    seen: list[tuple[npt.NDArray[np.float64], float]] = field(default_factory=list, kw_only=True)

    def score_gradient(self, maps: Floats, *given: Any) -> tuple[Floats, Floats]:
        told = super().score_gradient(maps, *given)
        self.seen.append((maps[0, 0].astype(np.float64), float(told[0][0])))
        return told


def own_search(
    explain: Explainer, picture: RunLimits, *, epsilon: float = 1e-8, score: Score = Score.LOGIT,
    bounds: tuple[float, float] | None = None,
) -> list[Step]:  # fmt: skip
    """Every step of the library's search: what it asks of its probe, and what its Adam answers with."""
    settings = Settings(Convention.CONSTRUCTIVE, score, STEPS, RATE, 1, bounds, 0.0, epsilon, 0)
    plain = probe_of(explain, picture)
    probe = Watched(**{f.name: getattr(plain, f.name) for f in fields(PictureProbe)})
    reached = [np.full(len(probe.features), np.clip(0.0, *bounds) if bounds is not None else 0.0)]
    own = Adam.step

    def step(self: Adam, *given: Any) -> npt.NDArray[np.float64]:
        found = own(self, *given)
        reached.append(found[0] if bounds is None else np.clip(found[0], *bounds))
        return found

    with patch.object(Adam, "step", step):
        coefficients(settings)(probe)
    return [Step(u, mask, value) for u, (mask, value) in zip(reached, probe.seen, strict=True)]


def torch_search(picture: RunLimits, precision: torch.dtype, threads: int, epsilon: float = 1e-8) -> list[Step]:
    network, image = lite0(precision), picture.tensor(precision)
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            features = network.features(image)[0]
        return list(opti_cam(network, image, features, picture.target, steps=STEPS, rate=RATE, epsilon=epsilon))
    finally:
        torch.set_num_threads(THREADS)


def all_runs(explain: Explainer, picture: RunLimits, epsilon: float) -> dict[str, list[Step]]:
    return {
        "onnxcam": own_search(explain, picture, epsilon=epsilon),
        "PyTorch 1 thread": torch_search(picture, torch.float32, 1, epsilon),
        "PyTorch 2 threads": torch_search(picture, torch.float32, THREADS, epsilon),
        "float64": torch_search(picture, torch.float64, 1, epsilon),
    }


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def map_difference(a: Step, b: Step) -> float:
    """The largest between two maps in [0,1]."""
    one, other = (mask_of(torch.from_numpy(s.mask)[None, None]) for s in (a, b))
    return float((one - other).abs().max())
