"""Devices as onnxruntime names them, and how much of their memory is free."""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from onnxcam.engine.batching import ON_DEVICE, choose_batch
from onnxcam.errors import ProviderError
from onnxcam.types import Note, NoteCode

DEVICES: Mapping[str, str] = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""Where a provider's tensors lie, by its short name. Of the others, onnxruntime's IO binding is not used."""
DRIVERS = ("libcuda.so.1", "nvcuda.dll")
PATIENCE = 10
"""Seconds for nvidia-smi."""


@dataclass(frozen=True)
class Device:
    """kind: 'cpu' or 'cuda'. index: among the devices that the process sees (CUDA_VISIBLE_DEVICES)."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


def device_of(provider: str) -> Device | None:
    """Where the provider of this short name keeps its tensors; None where no binding is known."""
    kind = DEVICES.get(provider)
    return Device(kind) if kind is not None else None


@dataclass(frozen=True)
class Chunk:
    """Masks that go through at once, and what has to be said about the choice."""

    batch: int
    notes: tuple[Note, ...] = ()


def chunk_on(device: Device, bytes_per_picture: int, weights: int, cap: int | None, asked: int | None) -> Chunk:
    """As many masks as a share of the free device memory holds, at most ON_DEVICE; what was asked for comes first.

    weights: bytes that the open graph holds already, which count towards the cap but are free memory no more.
    """
    free, why = free_memory_of(device)
    room = [value for value in (free, cap - weights if cap is not None else None) if value is not None]
    if asked is not None or room:
        return Chunk(choose_batch(bytes_per_picture, max(0, min(room, default=0)), ON_DEVICE, asked))
    text = f"free memory of {device} is not known ({why}), so {ON_DEVICE} masks go through at once"
    return Chunk(ON_DEVICE, (Note(NoteCode.DEVICE_MEMORY_UNKNOWN, text),))


def free_memory_of(device: Device) -> tuple[int | None, str]:
    """Bytes and who said so, or None and why nobody did: the CUDA driver is asked, then nvidia-smi."""
    try:
        library = _driver()
        with _context(library, device.index):
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            _succeed(library.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
        return int(free.value), "the CUDA driver"
    except OSError as error:
        refused = str(error)
    found = _nvidia_smi(device.index)
    return (found, "nvidia-smi") if found is not None else (None, f"{refused}; nvidia-smi does not answer")


def synchronise(device: Device) -> None:
    """Waits until all that was begun on the device is done, whoever began it. Raises ProviderError."""
    if device.kind == "cpu":
        return
    try:
        library = _driver()
        with _context(library, device.index):
            _succeed(library.cuCtxSynchronize())
    except OSError as error:
        raise ProviderError(f"{device} cannot be waited for ({error}); give the picture as a NumPy array") from None


def _driver() -> Any:
    """The driver's library, which every machine with a working CUDA provider has; raises OSError."""
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("the CUDA driver's library is not there")


@contextmanager
def _context(library: Any, index: int) -> Iterator[None]:
    """The device's primary context, which onnxruntime and PyTorch use too, made current for the block."""
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
    """nvidia-smi counts all devices of the machine, so the process's own choice is looked up."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [v.strip() for v in chosen.split(",") if v.strip()] if chosen is not None else [str(index)] * (index + 1)
    if index >= len(visible):
        return None
    command = ["nvidia-smi", f"--id={visible[index]}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    first = done.stdout.strip().splitlines()[:1]
    return int(first[0]) * 2**20 if first and first[0].strip().isdigit() else None
