"""Maps on the device: explain_on_device() makes the map of a Saliency there, as onnxruntime's OrtValue."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device, device_of, provider_on, turn_on
from onnxcam.engine.forking import Lock
from onnxcam.engine.session import Session, runtime
from onnxcam.errors import InferenceError, OptionError
from onnxcam.outputs.saliency import Provenance, Saliency, ScoredTarget
from onnxcam.surgeon.graphs.tensor_names import MAP, RAW
from onnxcam.types import Finish, Floats, Placement

if TYPE_CHECKING:
    from onnxcam.engine.io_binding import BoundSession


@dataclass(frozen=True, eq=False)
class DeviceSaliency:
    """One explanation whose map stays on the device of the network.

    map: an onnxruntime.OrtValue, (H,W) float32 in [0,1], which exports DLPack: torch.from_dlpack(saliency.map). The
    rest is as in Saliency and on the host: raw, target, score, placement, provenance.
    """

    map: Any
    raw: Floats
    target: ScoredTarget
    score: float
    placement: Placement | None
    provenance: Provenance = field(repr=False)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # onnxruntime aborts the process when an OrtValue is pickled by protocol 0.
        raise TypeError(
            "a DeviceSaliency holds memory of a device and is not pickled; send map.numpy(), an array on the host, or "
            "the Saliency of explain()"
        )


class Finisher:
    """Computes maps on the device of the network. Each size of map has a small graph, which is opened when needed.

    Safe to use from several threads.
    """

    def __init__(self, provider: str, threads: int | None, device_index: int = 0) -> None:
        """provider: short name of the network's provider. device_index: number of the device that it runs on."""
        self._provider = "cuda" if provider == "tensorrt" else provider
        self._network_provider, self._threads, self._device_index = provider, threads, device_index
        self._opened: dict[tuple[tuple[int, ...], tuple[int, ...], Finish], tuple[Session, BoundSession]] = {}
        self._lock, self._closed = Lock(), False

    def on_device(self, saliency: Saliency) -> DeviceSaliency:
        """The same explanation with its map on the device.

        A map that follows from its raw map by resizing and ReLU is computed there; any other is copied there. Raises
        OptionError for a provider whose tensors cannot be bound, InferenceError once this is closed.
        """
        device = device_of(self._provider, self._device_index)
        if device is None:
            raise OptionError(
                f"maps on a device need the provider cpu, cuda, tensorrt or webgpu, not {self._network_provider}"
            )
        if saliency.finish is Finish.OWN:
            # On the CPU an OrtValue shares the array's memory, and a reader through DLPack may write to it: so copy.
            copy: npt.NDArray[np.float32] = np.array(saliency.map)
            with turn_on(device.kind):
                value = runtime().OrtValue.ortvalue_from_numpy(copy, device.kind, device.index)
        else:
            session = self._session(saliency, device)
            value = session.new(saliency.map.shape)
            session.run([], {RAW: np.array(saliency.raw)}, device_outputs={MAP: value})
        return DeviceSaliency(
            value, saliency.raw, saliency.target, saliency.score, saliency.placement, saliency.provenance
        )

    def close(self) -> None:
        """Frees the sessions."""
        with self._lock:
            self._closed = True
            for session, _ in self._opened.values():
                session.close()
            self._opened.clear()

    def _session(self, saliency: Saliency, device: Device) -> "BoundSession":
        from onnxcam.engine.io_binding import BoundSession

        key = (saliency.raw.shape, saliency.map.shape, saliency.finish)
        with self._lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if key not in self._opened:

                def graph() -> bytes:
                    from onnxcam.surgeon import ir
                    from onnxcam.surgeon.graphs.finish_map import finishing_model

                    return ir.to_bytes(finishing_model(key[0], key[1], coarse=key[2] is Finish.COARSE))

                session = Session(graph(), (provider_on(device),), self._threads, again=graph)
                self._opened[key] = session, BoundSession(session, device)
            return self._opened[key][1]
