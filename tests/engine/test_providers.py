"""The caller's providers: names, onnxruntime's own form with options, and what is refused."""

from typing import Any

import numpy as np
import onnx
import pytest
from recorder import Recorder, install

from onnxcam import Explainer
from onnxcam.engine.options import EngineOptions, MemoryCap
from onnxcam.engine.providers import (
    CPU,
    CUDA,
    PACKAGES,
    TENSORRT,
    Provider,
    parse_providers,
    resolve_providers,
)
from onnxcam.engine.session import Session, may_leave_the_cpu
from onnxcam.errors import OptionError, ProviderError

X = np.random.default_rng(0).standard_normal((2, 3, 16, 12)).astype(np.float32)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    return install(monkeypatch)


def test_short_names_and_onnxruntimes_names_are_the_same_provider() -> None:
    assert parse_providers(["cuda", "CPU"]) == parse_providers([CUDA, (CPU, {})])
    assert parse_providers("auto") == (Provider("auto"),)


def test_options_become_text_as_onnxruntime_does_it() -> None:
    (provider,) = parse_providers([(CUDA, {"device_id": 1, "do_copy_in_default_stream": True, "name": "x"})])
    assert provider.options == {"device_id": "1", "do_copy_in_default_stream": "True", "name": "x"}
    assert provider.device_id == 1


@pytest.mark.parametrize(
    ("providers", "message"),
    [
        (("cuda", {"device_id": 1}), "a name, or a tuple of a name and a dict"),
        ([["cuda", {}]], "a name, or a tuple of a name and a dict"),
        ([("cuda",)], "a name, or a tuple of a name and a dict"),
        ([("cuda", None)], "a name, or a tuple of a name and a dict"),
        ([(1, {})], "a name, or a tuple of a name and a dict"),
        ([None], "a name, or a tuple of a name and a dict"),
        (5, "must be a list of names"),
        ({"cuda": {}}, "must be a list of names"),
        ([("cuda", {1: 2})], "a provider option is a name with a text or number"),
        ([("cuda", {"device_id": None})], "a provider option is a name with a text or number"),
        ([("auto", {"device_id": 1})], "the provider auto takes no options"),
        (
            [("cpu", {"arena_extend_strategy": "kSameAsRequested"})],
            "cpu takes no options; onnxruntime would ignore them",
        ),
        ([("cuda", {"enable_cuda_graph": 1})], r"EngineOptions\(cuda_graph=True\)"),
        ([("tensorrt", {"trt_cuda_graph_enable": True})], r"EngineOptions\(cuda_graph=True\)"),
        ([("tensorrt", {"trt_fp16_enable": True})], r"EngineOptions\(half=True\), or --half"),
        ([("tensorrt", {"trt_bf16_enable": True})], r"EngineOptions\(half=True\), or --half"),
        (["cpu", (CPU, {})], "the provider cpu is listed twice"),
    ],
)
def test_wrong_forms_are_option_errors(providers: Any, message: str, classifier: onnx.ModelProto) -> None:
    with pytest.raises(OptionError, match=message):
        parse_providers(providers)
    with pytest.raises(OptionError, match=message):
        Session(classifier.SerializeToString(), providers)
    with pytest.raises(OptionError, match=message):
        Explainer(classifier, providers=providers)


def test_unknown_providers_list_the_near_ones() -> None:
    with pytest.raises(ProviderError, match="did you mean cuda"):
        resolve_providers(parse_providers([("cudaa", {})]), [CPU])


def test_a_provider_that_the_build_lacks_is_refused_with_what_brings_it() -> None:
    for name, package in PACKAGES.items():
        with pytest.raises(
            ProviderError, match=f"the provider {name} is not in .*it has cpu.*; pip gets it with"
        ) as error:
            resolve_providers(parse_providers([name]), [CPU])
        assert package in str(error.value)
    with pytest.raises(ProviderError, match="a build of onnxruntime with it is needed"):
        resolve_providers(parse_providers("xnnpack"), [CPU])


def test_openvino_is_opened_in_float32_and_with_the_threads_of_the_run(gpu: type[Recorder]) -> None:
    Session(b"", ["openvino"], threads=3)
    assert gpu.calls[0]["provider_options"] == [{"precision": "FP32", "num_of_threads": "3"}]
    session = Session(b"", [("openvino", {"precision": "ACCURACY", "device_type": "GPU"})], threads=3)
    expected = {"precision": "ACCURACY", "num_of_threads": "3", "device_type": "GPU"}
    assert session.provider_options == gpu.calls[1]["provider_options"][0] == expected
    assert session.recorded_options == {"openvino.precision": "ACCURACY", "openvino.device_type": "GPU"}


def test_the_form_of_onnxruntime_runs_as_the_short_name_does(classifier: onnx.ModelProto) -> None:
    model = classifier.SerializeToString()
    expected = Session(model, ["cpu"]).run(["logits"], {"x": X})[0]
    for providers in ([(CPU, {})], [("cpu", {})], [CPU], "cpu"):
        session = Session(model, providers)
        assert session.provider == "cpu"
        np.testing.assert_array_equal(session.run(["logits"], {"x": X})[0], expected)
        assert not may_leave_the_cpu(providers)


def test_an_explainer_takes_the_form_of_onnxruntime(classifier: onnx.ModelProto) -> None:
    with Explainer(classifier, providers=[(CPU, {})]) as explain:
        assert explain.explain(X[0], targets=[0])[0].provenance.provider == "cpu"


def test_the_callers_options_win_over_the_engines(gpu: type[Recorder]) -> None:
    options = {"cudnn_conv_algo_search": "EXHAUSTIVE", "gpu_mem_limit": 5000}
    session = Session(b"", [("cuda", options)], engine=EngineOptions(MemoryCap(10**9), tf32=True))
    expected = EngineOptions(tf32=True).provider_options(CUDA, 5000) | {"cudnn_conv_algo_search": "EXHAUSTIVE"}
    assert gpu.calls[0]["provider_options"] == [expected]
    assert session.cap == 5000
    assert session.recorded_options == {
        "gpu_mem": "1000000000 bytes",
        "tf32": "on",
        "cuda.cudnn_conv_algo_search": "EXHAUSTIVE",
        "cuda.gpu_mem_limit": "5000",
    }


def test_the_chosen_device_is_where_the_tensors_lie(gpu: type[Recorder]) -> None:
    assert str(Session(b"", [("cuda", {"device_id": 1})]).device) == "cuda:1"
    session = Session(b"", [("tensorrt", {"device_id": "2", "trt_builder_optimization_level": 5})])
    assert str(session.device) == "cuda:2"
    assert gpu.calls[1]["providers"] == [TENSORRT, CUDA]
    assert [o["device_id"] for o in gpu.calls[1]["provider_options"]] == ["2", "2"]
    assert gpu.calls[1]["provider_options"][0]["trt_builder_optimization_level"] == "5"
    with pytest.raises(OptionError, match="device_id must be a number"):
        Session(b"", [("cuda", {"device_id": "first"})])


@pytest.mark.parametrize("order", [("tensorrt", "cuda"), ("cuda", "tensorrt")])
def test_a_listed_cuda_runs_on_tensorrts_device(order: tuple[str, str], gpu: type[Recorder]) -> None:
    Session(b"", [(name, {"device_id": 1}) if name == "tensorrt" else name for name in order])
    assert [o["device_id"] for o in gpu.calls[0]["provider_options"]] == ["1", "1"]
    same = [("tensorrt", {"device_id": 1}), ("cuda", {"device_id": "1"})]
    assert [p.device_id for p in resolve_providers(parse_providers(same), [TENSORRT, CUDA, CPU])] == [1, 1]


@pytest.mark.parametrize("tensorrt", [{"device_id": 1}, {}])
def test_tensorrt_and_cuda_on_different_devices_are_refused(tensorrt: dict[str, Any], gpu: type[Recorder]) -> None:
    with pytest.raises(OptionError, match=r"tensorrt would run on device \d and cuda, .* on device 2; give both"):
        Session(b"", [("tensorrt", tensorrt), ("cuda", {"device_id": 2})])
    assert gpu.calls == []
