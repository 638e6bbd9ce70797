"""Plugin providers: registered once a process, on a GPU that is one, and not in a fork. onnxruntime is a stand-in."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest

from onnxcam.engine import plugins, session
from onnxcam.engine.plugins import built_in, devices_of, is_installed, offers_gpu
from onnxcam.engine.providers import CPU, Provider, parse_providers, resolve_providers
from onnxcam.engine.session import Session, may_leave_the_cpu
from onnxcam.errors import OptionError, ProviderError

CPU_TYPE, GPU_TYPE = "cpu", "gpu"


class Failed(Exception):
    """As onnxruntime raises it for a library that does not load."""


class Runtime:
    """An onnxruntime that offers these types of device once the plugin is registered."""

    OrtHardwareDeviceType = SimpleNamespace(CPU=CPU_TYPE, GPU=GPU_TYPE)
    capi = SimpleNamespace(onnxruntime_pybind11_state=SimpleNamespace(Fail=Failed))

    def __init__(self, *types: str, error: str | None = None) -> None:
        self.types, self.error, self.registered = types, error, list[tuple[str, str]]()

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.error is not None:
            raise Failed(self.error)
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        others = [SimpleNamespace(ep_name=CPU, device=SimpleNamespace(type=CPU_TYPE), ep_metadata={})]
        own = [
            SimpleNamespace(
                ep_name="ShinyExecutionProvider", device=SimpleNamespace(type=t), ep_metadata={"library_path": "x"}
            )
            for t in self.types
        ]
        return [*others, *(own if self.registered else [])]

    def get_available_providers(self) -> list[str]:
        return [*(["ShinyExecutionProvider"] if self.registered else []), CPU]


@pytest.fixture(autouse=True)
def _shiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin `shiny` is installed, and none is registered."""
    package = SimpleNamespace(
        get_ep_names=lambda: ["ShinyExecutionProvider"], get_library_path=lambda: "libshiny.so",
        __spec__=ModuleSpec("onnxruntime_ep_shiny", None),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_shiny", package)
    monkeypatch.setattr(plugins, "_processes", {})


def test_what_is_installed_is_found_by_its_short_name() -> None:
    assert is_installed("shiny")
    assert not is_installed("dull")
    assert not is_installed("no name/at all")


def test_a_plugin_is_registered_once_whoever_asks() -> None:
    ort: Any = Runtime(GPU_TYPE)
    with ThreadPoolExecutor(8) as pool:
        for devices in pool.map(lambda _: devices_of(ort, "shiny"), range(40)):
            assert [device.ep_name for device in devices] == ["ShinyExecutionProvider"]
    assert ort.registered == [("onnxcam.shiny", "libshiny.so")]


@pytest.mark.parametrize("types", [(), (GPU_TYPE,)])
def test_a_registered_plugin_is_no_provider_of_the_build(types: tuple[str, ...]) -> None:
    """onnxruntime lists it as one from then on, and would start it without its device."""
    ort: Any = Runtime(*types)
    assert offers_gpu(ort, "shiny") is bool(types)
    assert "ShinyExecutionProvider" in ort.get_available_providers()
    assert built_in(ort) == [CPU]


def test_a_gpu_comes_before_software_that_stands_for_one() -> None:
    ort: Any = Runtime(CPU_TYPE, GPU_TYPE)
    assert [device.device.type for device in devices_of(ort, "shiny")] == [GPU_TYPE, CPU_TYPE]
    assert offers_gpu(ort, "shiny")


@pytest.mark.parametrize("types", [(), (CPU_TYPE,)])
def test_auto_takes_no_plugin_without_a_gpu(types: tuple[str, ...]) -> None:
    ort: Any = Runtime(*types)
    assert not offers_gpu(ort, "shiny")
    assert not offers_gpu(ort, "dull")


def test_a_plugin_without_a_device_and_one_that_does_not_load_are_errors_that_say_so() -> None:
    ort: Any = Runtime()
    with pytest.raises(
        ProviderError, match=r"finds no device \(a device that it supports is needed\); use --providers cpu"
    ):
        devices_of(ort, "shiny")
    broken: Any = Runtime(error="libvulkan.so:\n no such file")
    plugins._processes.clear()
    for _ in range(2):  # it is tried again
        with pytest.raises(ProviderError, match=r"shiny does not start \(libvulkan.so: no such file\)"):
            devices_of(broken, "shiny")
    assert not offers_gpu(broken, "shiny")


def test_in_a_fork_of_the_process_that_loaded_it_a_plugin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ort: Any = Runtime(GPU_TYPE)
    devices_of(ort, "shiny")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(ProviderError, match="shiny was loaded before the process forked, and does not survive a fork"):
        devices_of(ort, "shiny")
    assert not offers_gpu(ort, "shiny"), "so auto takes the CPU"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of the sessions that are opened, on an onnxruntime with the plugin, which has two devices."""
    calls: list[dict[str, Any]] = []

    class Options:
        def add_session_config_entry(self, key: str, value: str) -> None: ...

        def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
            calls.append({"device": devices[0].device.type, "options": options})

    class Opened:
        def __init__(self, model: bytes, options: Options, **arguments: Any) -> None:
            calls.append(arguments)

        def get_providers(self) -> list[str]:
            return ["ShinyExecutionProvider", CPU]

        def get_inputs(self) -> list[object]:
            return [SimpleNamespace(name="x")]

        get_outputs = get_inputs

    fake = Runtime(CPU_TYPE, GPU_TYPE)
    for name in (
        "OrtHardwareDeviceType",
        "register_execution_provider_library",
        "get_ep_devices",
        "get_available_providers",
    ):
        monkeypatch.setattr(onnxruntime, name, getattr(fake, name))
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Opened)
    return calls


@pytest.mark.parametrize("providers", ["shiny", ["shiny", "cpu"]])
def test_any_plugin_is_a_provider_by_its_short_name(providers: Any, opened: list[dict[str, Any]]) -> None:
    assert Session(b"", providers).provider == "shiny"
    assert opened == [{"device": GPU_TYPE, "options": {}}, {"enable_fallback": 0}]


def test_options_reach_the_plugin_and_device_id_chooses_its_device(opened: list[dict[str, Any]]) -> None:
    session = Session(b"", [("shiny", {"device_id": 1, "layout": "NHWC"})])
    assert opened[0] == {"device": CPU_TYPE, "options": {"layout": "NHWC"}}
    assert session.recorded_options == {"shiny.device_id": "1", "shiny.layout": "NHWC"}
    with pytest.raises(OptionError, match="the provider shiny has devices from 0 to 1"):
        Session(b"", [("shiny", {"device_id": 2})])


def test_no_other_provider_than_the_cpu_goes_with_a_plugin(
    opened: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    with pytest.raises(OptionError, match="shiny stands first, and none but cpu may follow it"):
        Session(b"", ["shiny", "cuda"])


def test_a_plugin_that_is_not_installed_is_named_with_what_brings_it() -> None:
    with pytest.raises(
        ProviderError, match=r'webgpu is not in .*pip gets it with "onnxcam\[webgpu\]", beside this build'
    ):
        resolve_providers(parse_providers(["webgpu"]), [CPU])


@pytest.mark.parametrize("gpu", [False, True])
def test_auto_takes_webgpu_where_it_finds_a_gpu(
    gpu: bool, classifier: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[Provider]] = []
    start: Callable[..., Any] = Session._start

    def recorded(self: Session, model: bytes, providers: list[Provider], threads: int | None) -> Any:
        started.append(providers)
        if providers[0].name != CPU:
            raise ProviderError("it has no room")
        return start(self, model, providers, threads)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(session, "offers_gpu", lambda ort, name: gpu and name == "webgpu")
    monkeypatch.setattr(Session, "_start", recorded)
    assert may_leave_the_cpu("auto") is gpu
    opened = Session(classifier.SerializeToString(), "auto")
    assert [providers[0].name for providers in started] == (["WebGpuExecutionProvider"] if gpu else []) + [CPU]
    assert opened.skipped_providers == (("it has no room",) if gpu else ())
