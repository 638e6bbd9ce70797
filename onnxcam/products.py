"""Matrix products in pieces so small that BLAS computes each of them on the calling thread.

BLAS splits a large product over threads of its own. For matrices of a few hundred rows these threads cost more than
they gain: they wait for each other, and they spin beside the threads of the runtime. Limiting their number is a setting
of the whole process, and OpenBLAS applies it only for the thread that set it. But OpenBLAS starts threads only for
products above a number of multiplications (interface/gemm.c), and every piece here stays below that number.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.float32, np.float64)
LARGEST = 4 * 65536
"""Multiplications up to which OpenBLAS computes a product of two matrices on one thread."""
UNIT = 4
"""Indices and columns that BLAS kernels compute together; whole units round in float64 as the whole product does."""


def product(left: npt.NDArray[Number], right: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """left (...,M,K) @ right (...,K,N), of the type that NumPy gives the whole product."""
    m, n = left.shape[-2], right.shape[-1]
    rows, columns = _piece(m, left.shape[-1], n)
    if rows >= m and columns >= n:
        return np.asarray(left @ right)
    result = np.empty((*np.broadcast_shapes(left.shape[:-2], right.shape[:-2]), m, n), np.result_type(left, right))
    for i in _cuts(m, rows):
        for j in _cuts(n, columns):
            np.matmul(left[..., i, :], right[..., j], out=result[..., i, j])  # without a copy of the piece
    return result


def _piece(m: int, k: int, n: int) -> tuple[int, int]:
    """Indices and columns of a piece of the result (m,n), each number of which takes k multiplications."""
    area = max(1, LARGEST // max(k, 1))
    side = int(area**0.5)
    if m * n <= area:
        return m, n
    if n <= 2 * side:
        return _whole_units(area // n), n
    if m <= 2 * side:
        return m, _whole_units(area // m)
    return _whole_units(side), _whole_units(side)


def _whole_units(length: int) -> int:
    return length // UNIT * UNIT if length >= UNIT else max(1, length)


def _cuts(length: int, size: int) -> Iterator[slice]:
    """Parts of `size`. A last one below a unit joins the one before: BLAS rounds a single row in another way."""
    starts = list(range(0, length, size))
    if len(starts) > 1 and length - starts[-1] < UNIT <= size:
        starts.pop()
    return (slice(start, end) for start, end in zip(starts, [*starts[1:], length], strict=True))
