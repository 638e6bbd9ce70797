"""Runs whose tensors stay on a device: BoundSession uploads an image once and downloads only what is asked for.

Tensors are whole OrtValues, bound without addresses or parts of buffers: every provider that binds them takes the same
code. So does the CPU, where a tensor "on the device" is one that onnxruntime need not copy.
"""

import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.batching import halved
from onnxcam.engine.devices import Device
from onnxcam.engine.devices import lock_of as device_lock
from onnxcam.engine.forking import Lock
from onnxcam.engine.session import Session, runtime
from onnxcam.errors import OutOfMemory
from onnxcam.types import AnyMasks, Arrays, Floats, Indices, Progress

Array = npt.NDArray[Any]
MAX_UPLOADS = 48
"""Uploaded arrays that are kept: what stays the same for all masks of the present images, and of the next ones."""
_Key = tuple[int, tuple[tuple[int, int], ...], str]
MAX_GRAPHS = 8
"""CUDA graphs that are recorded. Each keeps its own buffers; further shapes run without a graph."""


@dataclass(frozen=True)
class ScoreRequest:
    """Masks to run through a graph, and where its scores are.

    input: the graph input that takes the masks. output: the graph output with the scores, (K, columns).
    """

    input: str
    masks: AnyMasks
    output: str
    columns: int


@dataclass(frozen=True, eq=False)
class _GraphBuffers:
    """OrtValues with fixed addresses, for a CUDA graph. number: the graph's, None if none is recorded."""

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
        self._uploads: OrderedDict[_Key, tuple[Array, Any]] = OrderedDict()
        self._graph_buffers: dict[tuple[Any, ...], _GraphBuffers] = {}
        self.lock: Lock = device_lock(device) if lock_of is None else lock_of.lock
        self._max_uploads = MAX_UPLOADS if lock_of is None else 0

    def register_device_copy(self, array: Array, value: Any) -> None:
        """Uses `value`, an OrtValue on this device with the same shape and numbers, whenever this array is fed."""
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
        device_inputs: Mapping[str, Any] | None = None,
        device_outputs: Mapping[str, Any] | None = None,
        pictures: int = 1,
    ) -> list[Floats]:
        """Returns the named outputs on the host, in that order.

        device_inputs: OrtValues on the device, by the name of the input. device_outputs: outputs that stay there, and
        the OrtValue that each is written to. pictures: as Session.run takes it. Raises OutOfMemory, TimedOut or
        InferenceError.
        """
        with self.lock, self._session.translating():
            fed = {name: self._uploaded(array) for name, array in feeds.items() if name in self._session.inputs}
            binding = self._binding({**fed, **(device_inputs or {})}, device_outputs or {})
            for name in outputs:
                binding.bind_output(name)
            self._session.run_bound(binding, pictures=pictures)
            return [np.array(value.numpy()) for value in binding.get_outputs()[len(device_outputs or {}) :]]

    def new(self, shape: tuple[int, ...]) -> Any:
        """Returns a new OrtValue (float32, of this shape) on the device, not filled yet. It outlives the session."""
        make = runtime().OrtValue.ortvalue_from_shape_and_type
        with self.lock, self._session.translating():
            value = make(list(shape), np.float32, self._device.kind, self._device.index)
        if self._device.kind == "webgpu":  # whoever drops it last, its buffer is freed in turn too
            weakref.finalize(value, _free, self.lock, [value._ortvalue]).atexit = False
        return value

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
        count, done = len(request.masks), 0
        scores: list[Floats] = []
        score_chunk = self._replayed if self._graphs else self._scored
        with self.lock:
            while done < count:
                chunk = request.masks[done : done + batch]
                size = batch if self.pad_to_batch else len(chunk)
                try:
                    scores.append(score_chunk(feeds, request, chunk, size)[: len(chunk)])
                except OutOfMemory as error:
                    batch = self._halved(size, error)
                    continue
                done += len(chunk)
                if progress is not None:
                    progress(done, count)
        return np.concatenate(scores), batch

    def _scored(self, feeds: Arrays, request: ScoreRequest, chunk: AnyMasks, size: int) -> Floats:
        """(size, columns) scores of these masks, the last one repeated to fill up."""
        masks, indices = chunk, _padded_indices(len(chunk), size)
        value = self._to_device(masks[indices]) if isinstance(masks, np.ndarray) else masks.gathered(indices)
        return self.run([request.output], feeds, device_inputs={request.input: value}, pictures=size)[0]

    def _replayed(self, feeds: Arrays, request: ScoreRequest, chunk: AnyMasks, size: int) -> Floats:
        """_scored() through OrtValues with fixed addresses, which a CUDA graph can replay."""
        buffers, indices = self._buffers_for(feeds, request, size), _padded_indices(len(chunk), size)
        if isinstance(chunk, np.ndarray):
            self._fill(buffers, {request.input: np.ascontiguousarray(chunk[indices])})
        else:
            chunk.gathered(indices, into=buffers.inputs[request.input])
        self._session.run_bound(buffers.binding, graph=buffers.number, pictures=size)
        return self.read(buffers.output)

    def _fill(self, buffers: _GraphBuffers, arrays: Arrays) -> None:
        with self._session.translating():
            for name, array in arrays.items():
                buffers.inputs[name].update_inplace(array)
            buffers.binding.synchronize_inputs()

    def _buffers_for(self, feeds: Arrays, request: ScoreRequest, batch: int) -> _GraphBuffers:
        """Buffers for these shapes, filled with the feeds. Allocates them when the shapes are new."""
        inputs = self._session.inputs
        arrays = {n: np.ascontiguousarray(a) for n, a in feeds.items() if n in inputs and n != request.input}
        shapes = tuple((n, a.shape) for n, a in sorted(arrays.items()))
        key = (request.output, request.columns, batch, request.masks.shape[1:], shapes)
        if key in self._graph_buffers:
            self._fill(self._graph_buffers[key], arrays)
            return self._graph_buffers[key]
        output = self.new((batch, request.columns))
        # Copies: on the CPU an OrtValue made of an array shares its memory.
        values = {n: self._to_device(np.array(a)) for n, a in arrays.items()}
        values[request.input] = self.new((batch, *request.masks.shape[1:]))
        number = len(self._graph_buffers) + 1 if len(self._graph_buffers) < MAX_GRAPHS else None
        buffers = _GraphBuffers(self._binding(values, {request.output: output}), values, output, number)
        if number is not None:
            self._graph_buffers[key] = buffers
        return buffers

    def _binding(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        """A binding of these OrtValues, which it keeps alive."""
        binding = self._session.binding()
        with self._session.translating():
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            for name, value in outputs.items():
                binding.bind_ortvalue_output(name, value)
            binding.synchronize_inputs()
        return binding

    def _halved(self, size: int, error: OutOfMemory) -> int:
        if size == 1 or self._fixed:
            what = "one picture alone does" if size == 1 else f"the {size} pictures that the model is fixed to do"
            raise OutOfMemory(f"{what} not fit into memory: {error}") from None
        return halved(size)

    def _uploaded(self, array: Array) -> Any:
        upload = self._uploads.get(_key(array))
        if upload is not None:
            self._uploads.move_to_end(_key(array))
            return upload[1]
        value = self._to_device(array)
        self._keep(array, value)
        return value

    def _keep(self, array: Array, value: Any) -> None:
        """Keeps the array too: while it lives, no other array can have its address, which is the key."""
        self._uploads[_key(array)] = (array, value)
        while len(self._uploads) > self._max_uploads:
            self._uploads.popitem(last=False)

    def _to_device(self, array: Array) -> Any:
        with self._session.translating():
            contiguous = np.asarray(array, order="C")
            return runtime().OrtValue.ortvalue_from_numpy(contiguous, self._device.kind, self._device.index)


def _free(lock: Lock, held: list[Any]) -> None:
    with lock:
        held.clear()


def _padded_indices(count: int, size: int) -> Indices:
    """(size,) indices of `count` samples, the last one repeated to fill up."""
    return np.minimum(np.arange(size), count - 1)


def _key(array: Array) -> _Key:
    """Identifies an array while it is kept: address, sides and strides, of which that of one entry is any, and type."""
    sides = tuple((side, stride if side != 1 else 0) for side, stride in zip(array.shape, array.strides, strict=True))
    return int(array.__array_interface__["data"][0]), sides, array.dtype.str
