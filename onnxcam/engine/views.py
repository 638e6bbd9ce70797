"""What runs on a device are bound to: masks, and tensors that lie in the memory of others."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.types import AnyMasks, Floats

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Rows:
    """What differs from row to row: `masks` for the input `name`, so many at once, (K, columns) numbers of `output`."""

    name: str
    masks: AnyMasks
    output: str
    columns: int


@dataclass(frozen=True)
class Span:
    """A float32 tensor of this shape in the memory of an OrtValue, so many numbers behind its beginning."""

    value: Any
    shape: tuple[int, ...]
    start: int = 0

    @property
    def address(self) -> int:
        return int(self.value.data_ptr()) + FLOAT_BYTES * self.start


def repeated(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Numbers of `count` rows, the last repeated until there are as many as are wanted."""
    return np.minimum(np.arange(wanted), count - 1)


def taken(masks: Floats, rows: npt.NDArray[np.int64]) -> Floats:
    return np.ascontiguousarray(masks if len(rows) == len(masks) else masks[rows])


def part(value: Any, row: tuple[int, ...], start: int, size: int) -> Span:
    """Rows start to start + size of a value whose rows have this shape."""
    return Span(value, (size, *row), start * math.prod(row))
