"""Feature maps that stay on the device after the forward pass, and masks and sums that are made of them there.

DeviceFeatures and DeviceMasks are what types.FeaturesOnDevice and types.MasksOnDevice promise; methods use them like
arrays. DeviceOps runs the small graphs of surgeon/graphs/device_kernels.py that they need.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import onnx_ir

from onnxcam.engine.devices import Device, provider_on
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.graphs import device_kernels
from onnxcam.surgeon.graphs.masked_score import FEATURES
from onnxcam.surgeon.ir import Model, to_bytes
from onnxcam.types import Arrays, Features, Floats, Indices


class DeviceOps:
    """Runs the graphs of device_kernels.py on one device. Each is opened when it is first needed.

    Every operation raises InferenceError after close(), and ProviderError if its graph does not start.
    """

    def __init__(self, tensor: FeatureTensor, device: Device, network: BoundSession, engine: EngineOptions) -> None:
        """network: the scoring graph's session; operations take turns with its runs."""
        self.tensor, self._device, self.network = tensor, device, network
        self._engine = EngineOptions(engine.gpu_mem)  # no CUDA graphs: sizes differ
        self._opened: dict[str, tuple[Session, BoundSession]] = {}
        self._closed = False

    def stats(self, value: Any) -> "FeatureStats":
        """Cuts the feature tensor, an OrtValue, into maps. Of a batch, the first image counts."""
        bound = self._bound("channels", lambda: device_kernels.channels_model(self.tensor))
        maps = bound.new((self.tensor.channels, 1, *self.tensor.grid))
        finite, extent, peak = bound.run(
            [device_kernels.FINITE, device_kernels.EXTENT, device_kernels.PEAK],
            {},
            device_inputs={FEATURES: value},
            device_outputs={device_kernels.CHANNELS: maps},
        )
        return FeatureStats(maps, bool(finite), extent, peak)

    def pick(self, maps: Any, indices: Indices, sign: float, into: Any = None) -> Any:
        """The rows of these indices of an OrtValue (K,...), times the sign: as a new OrtValue (k,...), or `into` it."""
        shape = tuple(maps.shape())
        bound = self._bound(f"pick {len(shape)}", lambda: device_kernels.picking_model(len(shape)))
        picked = bound.new((len(indices), *shape[1:])) if into is None else into
        feeds: Arrays = {device_kernels.CHOSEN: indices, device_kernels.SIGN: np.asarray(sign, np.float32)}
        places = {device_kernels.PICKED: picked}
        bound.run([], feeds, device_inputs={device_kernels.ROWS: maps}, device_outputs=places)
        return picked

    def sum(self, maps: Any, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,cells) on the host: weights (T,K) times the maps, an OrtValue (K,1,*grid)."""
        dtype = onnx_ir.DataType.DOUBLE if self._device.has_float64 else onnx_ir.DataType.FLOAT
        bound = self._bound("sum", lambda: device_kernels.summing_model(self.tensor, dtype))
        feeds: Arrays = {device_kernels.WEIGHTS: weights.astype(dtype.numpy())}
        return bound.run([device_kernels.SUM], feeds, device_inputs={device_kernels.CHANNELS: maps})[0]

    def with_batch_axis(self, value: Any) -> Any:
        """A copy of the OrtValue (C,*size) as (1,C,*size), made on the device."""
        sides = tuple(value.shape())
        bound = self._bound(f"batch {sides}", lambda: device_kernels.batching_model(sides))
        batch = bound.new((1, *sides))
        bound.run([], {}, device_inputs={device_kernels.ROWS: value}, device_outputs={device_kernels.PICKED: batch})
        return batch

    def close(self) -> None:
        with self.network.lock:
            self._closed = True
            for session, _ in self._opened.values():
                session.close()
            self._opened.clear()

    def _bound(self, name: str, model: Callable[[], Model]) -> BoundSession:
        with self.network.lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if name not in self._opened:
                session = Session(to_bytes(model()), (provider_on(self._device),), threads=1, engine=self._engine)
                self._opened[name] = session, BoundSession(session, self._device, lock_of=self.network)
            return self._opened[name][1]


@dataclass(frozen=True, eq=False)
class FeatureStats:
    """maps: (K,1,*grid) as an OrtValue. finite, extent, peak: as types.FeaturesOnDevice has them."""

    maps: Any
    finite: bool
    extent: Floats
    peak: Floats


class DeviceFeatures:
    """types.FeaturesOnDevice. The statistics are computed, and the maps are copied to the host, when first needed."""

    def __init__(self, ops: DeviceOps, value: Any) -> None:
        """value: the network's feature tensor, which is freed once the maps are cut out of it."""
        self.ops, self._value = ops, value
        self._computed: FeatureStats | None = None
        self._copy: Features | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.ops.tensor.channels, *self.ops.tensor.grid)

    @property
    def host(self) -> Features:
        with self.ops.network.lock:
            if self._copy is None:
                self._copy = self.ops.network.read(self._stats.maps).reshape(self.shape)
            return self._copy

    @property
    def finite(self) -> bool:
        return self._stats.finite

    @property
    def extent(self) -> Floats:
        return self._stats.extent

    @property
    def peak(self) -> Floats:
        return self._stats.peak

    def masks(self, chosen: Indices) -> "DeviceMasks":
        return DeviceMasks(self, chosen)

    @property
    def maps(self) -> Any:
        """The maps on the device, an OrtValue (K,1,*grid)."""
        return self._stats.maps

    @property
    def _stats(self) -> FeatureStats:
        with self.ops.network.lock:
            if self._computed is None:
                self._computed, self._value = self.ops.stats(self._value), None
            return self._computed


@dataclass(frozen=True, eq=False)
class DeviceMasks:
    """types.MasksOnDevice: feature maps of these indices times the sign. They are copied together when they are fed."""

    features: DeviceFeatures
    indices: Indices
    sign: float = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), 1, *self.features.shape[1:])

    def __len__(self) -> int:
        return len(self.indices)

    def __neg__(self) -> Self:
        return replace(self, sign=-self.sign)

    def __getitem__(self, indices: slice | Indices) -> Self:
        return replace(self, indices=self.indices[indices])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(np.float32(self.sign) * self.features.host[self.indices, None], dtype)

    def summed(self, weights: npt.NDArray[np.float64]) -> Floats:
        of_all_maps = np.zeros((self.features.shape[0], weights.shape[1]))
        np.add.at(of_all_maps, self.indices, self.sign * weights)  # an index may occur twice
        sums = self.features.ops.sum(self.features.maps, of_all_maps.T)
        return sums.reshape(-1, *self.shape[2:])

    def gathered(self, indices: Indices, into: Any = None) -> Any:
        return self.features.ops.pick(self.features.maps, self.indices[indices], self.sign, into)
