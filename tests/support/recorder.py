"""A stand-in for onnxruntime's sessions on a machine with a GPU."""

from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from onnxcam.engine import session
from onnxcam.engine.providers import CPU, CUDA, OPENVINO, TENSORRT


class Recorder:
    """Stands for onnxruntime's InferenceSession on a machine with a GPU; records its arguments."""

    calls: list[dict[str, Any]]

    def __init__(self, model: bytes, options: object, **arguments: Any) -> None:
        self.arguments = arguments
        Recorder.calls.append(arguments)

    def get_providers(self) -> list[str]:
        return [*self.arguments["providers"], "CPUExecutionProvider"]

    def get_inputs(self) -> list[object]:
        return [SimpleNamespace(name="x")]

    get_outputs = get_inputs


def install(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """Gives onnxruntime TensorRT, CUDA and OpenVINO, all of which start, with 10 GB free."""
    Recorder.calls = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, OPENVINO, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorder)
    monkeypatch.setattr(session, "free_memory_of", lambda device: (10**10, "a test"))
    return Recorder
