"""Pictures that come on a device, and maps that stay there: DLPack and onnxruntime's OrtValue."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device, device_of, synchronise
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.session import Session, runtime
from onnxcam.engine.views import Span
from onnxcam.errors import InferenceError, OptionError, PictureError
from onnxcam.surgeon import ir
from onnxcam.surgeon.graphs.finish_map import MAP, RAW, finishing_model
from onnxcam.types import Finish, Floats, Image, Placement, Provenance, Saliency, ScoredTarget

KINDS: Mapping[int, str] = {1: "cpu", 2: "cuda", 3: "cuda-pinned", 4: "opencl", 7: "vulkan", 8: "metal", 10: "rocm"}
"""DLPack's DLDeviceType."""
UNREADY = (BufferError, RuntimeError, TypeError, ValueError)
"""What an array raises that cannot be exported, and onnxruntime for one that it cannot take."""


class DeviceArray(Protocol):
    """What exports DLPack: a PyTorch or JAX tensor, a CuPy array, an OrtValue."""

    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


@dataclass(frozen=True, eq=False)
class DeviceSaliency:
    """One explanation whose map stays where the network runs.

    map: an onnxruntime.OrtValue, (H,W) float32 in [0,1], which exports DLPack: torch.from_dlpack(saliency.map). The
    rest as in Saliency; raw is on the host.
    """

    map: Any
    raw: Floats
    target: ScoredTarget
    score: float
    placement: Placement | None
    provenance: Provenance = field(repr=False)


def is_device_array(image: object) -> bool:
    """Whether it is an OrtValue or exports DLPack; a NumPy array is a NumPy array."""
    if isinstance(image, np.ndarray | np.generic):
        return False
    return _is_ort_value(image) or (hasattr(image, "__dlpack__") and hasattr(image, "__dlpack_device__"))


def taken(image: Any, device: Device | None, provider: str, shape: tuple[int, ...]) -> tuple[Image, Any]:
    """The preprocessed image (C,*size) or (1,C,*size) float32 as a host array (C,*size) and as an OrtValue.

    The OrtValue is the caller's own memory; the host copy is for what is computed there (a fill, a check for NaN).
    Raises PictureError for another device, type, shape or for strides, and OptionError where the provider's tensors
    cannot be bound.
    """
    if device is None:
        raise OptionError(f"arrays on a device need the provider cpu, cuda or tensorrt, not {provider}; give NumPy's")
    where = _place(image)
    if where != device:
        raise PictureError(f"the array lies on {where}, but the model runs on {device}; move it there, or give NumPy's")
    synchronise(device)  # what writes the picture may still be at work, on a stream that onnxruntime does not see
    value = _as_ort_value(image)
    found = tuple(value.shape())
    if value.data_type() != "tensor(float)" or found not in (shape, (1, *shape)):
        raise PictureError(
            f"an array on a device is the preprocessed image, float32 of shape {shape} or {(1, *shape)}, not "
            f"{value.data_type().removeprefix('tensor(').removesuffix(')')} {found}"
        )
    host = np.array(value.numpy()).reshape(shape)
    if not np.isfinite(host).all():
        raise PictureError("the preprocessed image holds NaN or infinity")
    return host, value


def _is_ort_value(image: object) -> bool:
    return type(image).__name__ == "OrtValue" and type(image).__module__.startswith("onnxruntime.")


def _place(image: Any) -> Device:
    if _is_ort_value(image) and not hasattr(image, "__dlpack_device__"):  # of an older onnxruntime
        return Device(str(image.device_name()).lower())
    kind, index = (int(n) for n in image.__dlpack_device__())
    return Device(KINDS.get(kind, f"a device of type {kind}"), index)


def _as_ort_value(image: Any) -> Any:
    ort_value = runtime().OrtValue
    if _is_ort_value(image):
        return image if isinstance(image, ort_value) else ort_value(image)
    if not hasattr(ort_value, "from_dlpack"):
        raise OptionError("this onnxruntime does not read DLPack; upgrade it, or give an OrtValue or a NumPy array")
    try:
        return ort_value.from_dlpack(image)
    except UNREADY as error:
        reason = " ".join(str(error).split())
        if "contiguous" in reason:
            reason = "its numbers do not lie one behind the other; make it contiguous"
        raise PictureError(f"the array cannot be shared through DLPack: {reason[:160]}") from None


class Finisher:
    """Puts maps where the network runs; opened for a map's size when one is first asked for."""

    def __init__(self, provider: str, threads: int | None) -> None:
        """provider: the short name of the one that runs the network."""
        self._provider = "cuda" if provider == "tensorrt" else provider
        self._asked, self._threads = provider, threads
        self._opened: dict[tuple[tuple[int, ...], tuple[int, ...], Finish], tuple[Session, BoundSession]] = {}
        self._lock, self._closed = threading.Lock(), False

    def on_device(self, saliency: Saliency) -> DeviceSaliency:
        """The same explanation with its map on the device.

        A map that follows from its raw one by resizing and ReLU is made there; another is brought there.
        """
        device = device_of(self._provider)
        if device is None:
            raise OptionError(f"maps on a device need the provider cpu, cuda or tensorrt, not {self._asked}")
        if saliency.finish is Finish.OWN:
            # A copy, which an OrtValue on the CPU is: who reads it through DLPack may write to it.
            copy: npt.NDArray[np.float32] = np.array(saliency.map)
            value = runtime().OrtValue.ortvalue_from_numpy(copy, device.kind, device.index)
        else:
            resident = self._resident(saliency, device)
            value = resident.new(saliency.map.shape)
            resident.run([], {RAW: np.array(saliency.raw)}, device_outputs={MAP: Span(value, saliency.map.shape)})
        return DeviceSaliency(
            value, saliency.raw, saliency.target, saliency.score, saliency.placement, saliency.provenance
        )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for session, _ in self._opened.values():
                session.close()
            self._opened.clear()

    def _resident(self, saliency: Saliency, device: Device) -> BoundSession:
        key = (saliency.raw.shape, saliency.map.shape, saliency.finish)
        with self._lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if key not in self._opened:
                model = finishing_model(key[0], key[1], coarse=saliency.finish is Finish.COARSE)
                session = Session(ir.to_bytes(model), (self._provider,), self._threads)
                self._opened[key] = session, BoundSession(session, device)
            return self._opened[key][1]
