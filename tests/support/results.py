"""A saliency with its provenance, written by hand, for tests of the outputs."""

from typing import Any

import numpy as np

from onnxcam.inputs.presets import Preset
from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget
from onnxcam.types import BatchMode, Note, NoteCode, Origin, Placement, Source

HASH = "ab" * 32


def provenance(**changed: Any) -> Provenance:
    values: dict[str, Any] = {
        "versions": {"onnxcam": "0.1.0", "onnx": "1.23.2"},
        "model": "net.onnx",
        "model_sha256": HASH,
        "image": "cat.jpg",
        "layer": "/features/conv/Relu_output_0",
        "layer_reason": "the last tensor with a grid",
        "logits": "logits",
        "activation": "softmax",
        "preset": Preset("torch", 1 / 255, (0.5, 0.25, 0.125), (1.0,), size=(224, 224)),
        "preset_origin": Origin(Source.METADATA, "ONNX metadata onnxcam.preset"),
        "size_origin": Origin(Source.MODEL, "the model's"),
        "fill": "zero",
        "method": "score-cam",
        "options": {"score": "logit", "sigma": np.float64(0.5), "keep": np.bool_(True)},
        "changed": (),
        "provider": "cpu",
        "batch": 16,
        "batch_mode": BatchMode.DYNAMIC,
        "features": (320, 7, 8),
        "channels": Channels(320, 40, 260),
        "forwards": 301,
        "steps": 0,
        "seconds": 1.25,
        "notes": (Note(NoteCode.LOOPED, "one"), Note(NoteCode.PARTIAL, "two")),
        "error": 0.0125,
    }
    return Provenance(**(values | changed))


def saliency(*, placed: bool = True, label: str | None = "tabby", **changed: Any) -> Saliency:
    """changed: fields of its provenance."""
    generator = np.random.default_rng(3)
    return Saliency(
        map=generator.random((224, 230), np.float32),
        raw=generator.standard_normal((7, 8)).astype(np.float32),
        target=ScoredTarget(281, label, 0.25, 3.5),
        score=3.5,
        placement=Placement((240, 300), (30.0, 0.5, 269.5, 240.0)) if placed else None,
        provenance=provenance(**changed),
    )
