"""Takes preprocessed images that lie on a device: DLPack exporters (PyTorch, JAX, CuPy) and onnxruntime's OrtValue."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from onnxcam.engine.devices import Device, synchronise, turn_on
from onnxcam.engine.session import runtime
from onnxcam.errors import OptionError, PictureError
from onnxcam.types import Image

KINDS: Mapping[int, str] = {1: "cpu", 2: "cuda", 3: "cuda-pinned", 4: "opencl", 7: "vulkan", 8: "metal", 10: "rocm"}
"""DLPack's DLDeviceType."""
UNREADY = (BufferError, RuntimeError, TypeError, ValueError)
"""Errors of an array that cannot be exported, and of onnxruntime for an array that it cannot take."""


class DeviceArray(Protocol):
    """Exports DLPack: a PyTorch or JAX tensor, a CuPy array, an OrtValue."""

    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


def is_device_array(image: object) -> bool:
    """Whether the image is an OrtValue or exports DLPack; False for a NumPy array, which exports it too."""
    if isinstance(image, np.ndarray | np.generic):
        return False
    return _is_ort_value(image) or (hasattr(image, "__dlpack__") and hasattr(image, "__dlpack_device__"))


def lies_ready(image: Any, device: Device | None, shape: tuple[int, ...]) -> bool:
    """Whether this is the preprocessed image, float32 of this shape, contiguous, and where the model runs."""
    if device is None or place_of(image) != device:
        return False
    try:
        value = _as_ort_value(image)
    except (OptionError, PictureError):
        return False
    return value.data_type() == "tensor(float)" and tuple(value.shape()) in (shape, (1, *shape))


def from_device(image: Any, device: Device | None, provider: str, shape: tuple[int, ...]) -> tuple[Image, Any]:
    """The preprocessed image (C,*size) or (1,C,*size) float32 as a host array (C,*size) and as an OrtValue.

    The OrtValue is the caller's own memory; the host copy is for what is computed there (a fill, a check for NaN).
    Raises PictureError for another device, type, shape or for strides, and OptionError where the provider's tensors
    cannot be bound.
    """
    if device is None:
        raise OptionError(
            f"arrays on a device need the provider cpu, cuda, tensorrt or webgpu, not {provider}; give NumPy's"
        )
    where = place_of(image)
    if where != device:
        raise PictureError(f"the array lies on {where}, but the model runs on {device}; move it there, or give NumPy's")
    synchronise(device)  # the image may still be written, on a stream that onnxruntime does not see
    value = _as_ort_value(image)
    actual = tuple(value.shape())
    if value.data_type() != "tensor(float)" or actual not in (shape, (1, *shape)):
        raise PictureError(
            f"an array on a device is the preprocessed image, float32 of shape {shape} or {(1, *shape)}, not "
            f"{value.data_type().removeprefix('tensor(').removesuffix(')')} {actual}"
        )
    with turn_on(device.kind):
        host = np.array(value.numpy()).reshape(shape)
    if not np.isfinite(host).all():
        raise PictureError("the preprocessed image holds NaN or infinity")
    return host, value


def _is_ort_value(image: object) -> bool:
    return type(image).__name__ == "OrtValue" and type(image).__module__.startswith("onnxruntime.")


def place_of(image: Any) -> Device:
    """Where an array lies that exports DLPack, or an OrtValue."""
    if _is_ort_value(image) and (not hasattr(image, "__dlpack_device__") or image.device_name() == "webgpu"):
        return Device(str(image.device_name()).lower())  # of an older onnxruntime, or without DLPack
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
