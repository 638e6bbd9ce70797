"""Devices as onnxruntime names them, how much of their memory is free, and how many masks fit into it.

The free memory comes from the CUDA driver, else from nvidia-smi.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from onnxcam.engine.batching import ON_DEVICE, choose_batch
from onnxcam.engine.forking import Lock
from onnxcam.engine.providers import ProviderSpec
from onnxcam.errors import ProviderError
from onnxcam.types import Note, NoteCode

DEVICES: Mapping[str, str] = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda", "webgpu": "webgpu"}
"""Where a provider's tensors lie, by its short name. Other providers are not used with IO binding."""
DRIVERS = ("libcuda.so.1", "nvcuda.dll")
NVIDIA_SMI_TIMEOUT = 10
"""Seconds."""


@dataclass(frozen=True)
class Device:
    """kind: 'cpu', 'cuda' or 'webgpu'. index: among the devices that the process sees (CUDA_VISIBLE_DEVICES)."""

    kind: str
    index: int = 0

    @property
    def has_float64(self) -> bool:
        """Whether its kernels compute in float64."""
        return self.kind in ("cpu", "cuda")

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


_webgpu = Lock(reentrant=True)


def turn_on(kind: str | None) -> AbstractContextManager[object]:
    """`with turn_on(kind):` one thread at a time works on the devices of this kind, where that is needed.

    All sessions of the WebGPU provider share one queue and its buffers, which it does not guard.
    """
    return _webgpu if kind == "webgpu" else nullcontext()


def lock_of(device: Device) -> Lock:
    """The reentrant lock of a new BoundSession: that of all sessions on WebGPU, else its own."""
    return _webgpu if device.kind == "webgpu" else Lock(reentrant=True)


def device_of(provider: str, index: int = 0) -> Device | None:
    """Where the provider of this short name keeps its tensors; None if IO binding is not used with it."""
    kind = DEVICES.get(provider)
    if kind is None or (kind == "webgpu" and index):  # onnxruntime makes tensors on the first WebGPU device alone
        return None
    return Device(kind, index)


def provider_on(device: Device) -> ProviderSpec:
    """The provider that runs on this device, as Session takes it."""
    return (device.kind, {"device_id": device.index}) if device.index else device.kind


@dataclass(frozen=True)
class Chunk:
    """Masks a forward pass, and notes on how that number was chosen."""

    batch: int
    notes: tuple[Note, ...] = ()


def chunk_on(device: Device, bytes_per_image: int, weights: int, cap: int | None, requested: int | None) -> Chunk:
    """The requested number of masks, else as many as a share of the free device memory holds, at most ON_DEVICE.

    weights: bytes that the open graph already takes; they count towards the cap, and no longer as free memory.
    """
    free, why = free_memory_of(device)
    limits = [value for value in (free, cap - weights if cap is not None else None) if value is not None]
    if requested is not None or limits:
        return Chunk(choose_batch(bytes_per_image, max(0, min(limits, default=0)), ON_DEVICE, requested))
    text = f"the free memory of {device} is not known ({why}), so a forward pass takes {ON_DEVICE} masks"
    return Chunk(ON_DEVICE, (Note(NoteCode.DEVICE_MEMORY_UNKNOWN, text),))


def free_memory_of(device: Device) -> tuple[int | None, str]:
    """(bytes, source), or (None, reason). Reads the CUDA driver, and nvidia-smi if that fails."""
    if device.kind != "cuda":
        return None, f"{device.kind} does not tell it"
    try:
        library = _driver()
        with _context(library, device.index):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            _succeed(library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        return int(free.value), "the CUDA driver"
    except OSError as error:
        reason = str(error)
    free_bytes = _nvidia_smi(device.index)
    return (free_bytes, "nvidia-smi") if free_bytes is not None else (None, f"{reason}; nvidia-smi does not answer")


def synchronise(device: Device) -> None:
    """Waits for all work on a CUDA device, of other libraries too. Raises ProviderError."""
    if device.kind != "cuda":
        return
    try:
        library = _driver()
        with _context(library, device.index):
            _succeed(library.cuCtxSynchronize())
    except OSError as error:
        raise ProviderError(f"{device} cannot be waited for ({error}); give the picture as a NumPy array") from None


def _driver() -> Any:
    """The CUDA driver's library. Raises OSError where there is none, and thus no CUDA."""
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("the CUDA driver's library is not there")


@contextmanager
def _context(library: Any, index: int) -> Iterator[None]:
    """Makes the device's primary context current for the block; onnxruntime and PyTorch use the same one."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _succeed(library.cuInit(0))
    _succeed(library.cuDeviceGet(ctypes.byref(device), index))
    _succeed(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _succeed(library.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            library.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        library.cuDevicePrimaryCtxRelease_v2(device)


def _succeed(code: int) -> None:
    if code != 0:
        raise OSError(f"the CUDA driver answers with error {code}")


def _nvidia_smi(index: int) -> int | None:
    """Free bytes of the device with this index in the process; nvidia-smi numbers all devices of the machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [v.strip() for v in chosen.split(",") if v.strip()] if chosen is not None else [str(index)] * (index + 1)
    if index >= len(visible):
        return None
    command = ["nvidia-smi", f"--id={visible[index]}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    first = done.stdout.strip().splitlines()[:1]
    return int(first[0]) * 2**20 if first and first[0].strip().isdigit() else None
