"""Feature maps that stay on the device: which of them vary, masks made of them, and sums of them."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from onnxcam.arrays import Features, Floats
from onnxcam.engine.memory import Device
from onnxcam.engine.resident import Resident, Span
from onnxcam.engine.session import Session
from onnxcam.errors import InferenceError
from onnxcam.surgeon import held
from onnxcam.surgeon.anatomy import FeatureTensor
from onnxcam.surgeon.graph import Model, to_bytes
from onnxcam.surgeon.masking import FEATURES

Indices = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[np.generic]]


class Shelf:
    """Runs the graphs of surgeon/held.py on one device, each opened when it is first needed."""

    def __init__(self, tensor: FeatureTensor, device: Device) -> None:
        self.tensor, self.device = tensor, device
        self._opened: dict[str, Resident] = {}
        self._sessions: list[Session] = []
        self._lock, self._closed = threading.Lock(), False

    def hold(self, value: Any) -> "HeldFeatures":
        """value: the network's feature tensor of one picture, or of a batch whose first is meant, as an OrtValue."""
        return HeldFeatures(self, value)

    def told(self, value: Any) -> tuple[Any, bool, npt.NDArray[np.bool_]]:
        """The maps (K,1,*grid) of a feature tensor as an OrtValue, whether all are finite, and (K,) which vary."""
        resident, shape = self._resident("channels"), (self.tensor.channels, 1, *self.tensor.grid)
        maps, given = resident.new(shape), {FEATURES: Span(value, tuple(value.shape()))}
        finite, live = resident.run([held.FINITE, held.LIVE], {}, there=given, into={held.CHANNELS: Span(maps, shape)})
        return maps, bool(finite), np.asarray(live, np.bool_)

    def pick(self, rows: Span, chosen: Indices, sign: float = 1, into: Span | None = None) -> Any:
        """Rows of (K,n) times the sign, in the order of `chosen`: an OrtValue (k,n), or what `into` is part of."""
        resident, shape = self._resident("pick"), (len(chosen), rows.shape[1])
        found = into if into is not None else Span(resident.new(shape), shape)
        feeds: Arrays = {held.CHOSEN: chosen, held.SIGN: np.asarray(sign, np.float32)}
        resident.run([], feeds, there={held.ROWS: rows}, into={held.PICKED: replace(found, shape=shape)})
        return found.value

    def sum(self, rows: Span, chosen: Indices, weights: npt.NDArray[np.float64]) -> Floats:
        """(T,n) on the host: the chosen rows of (K,n) times weights (T,k)."""
        feeds = {held.CHOSEN: chosen, held.WEIGHTS: weights}
        (found,) = self._resident("sum").run([held.SUM], feeds, there={held.ROWS: rows})
        return found

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for session in self._sessions:
                session.close()
            self._opened.clear()

    def _resident(self, name: str) -> Resident:
        made: Mapping[str, Callable[[], Model]] = {
            "channels": lambda: held.channels_model(self.tensor),
            "pick": held.picking_model,
            "sum": held.summing_model,
        }
        with self._lock:
            if self._closed:
                raise InferenceError("this explainer is closed")
            if name not in self._opened:
                session = Session(to_bytes(made[name]()), (self.device.kind,))
                self._sessions.append(session)
                self._opened[name] = Resident(session, self.device)
            return self._opened[name]


@dataclass(frozen=True, eq=False)
class HeldFeatures:
    """arrays.FeaturesOnDevice. value: the feature tensor as the network gave it. Raises InferenceError once closed."""

    shelf: Shelf
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.shelf.tensor.channels, *self.shelf.tensor.grid)

    @cached_property
    def host(self) -> Features:
        return np.asarray(self.shelf.tensor.to_channels(self.value.numpy())[0])

    @property
    def finite(self) -> bool:
        return self._told[1]

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        return self._told[2]

    def masks(self, chosen: Indices) -> "HeldMasks":
        return HeldMasks(self, chosen)

    @property
    def rows(self) -> Span:
        """(K,cells) on the device."""
        return Span(self._told[0], (self.shape[0], int(np.prod(self.shape[1:]))))

    @cached_property
    def _told(self) -> tuple[Any, bool, npt.NDArray[np.bool_]]:
        return self.shelf.told(self.value)


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

    def summed(self, weights: npt.NDArray[np.float64]) -> Floats:
        found = self.features.shelf.sum(self.features.rows, self.chosen, np.ascontiguousarray(self.sign * weights.T))
        return found.reshape(-1, *self.shape[2:])

    def gathered(self, rows: Indices, into: Span | None = None) -> Any:
        return self.features.shelf.pick(self.features.rows, self.chosen[rows], self.sign, into)
