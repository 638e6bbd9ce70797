"""Runs whose tensors stay on the device: a picture is uploaded once, its masks once, and only the scores come back.

The same code runs on the CPU, where a tensor "on the device" is one that onnxruntime need not copy.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.engine.devices import Device
from onnxcam.engine.session import Session, runtime
from onnxcam.engine.views import Rows, Span, part, repeated, taken
from onnxcam.errors import OutOfMemory
from onnxcam.types import AnyMasks, Arrays, Floats, Progress

Array = npt.NDArray[Any]
HELD = 48
"""Uploaded arrays that are kept: what stays the same for every mask of the pictures at hand, and of the next ones."""
_Key = tuple[int, tuple[tuple[int, int], ...], str]
MOST_GRAPHS = 8
"""Recorded CUDA graphs, each of which keeps buffers of its own; further shapes run without one."""


@dataclass(frozen=True, eq=False)
class _Staged:
    """Buffers whose addresses a CUDA graph knows."""

    binding: Any
    inputs: Mapping[str, Any]
    output: Any
    number: int | None


class BoundSession:
    """One session's runs on one device, one after another: threads may share it, and the device is busy anyway.

    lock: held during each of them, and by who puts several together.
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
        """steady: every run has the whole batch, the last one padded; a provider that compiles for a shape wants that.

        fixed: the graph takes no other batch. beside: one on the same device, for which this one's runs are steps
        between its own: the two wait for each other, since a CUDA graph that is being recorded bears nothing beside
        it, and nothing that is uploaded here is used again.
        """
        self._session, self._device = session, device
        self._graphs = session.engine.cuda_graph
        self.pad_to_batch, self._fixed = pad_to_batch or fixed or self._graphs, fixed
        # TensorRT's order of runs that are not waited for is not documented; the CPU has nothing to wait for.
        self._queues = session.provider == "cuda" and not self._graphs
        self._held: OrderedDict[_Key, tuple[Array, Any]] = OrderedDict()
        self._staged: dict[tuple[Any, ...], _Staged] = {}
        self.lock: Any = threading.RLock() if lock_of is None else lock_of.lock
        self._keeps = HELD if lock_of is None else 0

    def register_device_copy(self, array: Array, value: Any) -> None:
        """From now on `value`, an OrtValue on this device with the same numbers, stands for this very array."""
        with self.lock:
            self._keep(array, value)

    def close(self) -> None:
        """Lets go of all that lies on the device."""
        with self.lock:
            self._held.clear()
            self._staged.clear()

    def forget(self, arrays: Iterable[Array]) -> None:
        """What was uploaded of these is not used again: a caller may have filled his array anew."""
        with self.lock:
            for array in arrays:
                self._held.pop(_key(array), None)

    def run(
        self,
        outputs: Sequence[str],
        feeds: Arrays,
        *,
        device_inputs: Mapping[str, Span] | None = None,
        device_outputs: Mapping[str, Span] | None = None,
    ) -> list[Floats]:
        """The named outputs on the host, in that order.

        device_inputs: inputs that lie on the device, by name. device_outputs: outputs that stay there, and where.
        """
        with self.lock, self._session.translating():
            binding, held = self._bound(feeds)
            for name, span in (device_inputs or {}).items():
                self._bind(binding.bind_input, name, span)
            for name, span in (device_outputs or {}).items():
                self._bind(binding.bind_output, name, span)
            for name in outputs:
                binding.bind_output(name)
            binding.synchronize_inputs()
            self._session.run_bound(binding)
            found = [np.array(value.numpy()) for value in binding.get_outputs()[len(device_outputs or {}) :]]
            del held
            return found

    def new(self, shape: tuple[int, ...]) -> Any:
        """An OrtValue (float32, of this shape) on the device, not filled yet, that outlives the session."""
        device, make = self._device, runtime().OrtValue.ortvalue_from_shape_and_type
        with self.lock, self._session.translating():
            return make(list(shape), np.float32, device.kind, device.index)

    def uploaded(self, array: Array, *, keep: bool = True) -> Any:
        """What stands for the array on the device: an OrtValue, kept for the next time or not."""
        with self.lock:
            return self._uploaded(array) if keep else self._made(np.ascontiguousarray(array))

    def read(self, value: Any) -> Floats:
        """A copy on the host."""
        with self.lock, self._session.translating():
            return np.array(value.numpy())

    def score(self, feeds: Arrays, rows: Rows, batch: int, progress: Progress | None = None) -> tuple[Floats, int]:
        """(K, columns) numbers, and the batch that fitted: halved, as all that follows, where memory ran out.

        Raises OutOfMemory when a single row, or the batch that the graph is fixed to, does not fit.
        """
        with self.lock:
            if self._graphs:
                return self._replayed(feeds, rows, batch, progress)
            return self._queued(feeds, rows, batch, progress)

    def _queued(self, feeds: Arrays, rows: Rows, batch: int, progress: Progress | None) -> tuple[Floats, int]:
        """Every chunk reads its part of the masks and writes its part of the scores in place; one wait at the end.

        Progress tells of what was queued, which the device is a few chunks behind.
        """
        count = len(rows.masks)
        every = -(-count // batch) * batch if self.pad_to_batch else count
        maps, found = self._there(rows.masks, every), self.new((every, rows.columns))
        binding, held = self._bound(feeds)
        binding.synchronize_inputs()
        done = 0
        try:
            while done < count:
                size = min(batch, every - done)
                try:
                    self._bind(binding.bind_input, rows.name, part(maps, rows.masks.shape[1:], done, size))
                    self._bind(binding.bind_output, rows.output, part(found, (rows.columns,), done, size))
                    self._session.run_bound(binding, wait=not self._queues)
                except OutOfMemory as error:
                    batch = self._halved(size, error)
                    continue
                done += size
                if progress is not None:
                    progress(min(done, count), count)
        finally:  # also when a callback raises: the buffers are not let go while something writes to them
            with self._session.translating():
                binding.synchronize_outputs()
            del held
        return self.read(found)[:count], batch

    def _there(self, masks: AnyMasks, count: int) -> Any:
        """On the device, the last mask repeated until there are so many."""
        rows = repeated(len(masks), count)
        return masks.gathered(rows) if not isinstance(masks, np.ndarray) else self._made(taken(masks, rows))

    def _bind(self, bind: Any, name: str, span: Span) -> None:
        """By address, without a copy."""
        with self._session.translating():
            bind(name, self._device.kind, self._device.index, np.float32, list(span.shape), span.address)

    def _replayed(self, feeds: Arrays, rows: Rows, batch: int, progress: Progress | None) -> tuple[Floats, int]:
        """The same through fixed buffers, into which each chunk is copied: what a CUDA graph can replay."""
        count, done = len(rows.masks), 0
        found: list[Floats] = []
        staged = None
        while done < count:
            chunk = rows.masks[done : done + batch]
            try:
                if staged is None:
                    staged = self._stage(feeds, rows, batch)
                self._fill_masks(staged, rows.name, chunk, batch)
                self._session.run_bound(staged.binding, graph=staged.number)
                found.append(self.read(staged.output)[: len(chunk)])
            except OutOfMemory as error:
                batch, staged = self._halved(batch, error), None
                continue
            done += len(chunk)
            if progress is not None:
                progress(done, count)
        return np.concatenate(found), batch

    def _fill_masks(self, staged: _Staged, name: str, chunk: AnyMasks, batch: int) -> None:
        rows = repeated(len(chunk), batch)
        if isinstance(chunk, np.ndarray):
            self._fill(staged, {name: taken(chunk, rows)})
        else:
            chunk.gathered(rows, into=Span(staged.inputs[name], (batch, *chunk.shape[1:])))

    def _fill(self, staged: _Staged, arrays: Arrays) -> None:
        with self._session.translating():
            for name, array in arrays.items():
                staged.inputs[name].update_inplace(array)
            staged.binding.synchronize_inputs()

    def _stage(self, feeds: Arrays, rows: Rows, batch: int) -> _Staged:
        """The buffers for these shapes, filled with this picture; made when such shapes first come."""
        known = {n: np.ascontiguousarray(a) for n, a in feeds.items() if n in self._session.inputs and n != rows.name}
        shapes = tuple((n, a.shape) for n, a in sorted(known.items()))
        key = (rows.output, rows.columns, batch, rows.masks.shape[1:], shapes)
        if key in self._staged:
            self._fill(self._staged[key], known)
            return self._staged[key]
        binding, output = self._session.binding(), self.new((batch, rows.columns))
        # A copy of their own: on the CPU an OrtValue made of an array is that array.
        inputs = {n: self._made(np.array(a)) for n, a in known.items()}
        inputs[rows.name] = self.new((batch, *rows.masks.shape[1:]))
        with self._session.translating():
            for name, value in inputs.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(rows.output, output)
        number = len(self._staged) + 1 if len(self._staged) < MOST_GRAPHS else None
        staged = _Staged(binding, inputs, output, number)
        if number is not None:
            self._staged[key] = staged
        return staged

    def _halved(self, size: int, error: OutOfMemory) -> int:
        if size == 1 or self._fixed:
            what = "one picture alone does" if size == 1 else f"the {size} pictures that the model is fixed to do"
            raise OutOfMemory(f"{what} not fit into memory: {error}") from None
        return max(1, size // 2)

    def _bound(self, feeds: Arrays) -> tuple[Any, list[Any]]:
        """A binding of what the graph takes of these, by address, and what has to be held until the run is over."""
        binding, device = self._session.binding(), self._device
        held = []
        for name, array in feeds.items():
            if name in self._session.inputs:
                value = self._uploaded(array)
                held.append(value)
                with self._session.translating():
                    # By address, because an adopted value may lack the batch axis.
                    shape, kind = list(array.shape), array.dtype.type
                    binding.bind_input(name, device.kind, device.index, kind, shape, value.data_ptr())
        return binding, held

    def _uploaded(self, array: Array) -> Any:
        found = self._held.get(_key(array))
        if found is not None:
            self._held.move_to_end(_key(array))
            return found[1]
        value = self._made(np.ascontiguousarray(array))
        self._keep(array, value)
        return value

    def _keep(self, array: Array, value: Any) -> None:
        """The array is kept too, so that its address stays its own."""
        self._held[_key(array)] = (array, value)
        while len(self._held) > self._keeps:
            self._held.popitem(last=False)

    def _made(self, array: Array) -> Any:
        with self._session.translating():
            return runtime().OrtValue.ortvalue_from_numpy(array, self._device.kind, self._device.index)


def _key(array: Array) -> _Key:
    """What tells an array from all others while it is kept: where its numbers lie, with axes of one left out."""
    sides = tuple(pair for pair in zip(array.shape, array.strides, strict=True) if pair[0] != 1)
    return int(array.__array_interface__["data"][0]), sides, array.dtype.str
