import pytest
from recorder import Recorder

from onnxcam.engine import session as sessions
from onnxcam.engine.providers import CPU, CUDA, TENSORRT


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """onnxruntime with TensorRT and CUDA, both of which start."""
    import onnxruntime

    Recorder.calls = []
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Recorder)
    monkeypatch.setattr(sessions, "free_memory_of", lambda device: (10**10, "a test"))
    return Recorder
