import contextlib
import io
import sys
import threading
from types import FunctionType, SimpleNamespace

import numpy as np
import onnx
import pytest

from onnxcam.engine.session import Session, _preload_cuda
from onnxcam.errors import InferenceError, OptionError, OutOfMemory, ProviderError, RuntimeMissing

X = np.random.default_rng(0).standard_normal((2, 3, 16, 12)).astype(np.float32)


def test_auto_names_the_provider_that_really_runs(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString())
    assert session.provider in ("cpu", "cuda")
    assert session.run(["logits"], {"x": X})[0].shape == (2, 5)


def test_a_provider_that_is_not_there_is_an_error_not_a_fallback(classifier: onnx.ModelProto) -> None:
    with pytest.raises(ProviderError, match=r"tensorrt is not in the installed onnxruntime \(it has .*cpu"):
        Session(classifier.SerializeToString(), ["tensorrt", "cpu"])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_installed_but_does_not_start_is_an_error(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    else:
        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
    with pytest.raises(ProviderError, match="does not start"):
        Session(classifier.SerializeToString(), ["cuda"])


def test_onnxruntimes_own_fallback_to_the_cpu_is_off(classifier: onnx.ModelProto) -> None:
    assert Session(classifier.SerializeToString(), ["cpu"])._session._enable_fallback is False


def test_a_closed_session_says_so(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString(), ["cpu"])
    session.close()
    session.close()
    with pytest.raises(InferenceError, match="closed"):
        session.run(["logits"], {"x": X})


def test_a_wrong_input_is_an_inference_error(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString(), ["cpu"])
    with pytest.raises(InferenceError, match="could not run"):
        session.run(["logits"], {"x": X[:, :2]})


def test_a_broken_graph_is_an_inference_error() -> None:
    with pytest.raises(InferenceError, match="could not run"):
        Session(b"not a model", ["cpu"])


def test_allocation_failures_are_told_from_other_failures(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString(), ["cpu"])
    for text in (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code. Failed to allocate memory for requested buffer",
        "BFCArena::AllocateRawInternal Available memory of 34699008 is smaller than requested bytes of 945041920",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
    ):
        assert isinstance(session._translated(RuntimeError(text)), OutOfMemory)
    assert not isinstance(session._translated(RuntimeError("shape mismatch")), OutOfMemory)


def test_zero_threads_are_refused(classifier: onnx.ModelProto) -> None:
    with pytest.raises(OptionError, match="threads"):
        Session(classifier.SerializeToString(), ["cpu"], threads=0)


def test_without_onnxruntime_the_error_names_both_commands(
    classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeMissing, match=r"onnxcam\[cpu\].*onnxcam\[gpu\]"):
        Session(classifier.SerializeToString(), ["cpu"])


def test_threads_share_a_session(classifier: onnx.ModelProto) -> None:
    session = Session(classifier.SerializeToString(), ["cpu"], threads=1)
    expected = session.run(["logits"], {"x": X})[0]
    results: list[np.ndarray] = []
    workers = [threading.Thread(target=lambda: results.append(session.run(["logits"], {"x": X})[0])) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 8
    assert all(np.array_equal(r, expected) for r in results)


def test_what_onnxruntime_prints_while_loading_cuda_is_logged_and_stdout_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    streams: list[object] = []
    names = {"print": print, "sys": sys, "streams": streams}
    exec("def preload_dlls(cuda=True):\n    streams.append(sys.stdout)\n    print('no libcublas', cuda)", names)
    assert isinstance(names["preload_dlls"], FunctionType)
    stdout = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()) as printed, caplog.at_level("INFO", "onnxcam.engine.session"):
        _preload_cuda(SimpleNamespace(preload_dlls=names["preload_dlls"]))  # type: ignore[arg-type]
    assert printed.getvalue() == ""
    assert streams == [printed], "no other stdout is in place meanwhile"
    assert sys.stdout is stdout
    assert "no libcublas True" in caplog.text


def test_loading_cudas_libraries_may_print_with_keywords_and_have_keyword_only_arguments(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {"sys": sys}
    body = "print('no', cuda, folder, sep='-', end='', file=sys.stderr, flush=True)"
    exec(f"def preload_dlls(cuda=True, *, folder='x'):\n    {body}", names)
    with caplog.at_level("INFO", "onnxcam.engine.session"):
        _preload_cuda(SimpleNamespace(preload_dlls=names["preload_dlls"]))  # type: ignore[arg-type]
    assert "preload_dlls: no-True-x" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_an_open_session_holds_no_second_copy_of_the_weights(classifier: onnx.ModelProto) -> None:
    """onnxruntime's class keeps the bytes for a fallback that is turned off here."""
    session = Session(classifier.SerializeToString(), ["cpu"])
    assert not [v for v in vars(session._session).values() if isinstance(v, bytes)]
