"""What a run on a device reads and writes: parts of tensors by address, and a request for scores of many masks.

`TensorView` names a part of an OrtValue, which a run binds without a copy. `ScoreRequest` says which input takes the
masks and which output gives the scores. Used by io_binding.py and by everything that keeps tensors on a device.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.types import AnyMasks, Floats

FLOAT_BYTES = 4


@dataclass(frozen=True)
class ScoreRequest:
    """Masks to run through a graph, and where its scores are.

    input: the graph input that takes the masks. output: the graph output with the scores, (K, columns).
    """

    input: str
    masks: AnyMasks
    output: str
    columns: int


@dataclass(frozen=True)
class TensorView:
    """A float32 tensor of this shape inside the memory of an OrtValue, `start` numbers behind its beginning."""

    value: Any
    shape: tuple[int, ...]
    start: int = 0

    @property
    def address(self) -> int:
        return int(self.value.data_ptr()) + FLOAT_BYTES * self.start


def padded_indices(count: int, size: int) -> npt.NDArray[np.int64]:
    """(size,) indices of `count` samples, the last one repeated to fill up."""
    return np.minimum(np.arange(size), count - 1)


def take_samples(masks: Floats, indices: npt.NDArray[np.int64]) -> Floats:
    """The masks of these indices, contiguous; no copy if all are taken."""
    return np.ascontiguousarray(masks if len(indices) == len(masks) else masks[indices])


def sample_view(value: Any, shape: tuple[int, ...], start: int, size: int) -> TensorView:
    """`size` samples from `start` on of a value whose samples have this shape."""
    return TensorView(value, (size, *shape), start * math.prod(shape))
