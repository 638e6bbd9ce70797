"""Feature maps that stay on the device: how each varies, masks made of them, and sums of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device
from onnxcam.engine.io_binding import BoundSession
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.session import Session
from onnxcam.engine.views import TensorView
from onnxcam.errors import InferenceError
from onnxcam.surgeon.analysis.anatomy import FeatureTensor
from onnxcam.surgeon.graphs import device_kernels
from onnxcam.surgeon.graphs.masked_score import FEATURES
from onnxcam.surgeon.ir import Model, to_bytes
from onnxcam.types import Arrays, Features, Floats

Indices = npt.NDArray[np.int64]


class DeviceOps:
    """Runs the graphs of surgeon/held.py on one device, each opened when it is first needed.

    Whatever runs there raises InferenceError once this is closed, and ProviderError where its graph does not start.
    """

    def __init__(self, tensor: FeatureTensor, device: Device, network: BoundSession, engine: EngineOptions) -> None:
        """network: the scoring graph's runs, between which these come."""
        self.tensor, self._device, self._engine, self.network = tensor, device, engine.without_cuda_graph, network
        self._opened: dict[str, tuple[Session, BoundSession]] = {}
        self._closed = False

    def stats(self, value: Any) -> "FeatureStats":
        """value: the network's feature tensor as an OrtValue, of one picture, or of a batch whose first is meant."""
        resident, shape = self._resident("channels"), (self.tensor.channels, 1, *self.tensor.grid)
        maps, given = resident.new(shape), {FEATURES: TensorView(value, tuple(value.shape()))}
        finite, extent, peak = resident.run(
            [device_kernels.FINITE, device_kernels.EXTENT, device_kernels.PEAK],
            {},
            device_inputs=given,
            device_outputs={device_kernels.CHANNELS: TensorView(maps, shape)},
        )
        return FeatureStats(maps, bool(finite), extent, peak)

    def pick(self, rows: TensorView, chosen: Indices, sign: float = 1, into: TensorView | None = None) -> Any:
        """Rows of (K,n) times the sign, in the order of `chosen`: an OrtValue (k,n), or what `into` is part of."""
        resident, shape = self._resident("pick"), (len(chosen), rows.shape[1])
        found = into if into is not None else TensorView(resident.new(shape), shape)
        feeds: Arrays = {device_kernels.CHOSEN: chosen, device_kernels.SIGN: np.asarray(sign, np.float32)}
        resident.run(
            [],
            feeds,
            device_inputs={device_kernels.ROWS: rows},
            device_outputs={device_kernels.PICKED: replace(found, shape=shape)},
        )
        return found.value

    def sum(self, rows: TensorView, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,n) on the host: the rows (K,n) times weights (T,K)."""
        (found,) = self._resident("sum").run(
            [device_kernels.SUM], {device_kernels.WEIGHTS: weights}, device_inputs={device_kernels.ROWS: rows}
        )
        return found

    def close(self) -> None:
        with self.network.lock:
            self._closed = True
            for session, _ in self._opened.values():
                session.close()
            self._opened.clear()

    def _resident(self, name: str) -> BoundSession:
        made: Mapping[str, Callable[[], Model]] = {
            "channels": lambda: device_kernels.channels_model(self.tensor),
            "pick": device_kernels.picking_model,
            "sum": device_kernels.summing_model,
        }
        with self.network.lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if name not in self._opened:
                session = Session(to_bytes(made[name]()), (self._device.kind,), threads=1, engine=self._engine)
                self._opened[name] = session, BoundSession(session, self._device, lock_of=self.network)
            return self._opened[name][1]


@dataclass(frozen=True, eq=False)
class FeatureStats:
    """maps: (K,1,*grid) as an OrtValue. extent, peak: as arrays.FeaturesOnDevice has them."""

    maps: Any
    finite: bool
    extent: Floats
    peak: Floats


class DeviceFeatures:
    """arrays.FeaturesOnDevice. Nothing is asked of them before it is needed."""

    def __init__(self, ops: DeviceOps, value: Any) -> None:
        """value: the feature tensor as the network gave it, which is let go of once the maps are made of it."""
        self.ops, self._value = ops, value
        self._known: FeatureStats | None = None
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
        """(K,cells) on the device."""
        return TensorView(self._stats.maps, (self.shape[0], int(np.prod(self.shape[1:]))))

    @property
    def _stats(self) -> FeatureStats:
        with self.ops.network.lock:
            if self._known is None:
                self._known, self._value = self.ops.stats(self._value), None
            return self._known


@dataclass(frozen=True, eq=False)
class DeviceMasks:
    """arrays.MasksOnDevice: the chosen feature maps times the sign, which are put together where they are needed."""

    features: DeviceFeatures
    chosen: Indices
    sign: float = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.chosen), 1, *self.features.shape[1:])

    def __len__(self) -> int:
        return len(self.chosen)

    def __neg__(self) -> Self:
        return replace(self, sign=-self.sign)

    def __getitem__(self, rows: slice | Indices) -> Self:
        return replace(self, chosen=self.chosen[rows])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(np.float32(self.sign) * self.features.host[self.chosen, None], dtype)

    def summed(self, weights: npt.NDArray[np.float64]) -> Floats:
        every = np.zeros((self.features.shape[0], weights.shape[1]))
        np.add.at(every, self.chosen, self.sign * weights)  # a map may have been chosen twice
        return self.features.ops.sum(self.features.rows, np.ascontiguousarray(every.T)).reshape(-1, *self.shape[2:])

    def gathered(self, rows: Indices, into: TensorView | None = None) -> Any:
        return self.features.ops.pick(self.features.rows, self.chosen[rows], self.sign, into)
