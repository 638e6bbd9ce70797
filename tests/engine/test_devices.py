"""Free memory and chunk sizes on a device. A stand-in with the same functions replaces the CUDA driver's library."""

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from onnxcam.engine import devices
from onnxcam.engine.batching import ON_DEVICE
from onnxcam.engine.devices import Device, chunk_on, device_of, free_memory_of, provider_on, synchronise
from onnxcam.errors import OptionError, ProviderError
from onnxcam.types import NoteCode

GPU = Device("cuda", 0)


def driver(free: int, code: int = 0) -> tuple[SimpleNamespace, list[str]]:
    """A libcuda whose device 0 has `free` bytes, and the list of its calls. code: what cuCtxPushCurrent returns."""
    calls: list[str] = []

    def named(name: str, answer: int = 0) -> object:
        def call(*args: object) -> int:
            calls.append(name)
            return answer

        return call

    def info(free_: object, total: object) -> int:
        calls.append("cuMemGetInfo_v2")
        free_._obj.value, total._obj.value = free, 2 * free  # type: ignore[attr-defined]
        return 0

    names = (
        "cuInit cuDeviceGet cuDevicePrimaryCtxRetain cuCtxPopCurrent_v2 cuDevicePrimaryCtxRelease_v2 cuCtxSynchronize"
    )
    functions = {name: named(name) for name in names.split()}
    return SimpleNamespace(
        **functions, cuCtxPushCurrent_v2=named("cuCtxPushCurrent_v2", code), cuMemGetInfo_v2=info
    ), calls


def no_driver() -> ctypes.CDLL:
    raise OSError("the CUDA driver's library is not there")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a CUDA driver and without nvidia-smi."""
    monkeypatch.setattr(devices, "_driver", no_driver)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def nvidia_smi(folder: Path, answer: str) -> None:
    """Writes an nvidia-smi that answers so for the device GPU-7, and fails for every other."""
    script = folder / "nvidia-smi"
    script.write_text(f'#!/bin/sh\ncase "$1" in --id=GPU-7) echo "{answer}";; *) exit 6;; esac\n')
    script.chmod(0o755)


def test_where_providers_keep_their_tensors() -> None:
    assert [device_of(p) for p in ("cpu", "cuda", "tensorrt", "directml")] == [Device("cpu"), GPU, GPU, None]
    assert device_of("cuda", 1) == Device("cuda", 1)
    assert [provider_on(d) for d in (Device("cpu"), GPU, Device("cuda", 1))] == [
        "cpu",
        "cuda",
        ("cuda", {"device_id": 1}),
    ]


def test_the_driver_is_read_in_the_devices_primary_context_which_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    library, calls = driver(5 * 10**9)
    monkeypatch.setattr(devices, "_driver", lambda: library)
    assert free_memory_of(GPU) == (5 * 10**9, "the CUDA driver")
    assert calls[-3:] == ["cuMemGetInfo_v2", "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"]


def test_a_context_that_cannot_be_entered_is_released_too(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    library, calls = driver(1, code=201)
    monkeypatch.setattr(devices, "_driver", lambda: library)
    assert free_memory_of(GPU)[0] is None
    assert calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_nvidia_smi_is_read_where_the_driver_fails(
    monkeypatch: pytest.MonkeyPatch, no_gpu: None, tmp_path: Path
) -> None:
    nvidia_smi(tmp_path, "4096")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-9")
    assert free_memory_of(GPU) == (4096 * 2**20, "nvidia-smi")
    assert free_memory_of(Device("cuda", 1))[0] is None
    assert free_memory_of(Device("cuda", 2))[0] is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert free_memory_of(GPU)[0] is None  # device 0 is not the one that answers


def test_where_free_memory_is_unknown_the_chunk_is_fixed_and_a_note_says_why(no_gpu: None) -> None:
    chunk = chunk_on(GPU, 10**6, 0, None, None)
    assert chunk.batch == ON_DEVICE == 64
    assert (
        "cuda:0 is not known (the CUDA driver's library is not there; nvidia-smi does not answer)"
        in chunk.notes[0].text
    )
    assert chunk.notes[0].code is NoteCode.DEVICE_MEMORY_UNKNOWN


def test_the_chunk_is_a_share_of_the_free_memory_and_of_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    library, _ = driver(400)
    monkeypatch.setattr(devices, "_driver", lambda: library)
    assert chunk_on(GPU, 10, 0, None, None).batch == 10
    assert chunk_on(GPU, 1, 0, None, None).batch == ON_DEVICE
    assert chunk_on(GPU, 10, 40, 240, None).batch == 5  # a quarter of what the weights leave of the cap
    assert chunk_on(GPU, 10, 300, 240, None).batch == 1
    assert chunk_on(GPU, 10, 0, None, 33).batch == 33
    with pytest.raises(OptionError, match="1 or more"):
        chunk_on(GPU, 10, 0, None, 0)


def test_a_cap_is_enough_where_free_memory_is_unknown(no_gpu: None) -> None:
    chunk = chunk_on(GPU, 10, 0, 400, None)
    assert (chunk.batch, chunk.notes) == (10, ())


def test_waiting_for_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    library, calls = driver(1)
    monkeypatch.setattr(devices, "_driver", lambda: library)
    synchronise(GPU)
    assert "cuCtxSynchronize" in calls
    monkeypatch.setattr(devices, "_driver", no_driver)
    synchronise(Device("cpu"))
    with pytest.raises(ProviderError, match="cuda:0 cannot be waited for"):
        synchronise(GPU)
