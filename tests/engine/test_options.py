"""Engine options: how they are parsed, which are refused, and what onnxruntime gets."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from recorder import Recorder, install

from onnxcam.engine import precision
from onnxcam.engine.options import EngineOptions, MemoryCap, memory_cap
from onnxcam.engine.providers import CPU, CUDA, OPENVINO, TENSORRT
from onnxcam.engine.session import Session
from onnxcam.errors import OptionError, ProviderError


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("4GB", MemoryCap(4 * 10**9)),
        ("512MiB", MemoryCap(512 * 2**20)),
        ("1.5 gb", MemoryCap(1_500_000_000)),
        ("3000000", MemoryCap(3_000_000)),
        ("50%", MemoryCap(share=0.5)),
        ("12.5 %", MemoryCap(share=0.125)),
    ],
)
def test_amounts_of_memory_as_people_write_them(text: str, cap: MemoryCap) -> None:
    assert memory_cap(text) == cap


@pytest.mark.parametrize("text", ["", "lots", "4XB", "-1GB", "GB", "0", "0%", "101%", "4GB!"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"memory"):
        memory_cap(text)


@pytest.mark.parametrize("text", ["9" * 400 + "GB", "9" * 5000, "9" * 400 + "%", "10000000000GB", 4, None, b"4GB"])
def test_amounts_beyond_any_memory_and_other_types_are_refused(text: Any) -> None:
    with pytest.raises(OptionError, match=r"memory") as caught:
        memory_cap(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"amount": "4GB"}, r"a whole number of bytes, such as MemoryCap\(4 \* 10\*\*9\), not '4GB'"),
        ({"amount": 1.5}, "a whole number of bytes"),
        ({"amount": float("nan")}, "a whole number of bytes"),
        ({"amount": True}, "a whole number of bytes"),
        ({"amount": 0}, "must be 1 to"),
        ({"amount": 10**5000}, "must be 1 to"),
        ({"share": "x"}, r"at most 1, such as MemoryCap\(share=0.5\), not 'x'"),
        ({"share": True}, "at most 1, such as"),
        ({"share": 1j}, "at most 1, such as"),
        ({"share": float("nan")}, "at most 100 %"),
        ({"share": 50}, "at most 100 %"),
        ({"share": 10**400}, "at most 100 %"),
    ],
)
def test_what_is_no_cap_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        MemoryCap(**arguments)


def test_numbers_of_numpy_are_numbers() -> None:
    assert MemoryCap(np.int64(5)).limit(None) == 5  # type: ignore[arg-type]
    assert MemoryCap(share=np.float32(0.5)).limit(100) == 50  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpu_mem": "4GB"}, r"gpu_mem is a MemoryCap, such as MemoryCap\(4 \* 10\*\*9\) .* not '4GB'"),
        ({"gpu_mem": 0}, "gpu_mem is a MemoryCap"),
        ({"half": "x"}, "half is True or False, not 'x'"),
        ({"half": None}, "half is True or False"),
        ({"tf32": 1}, "tf32 is True or False"),
        ({"cuda_graph": 0.0}, "cuda_graph is True or False"),
    ],
)
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EngineOptions(**options)


def test_a_cap_is_one_of_the_two() -> None:
    for arguments in ({}, {"amount": 1, "share": 0.5}):
        with pytest.raises(OptionError, match="either an amount"):
            MemoryCap(**arguments)


def test_a_share_is_of_what_is_free_and_needs_to_know_it() -> None:
    assert MemoryCap(share=0.25).limit(8 * 10**9) == 2 * 10**9
    assert MemoryCap(10**9).limit(None) == 10**9
    with pytest.raises(OptionError, match="as in 4GB"):
        MemoryCap(share=0.25).limit(None)


@pytest.mark.parametrize("name", ["half", "tf32", "cuda_graph", "gpu_mem"])
@pytest.mark.parametrize("providers", [("cpu",), ("auto",)])
def test_what_would_do_nothing_on_the_cpu_is_refused(
    name: str, providers: tuple[str, ...], classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    engine = EngineOptions(**{name: MemoryCap(10**9) if name == "gpu_mem" else True})
    with pytest.raises(OptionError, match=f"{name.replace('_', '-')} would do nothing on the provider cpu"):
        Session(classifier.SerializeToString(), providers, engine=engine)


def test_each_provider_accepts_what_it_understands() -> None:
    EngineOptions(MemoryCap(1), True, True, True).check("cuda")
    EngineOptions(MemoryCap(1), half=True).check("tensorrt")
    EngineOptions(half=True).check("directml")
    EngineOptions().check("cpu")
    with pytest.raises(OptionError, match="tf32, cuda-graph would do nothing on the provider tensorrt"):
        EngineOptions(tf32=True, cuda_graph=True).check("tensorrt")
    with pytest.raises(OptionError, match="gpu-mem would do nothing on the provider directml"):
        EngineOptions(MemoryCap(1)).check("directml")


def test_float32_stays_float32_on_cuda_unless_tf32_is_on() -> None:
    assert EngineOptions().provider_options(CUDA, None)["use_tf32"] == "0"
    assert EngineOptions(tf32=True).provider_options(CUDA, None)["use_tf32"] == "1"


def test_the_options_of_each_provider() -> None:
    assert EngineOptions(cuda_graph=True).provider_options(CUDA, 4000) == {
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "enable_cuda_graph": "1",
        "gpu_mem_limit": "4000",
    }
    assert EngineOptions(half=True).provider_options(TENSORRT, None) == {"trt_fp16_enable": "True"}
    assert EngineOptions(half=True).provider_options("DmlExecutionProvider", 4000) == {}
    assert EngineOptions(cuda_graph=True, tf32=True).without_cuda_graph == EngineOptions(tf32=True)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    return install(monkeypatch)


def test_tensorrt_gets_the_cuda_provider_for_what_it_lacks(gpu: type[Recorder]) -> None:
    session = Session(b"", ["tensorrt"])
    assert gpu.calls[0]["providers"] == [TENSORRT, CUDA]
    assert gpu.calls[0]["provider_options"] == [EngineOptions().provider_options(n, None) for n in (TENSORRT, CUDA)]
    assert (session.provider, session.companions) == ("tensorrt", ("cuda",))
    assert session.device is not None
    assert str(session.device) == "cuda:0"


def test_a_chosen_order_of_providers_is_kept(gpu: type[Recorder]) -> None:
    Session(b"", ["tensorrt", "cpu", "cuda"])
    assert gpu.calls[0]["providers"] == [TENSORRT, "CPUExecutionProvider", CUDA]


def test_a_share_of_the_memory_becomes_a_limit_in_bytes(gpu: type[Recorder]) -> None:
    session = Session(b"", ["cuda"], engine=EngineOptions(MemoryCap(share=0.5)))
    assert session.cap == 5 * 10**9
    assert gpu.calls[0]["provider_options"][0]["gpu_mem_limit"] == "5000000000"


def test_auto_takes_cuda_with_its_options(gpu: type[Recorder]) -> None:
    session = Session(b"", engine=EngineOptions(tf32=True))
    assert session.provider == "cuda"
    assert gpu.calls[0]["provider_options"][0]["use_tf32"] == "1"


def test_options_without_a_gpu_say_why_there_is_none(gpu: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(OptionError, match=r"tf32 would do nothing on the provider cpu.*cuda is installed but does not"):
        Session(b"", engine=EngineOptions(tf32=True))


def test_a_graph_that_cannot_be_captured_says_which_option_to_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def refuse(*args: object, **more: object) -> None:
        raise RuntimeError("This session cannot use the graph capture feature as requested by the user")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ProviderError, match=r"graph capture.*leave out --cuda-graph"):
        Session(b"", ["cuda"], engine=EngineOptions(cuda_graph=True))


def test_a_precision_is_one_of_two_and_excludes_half() -> None:
    assert not EngineOptions(precision="f32").changed
    assert EngineOptions(precision="bf16").recorded == {"precision": "bf16"}
    for wrong in ("bf17", "", None, 16, ["bf16"]):
        with pytest.raises(OptionError, match=r"no precision is called .*known: f32, bf16"):
            EngineOptions(precision=wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="exclude each other"):
        EngineOptions(half=True, precision="bf16")


@pytest.mark.parametrize("provider", ["cpu", "cuda", "tensorrt", "directml"])
def test_a_lower_precision_says_which_provider_has_it(provider: str) -> None:
    with pytest.raises(OptionError, match=f"nothing on the provider {provider}; use --providers openvino"):
        EngineOptions(precision="bf16").check(provider)


def test_a_processor_without_bfloat16_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_INFO", flags)
    refused = "needs a processor with amx_bf16 or avx512_bf16"
    with pytest.raises(OptionError, match=refused):  # a system that lists none
        EngineOptions(precision="bf16").check("openvino")
    flags.write_text("flags : fpu avx512f avx512_bf16x\n")
    with pytest.raises(OptionError, match=refused):
        EngineOptions(precision="bf16").check("openvino")
    for flag in ("avx512_bf16", "amx_bf16"):
        flags.write_text(f"flags : fpu {flag} avx512f\n")
        EngineOptions(precision="bf16").check("openvino")


def test_openvino_alone_gets_the_hint() -> None:
    hint = {"load_config": precision.HINT}
    both = ["cpu", ("openvino", {"device_type": "CPU"})]
    assert precision.in_bfloat16(["openvino"]) == ((OPENVINO, hint),)
    assert precision.in_bfloat16(both) == ((CPU, {}), (OPENVINO, {**hint, "device_type": "CPU"}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"), [({"device_type": "GPU"}, "not of GPU"), ({"load_config": "{}"}, "load_config")]
)
def test_options_that_contradict_a_precision_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        precision.in_bfloat16([("openvino", options)])
