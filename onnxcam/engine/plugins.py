"""Plugin providers: libraries that onnxruntime loads into a running process, each from a package `onnxruntime_ep_NAME`.

They stand beside any build of onnxruntime, where other providers are builds of their own. A plugin is registered when
it is first asked for, once a process. What it then offers are devices; session.py opens a graph on one of them.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from onnxcam.engine.forking import Lock
from onnxcam.errors import ProviderError
from onnxcam.logs import module_logger

PACKAGE = "onnxruntime_ep_{}"
"""The package of a plugin, by the provider's short name."""
NEEDS: Mapping[str, str] = {"webgpu": "a GPU with a driver for Vulkan, Direct3D 12 or Metal"}
"""What a plugin needs of the machine."""
DEFAULTS: Mapping[str, Mapping[str, str]] = {"webgpu": {"preferredLayout": "NCHW"}}
"""Options that a plugin gets unless the caller sets them.

In its own layout, NHWC, onnxruntime-ep-webgpu 0.4.0 computes a Conv of 6 input channels wrongly.
"""
logger = module_logger(__name__)
_lock = Lock()
_processes: dict[str, int] = {}
"""The process that registered each plugin."""


def is_installed(name: str) -> bool:
    """Whether the package of the plugin provider of this short name is there."""
    return name.isidentifier() and find_spec(PACKAGE.format(name)) is not None


def built_in(ort: ModuleType) -> list[str]:
    """onnxruntime's names of the providers in the installed build: it lists those of registered plugins too."""
    loaded = {device.ep_name for device in ort.get_ep_devices() if "library_path" in device.ep_metadata}
    loaded.update(name for plugin in list(_processes) for name in _package(plugin).get_ep_names())
    return [name for name in ort.get_available_providers() if name not in loaded]


def devices_of(ort: ModuleType, name: str) -> list[Any]:
    """The devices (onnxruntime's OrtEpDevice) that an installed plugin offers, GPUs first. Threads may call it.

    Raises ProviderError where the plugin does not load, where it offers none, and in a child of the process that
    loaded it.
    """
    package = _package(name)
    with _lock:
        if name not in _processes:
            _register(ort, name, package.get_library_path())
        elif _processes[name] != os.getpid():
            raise ProviderError(
                f"the plugin provider {name} was loaded before the process forked, and does not survive a fork; open "
                f"models in the children alone, or start workers by spawn or forkserver"
            )
    offered = [device for device in ort.get_ep_devices() if device.ep_name in package.get_ep_names()]
    if not offered:
        needed = NEEDS.get(name, "a device that it supports")
        raise ProviderError(
            f"the provider {name} does not start: it finds no device ({needed} is needed); use --providers cpu, or auto"
        )
    return sorted(offered, key=lambda device: not _is_gpu(ort, device))


def offers_gpu(ort: ModuleType, name: str) -> bool:
    """Whether the plugin is installed and finds a GPU; a processor that stands for one, in software, does not count."""
    try:
        return is_installed(name) and any(_is_gpu(ort, device) for device in devices_of(ort, name))
    except ProviderError as error:
        logger.info("provider %s is not tried: %s", name, error)
        return False


def _package(name: str) -> Any:
    return import_module(PACKAGE.format(name))


def _is_gpu(ort: ModuleType, device: Any) -> bool:
    return bool(device.device.type == ort.OrtHardwareDeviceType.GPU)


def _register(ort: ModuleType, name: str, library: str) -> None:
    try:
        ort.register_execution_provider_library(f"onnxcam.{name}", library)
    except (ort.capi.onnxruntime_pybind11_state.Fail, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ProviderError(
            f"the provider {name} does not start ({reason[:200]}); use --providers cpu, or auto"
        ) from None
    _processes[name] = os.getpid()
