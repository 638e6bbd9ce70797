"""Feature maps that stay on the device: which of them vary, masks made of them, and sums of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Features, Floats
from onnxcam.engine.memory import Device
from onnxcam.engine.options import EngineOptions
from onnxcam.engine.resident import Resident
from onnxcam.engine.session import Session
from onnxcam.engine.spans import Span
from onnxcam.surgeon import held
from onnxcam.surgeon.anatomy import FeatureTensor
from onnxcam.surgeon.graph import Model, to_bytes
from onnxcam.surgeon.masking import FEATURES

Indices = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[np.generic]]


class Shelf:
    """Runs the graphs of surgeon/held.py on one device. Everything raises InferenceError once it is closed."""

    def __init__(self, tensor: FeatureTensor, device: Device, network: Resident, engine: EngineOptions) -> None:
        """network: the scoring graph's runs, between which these come. Raises ModelError and ProviderError."""
        self.tensor, self._network = tensor, network
        self._sessions: list[Session] = []

        def opened(model: Model) -> Resident:
            session = Session(to_bytes(model), (device.kind,), threads=1, engine=engine.uncaptured)
            self._sessions.append(session)
            return Resident(session, device, beside=network)

        self._channels = opened(held.channels_model(tensor))
        self._picking, self._summing = opened(held.picking_model()), opened(held.summing_model())

    def hold(self, value: Any) -> "HeldFeatures":
        """value: the network's feature tensor as an OrtValue, of one picture, or of a batch whose first is meant."""
        shape = (self.tensor.channels, 1, *self.tensor.grid)
        maps, given = self._channels.new(shape), {FEATURES: Span(value, tuple(value.shape()))}
        finite, extent, peak = self._channels.run(
            [held.FINITE, held.EXTENT, held.PEAK], {}, there=given, into={held.CHANNELS: Span(maps, shape)}
        )
        return HeldFeatures(self, maps, bool(finite), extent, peak)

    def pick(self, rows: Span, chosen: Indices, sign: float = 1, into: Span | None = None) -> Any:
        """Rows of (K,n) times the sign, in the order of `chosen`: an OrtValue (k,n), or what `into` is part of."""
        shape = (len(chosen), rows.shape[1])
        found = into if into is not None else Span(self._picking.new(shape), shape)
        feeds: Arrays = {held.CHOSEN: chosen, held.SIGN: np.asarray(sign, np.float32)}
        self._picking.run([], feeds, there={held.ROWS: rows}, into={held.PICKED: replace(found, shape=shape)})
        return found.value

    def sum(self, rows: Span, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,n) on the host: the rows (K,n) times weights (T,K)."""
        (found,) = self._summing.run([held.SUM], {held.WEIGHTS: weights}, there={held.ROWS: rows})
        return found

    def read(self, value: Any) -> Floats:
        """A copy of an OrtValue on the host."""
        return self._network.read(value)

    def close(self) -> None:
        for session in self._sessions:
            session.close()


@dataclass(frozen=True, eq=False)
class HeldFeatures:
    """arrays.FeaturesOnDevice. maps: (K,1,*grid) as an OrtValue."""

    shelf: Shelf
    maps: Any
    finite: bool
    extent: Floats
    peak: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.shelf.tensor.channels, *self.shelf.tensor.grid)

    @cached_property
    def host(self) -> Features:
        return self.shelf.read(self.maps).reshape(self.shape)

    def masks(self, chosen: Indices) -> "HeldMasks":
        return HeldMasks(self, chosen)

    @property
    def rows(self) -> Span:
        """(K,cells) on the device."""
        return Span(self.maps, (self.shape[0], int(np.prod(self.shape[1:]))))


@dataclass(frozen=True, eq=False)
class HeldMasks:
    """arrays.MasksOnDevice: the chosen feature maps times the sign, which are put together where they are needed."""

    features: HeldFeatures
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
        return self.features.shelf.sum(self.features.rows, np.ascontiguousarray(every.T)).reshape(-1, *self.shape[2:])

    def gathered(self, rows: Indices, into: Span | None = None) -> Any:
        return self.features.shelf.pick(self.features.rows, self.chosen[rows], self.sign, into)
