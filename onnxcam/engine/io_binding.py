"""Runs whose tensors stay on a device: BoundSession uploads an image and its masks once and downloads only the scores.

It stands on session.py. Every kind of device takes the same code, and so does the CPU, where a tensor "on the device"
is one that onnxruntime need not copy.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import halved
from onnxcam.engine.devices import Device
from onnxcam.engine.forking import Lock
from onnxcam.engine.session import Session, runtime
from onnxcam.engine.views import ScoreRequest, TensorView, padded_indices, sample_view, take_samples
from onnxcam.errors import OutOfMemory
from onnxcam.types import AnyMasks, Arrays, Floats, Progress

Array = npt.NDArray[Any]
MAX_UPLOADS = 48
"""Uploaded arrays that are kept: what stays the same for all masks of the present images, and of the next ones."""
_Key = tuple[int, tuple[tuple[int, int], ...], str]
MAX_GRAPHS = 8
"""CUDA graphs that are recorded. Each keeps its own buffers; further shapes run without a graph."""


@dataclass(frozen=True, eq=False)
class _GraphBuffers:
    """Buffers with fixed addresses, for a CUDA graph. number: the graph's, None if none is recorded."""

    binding: Any
    inputs: Mapping[str, Any]
    output: Any
    number: int | None


class BoundSession:
    """Runs of one session on one device, one at a time. Threads may share it.

    lock: taken by every run, and by callers that combine several runs. pad_to_batch: whether every run has the full
    batch.
    """

    def __init__(
        self,
        session: Session,
        device: Device,
        *,
        pad_to_batch: bool = False,
        fixed: bool = False,
        lock_of: "BoundSession | None" = None,
    ) -> None:
        """pad_to_batch: pads the last run to the full batch, for a provider that compiles a kernel for each shape.

        fixed: the graph takes no other batch. lock_of: another BoundSession on this device whose lock is shared, since
        nothing may run while a CUDA graph is recorded; uploads are then not kept, because they are used once.
        """
        self._session, self._device = session, device
        self._graphs = session.engine.cuda_graph
        self.pad_to_batch, self._fixed = pad_to_batch or fixed or self._graphs, fixed
        # Whether TensorRT keeps the order of runs that are not waited for is not documented; a CPU run always waits.
        self._queues = session.provider == "cuda" and not self._graphs
        self._uploads: OrderedDict[_Key, tuple[Array, Any]] = OrderedDict()
        self._graph_buffers: dict[tuple[Any, ...], _GraphBuffers] = {}
        self.lock: Lock = Lock(reentrant=True) if lock_of is None else lock_of.lock
        self._max_uploads = MAX_UPLOADS if lock_of is None else 0

    def register_device_copy(self, array: Array, value: Any) -> None:
        """Uses `value`, an OrtValue on this device with the same numbers, whenever this array is fed."""
        with self.lock:
            self._keep(array, value)

    def close(self) -> None:
        """Frees everything that is kept on the device."""
        with self.lock:
            self._uploads.clear()
            self._graph_buffers.clear()

    def forget(self, arrays: Iterable[Array]) -> None:
        """Drops the uploads of these arrays, whose numbers may have changed since."""
        with self.lock:
            for array in arrays:
                self._uploads.pop(_key(array), None)

    def run(
        self,
        outputs: Sequence[str],
        feeds: Arrays,
        *,
        device_inputs: Mapping[str, TensorView] | None = None,
        device_outputs: Mapping[str, TensorView] | None = None,
        pictures: int = 1,
    ) -> list[Floats]:
        """Returns the named outputs on the host, in that order.

        device_inputs: inputs that lie on the device, by name. device_outputs: outputs that stay there, and where they
        are written. pictures: as Session.run takes it. Raises OutOfMemory, TimedOut or InferenceError.
        """
        with self.lock, self._session.translating():
            binding, kept_alive = self._bound(feeds)
            for name, view in (device_inputs or {}).items():
                self._bind(binding.bind_input, name, view)
            for name, view in (device_outputs or {}).items():
                self._bind(binding.bind_output, name, view)
            for name in outputs:
                binding.bind_output(name)
            binding.synchronize_inputs()
            self._session.run_bound(binding, pictures=pictures)
            results = [np.array(value.numpy()) for value in binding.get_outputs()[len(device_outputs or {}) :]]
            del kept_alive
            return results

    def new(self, shape: tuple[int, ...]) -> Any:
        """Returns a new OrtValue (float32, of this shape) on the device, not filled yet. It outlives the session."""
        device, make = self._device, runtime().OrtValue.ortvalue_from_shape_and_type
        with self.lock, self._session.translating():
            return make(list(shape), np.float32, device.kind, device.index)

    def uploaded(self, array: Array, *, keep: bool = True) -> Any:
        """Returns the array as an OrtValue on the device. keep: for later calls with the same array."""
        with self.lock:
            return self._uploaded(array) if keep else self._to_device(np.ascontiguousarray(array))

    def read(self, value: Any) -> Floats:
        """Copies an OrtValue to the host."""
        with self.lock, self._session.translating():
            return np.array(value.numpy())

    def score(
        self, feeds: Arrays, request: ScoreRequest, batch: int, progress: Progress | None = None
    ) -> tuple[Floats, int]:
        """Returns the scores (K, columns) of the requested masks, and the batch that fitted into memory.

        When memory runs out, that chunk and all later ones run with half the batch. Raises OutOfMemory when a single
        mask, or the batch that the graph is fixed to, does not fit.
        """
        with self.lock:
            if self._graphs:
                return self._replayed(feeds, request, batch, progress)
            return self._queued(feeds, request, batch, progress)

    def _queued(
        self, feeds: Arrays, request: ScoreRequest, batch: int, progress: Progress | None
    ) -> tuple[Floats, int]:
        """Queues all chunks and waits once; each reads its masks and writes its scores in place.

        `progress` counts queued masks; the device is a few chunks behind.
        """
        count = len(request.masks)
        padded = -(-count // batch) * batch if self.pad_to_batch else count
        maps, scores = self._padded_on_device(request.masks, padded), self.new((padded, request.columns))
        binding, kept_alive = self._bound(feeds)
        binding.synchronize_inputs()
        done = 0
        try:
            while done < count:
                size = min(batch, padded - done)
                try:
                    mask_view = sample_view(maps, request.masks.shape[1:], done, size)
                    self._bind(binding.bind_input, request.input, mask_view)
                    self._bind(binding.bind_output, request.output, sample_view(scores, (request.columns,), done, size))
                    self._session.run_bound(binding, wait=not self._queues, pictures=size)
                except OutOfMemory as error:
                    batch = self._halved(size, error)
                    continue
                done += size
                if progress is not None:
                    progress(min(done, count), count)
        finally:  # also when a callback raises: no buffer may be freed while a run writes to it
            with self._session.translating():
                binding.synchronize_outputs()
            del kept_alive
        return self.read(scores)[:count], batch

    def _padded_on_device(self, masks: AnyMasks, count: int) -> Any:
        """An OrtValue with `count` masks, the last one repeated to fill up."""
        indices = padded_indices(len(masks), count)
        if isinstance(masks, np.ndarray):
            return self._to_device(take_samples(masks, indices))
        return masks.gathered(indices)

    def _bind(self, bind: Any, name: str, view: TensorView) -> None:
        """Binds by address, without a copy."""
        with self._session.translating():
            bind(name, self._device.kind, self._device.index, np.float32, list(view.shape), view.address)

    def _replayed(
        self, feeds: Arrays, request: ScoreRequest, batch: int, progress: Progress | None
    ) -> tuple[Floats, int]:
        """score() through buffers with fixed addresses, which a CUDA graph can replay; each chunk is copied in."""
        count, done = len(request.masks), 0
        scores: list[Floats] = []
        buffers = None
        while done < count:
            chunk = request.masks[done : done + batch]
            try:
                if buffers is None:
                    buffers = self._buffers_for(feeds, request, batch)
                self._fill_masks(buffers, request.input, chunk, batch)
                self._session.run_bound(buffers.binding, graph=buffers.number, pictures=batch)
                scores.append(self.read(buffers.output)[: len(chunk)])
            except OutOfMemory as error:
                batch, buffers = self._halved(batch, error), None
                continue
            done += len(chunk)
            if progress is not None:
                progress(done, count)
        return np.concatenate(scores), batch

    def _fill_masks(self, buffers: _GraphBuffers, name: str, chunk: AnyMasks, batch: int) -> None:
        indices = padded_indices(len(chunk), batch)
        if isinstance(chunk, np.ndarray):
            self._fill(buffers, {name: take_samples(chunk, indices)})
        else:
            chunk.gathered(indices, into=TensorView(buffers.inputs[name], (batch, *chunk.shape[1:])))

    def _fill(self, buffers: _GraphBuffers, arrays: Arrays) -> None:
        with self._session.translating():
            for name, array in arrays.items():
                buffers.inputs[name].update_inplace(array)
            buffers.binding.synchronize_inputs()

    def _buffers_for(self, feeds: Arrays, request: ScoreRequest, batch: int) -> _GraphBuffers:
        """Buffers for these shapes, filled with the feeds. Allocates them when the shapes are new."""
        session = self._session
        arrays = {n: np.ascontiguousarray(a) for n, a in feeds.items() if n in session.inputs and n != request.input}
        shapes = tuple((n, a.shape) for n, a in sorted(arrays.items()))
        key = (request.output, request.columns, batch, request.masks.shape[1:], shapes)
        if key in self._graph_buffers:
            self._fill(self._graph_buffers[key], arrays)
            return self._graph_buffers[key]
        binding, output = session.binding(), self.new((batch, request.columns))
        # Copies: on the CPU an OrtValue made of an array shares its memory.
        inputs = {n: self._to_device(np.array(a)) for n, a in arrays.items()}
        inputs[request.input] = self.new((batch, *request.masks.shape[1:]))
        with session.translating():
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(request.output, output)
        number = len(self._graph_buffers) + 1 if len(self._graph_buffers) < MAX_GRAPHS else None
        buffers = _GraphBuffers(binding, inputs, output, number)
        if number is not None:
            self._graph_buffers[key] = buffers
        return buffers

    def _halved(self, size: int, error: OutOfMemory) -> int:
        if size == 1 or self._fixed:
            what = "one picture alone does" if size == 1 else f"the {size} pictures that the model is fixed to do"
            raise OutOfMemory(f"{what} not fit into memory: {error}") from None
        return halved(size)

    def _bound(self, feeds: Arrays) -> tuple[Any, list[Any]]:
        """A binding of the feeds that the graph takes, by address, and the values to keep alive until the run ends."""
        binding, device = self._session.binding(), self._device
        kept_alive = []
        for name, array in feeds.items():
            if name in self._session.inputs:
                value = self._uploaded(array)
                kept_alive.append(value)
                with self._session.translating():
                    # By address, because a registered device copy may lack the batch axis.
                    shape, kind = list(array.shape), array.dtype.type
                    binding.bind_input(name, device.kind, device.index, kind, shape, value.data_ptr())
        return binding, kept_alive

    def _uploaded(self, array: Array) -> Any:
        upload = self._uploads.get(_key(array))
        if upload is not None:
            self._uploads.move_to_end(_key(array))
            return upload[1]
        value = self._to_device(np.ascontiguousarray(array))
        self._keep(array, value)
        return value

    def _keep(self, array: Array, value: Any) -> None:
        """Keeps the array too: while it lives, no other array can have its address, which is the key."""
        self._uploads[_key(array)] = (array, value)
        while len(self._uploads) > self._max_uploads:
            self._uploads.popitem(last=False)

    def _to_device(self, array: Array) -> Any:
        with self._session.translating():
            return runtime().OrtValue.ortvalue_from_numpy(array, self._device.kind, self._device.index)


def _key(array: Array) -> _Key:
    """Identifies an array while it is kept: address, sides and strides without axes of length one, and type."""
    sides = tuple(pair for pair in zip(array.shape, array.strides, strict=True) if pair[0] != 1)
    return int(array.__array_interface__["data"][0]), sides, array.dtype.str
