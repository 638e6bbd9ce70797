"""Feature maps that stay on the device after the forward pass, and masks and sums that are made of them there.

DeviceFeatures and DeviceMasks are what types.FeaturesOnDevice and types.MasksOnDevice promise; methods use them like
arrays. DeviceOps runs the small graphs of surgeon/graphs/device_kernels.py that they need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device, provider_on
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.engine.views import TensorView
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
        self.tensor, self._device, self._engine, self.network = tensor, device, engine.without_cuda_graph, network
        self._opened: dict[str, tuple[Session, BoundSession]] = {}
        self._closed = False

    def stats(self, value: Any) -> "FeatureStats":
        """Cuts the feature tensor, an OrtValue, into maps. Of a batch, the first image counts."""
        bound, shape = self._bound("channels"), (self.tensor.channels, 1, *self.tensor.grid)
        maps = bound.new(shape)
        finite, extent, peak = bound.run(
            [device_kernels.FINITE, device_kernels.EXTENT, device_kernels.PEAK],
            {},
            device_inputs={FEATURES: TensorView(value, tuple(value.shape()))},
            device_outputs={device_kernels.CHANNELS: TensorView(maps, shape)},
        )
        return FeatureStats(maps, bool(finite), extent, peak)

    def pick(self, rows: TensorView, indices: Indices, sign: float = 1, into: TensorView | None = None) -> Any:
        """Copies rows of (K,n) in the order of the indices, times the sign, to `into` or a new value (k,n).

        Returns the OrtValue that was written to.
        """
        bound, shape = self._bound("pick"), (len(indices), rows.shape[1])
        output = into if into is not None else TensorView(bound.new(shape), shape)
        feeds: Arrays = {device_kernels.CHOSEN: indices, device_kernels.SIGN: np.asarray(sign, np.float32)}
        bound.run(
            [],
            feeds,
            device_inputs={device_kernels.ROWS: rows},
            device_outputs={device_kernels.PICKED: replace(output, shape=shape)},
        )
        return output.value

    def sum(self, rows: TensorView, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,n) on the host: weights (T,K) times the rows (K,n)."""
        (sums,) = self._bound("sum").run(
            [device_kernels.SUM], {device_kernels.WEIGHTS: weights}, device_inputs={device_kernels.ROWS: rows}
        )
        return sums

    def close(self) -> None:
        with self.network.lock:
            self._closed = True
            for session, _ in self._opened.values():
                session.close()
            self._opened.clear()

    def _bound(self, name: str) -> BoundSession:
        models: Mapping[str, Callable[[], Model]] = {
            "channels": lambda: device_kernels.channels_model(self.tensor),
            "pick": device_kernels.picking_model,
            "sum": device_kernels.summing_model,
        }
        with self.network.lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if name not in self._opened:
                providers = (provider_on(self._device),)
                session = Session(to_bytes(models[name]()), providers, threads=1, engine=self._engine)
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
    def rows(self) -> TensorView:
        """(K,cells) the maps on the device, one a row."""
        return TensorView(self._stats.maps, (self.shape[0], int(np.prod(self.shape[1:]))))

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
        sums = self.features.ops.sum(self.features.rows, np.ascontiguousarray(of_all_maps.T))
        return sums.reshape(-1, *self.shape[2:])

    def gathered(self, indices: Indices, into: TensorView | None = None) -> Any:
        return self.features.ops.pick(self.features.rows, self.indices[indices], self.sign, into)
