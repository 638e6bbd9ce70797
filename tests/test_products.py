"""Products in pieces: the same numbers, and no piece that BLAS would split over threads."""

import numpy as np
import pytest
from tiny import Array

from onnxcam.products import LARGEST, _cuts, _piece, product

SHAPES = [(34, 34, 613), (613, 49, 49), (49, 613, 49), (512, 1280, 49), (101, 49, 1280), (300, 196, 300), (5, 9000, 70)]
RNG = np.random.default_rng(4)


def array(rows: int, columns: int, *, transposed: bool = False) -> Array:
    return RNG.standard_normal((columns, rows)).T if transposed else RNG.standard_normal((rows, columns))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [*SHAPES, (1, 613, 49), (613, 49, 1), (0, 5, 7), (3, 0, 4)])
def test_a_product_in_pieces_is_the_product(shape: tuple[int, int, int], transposed: bool) -> None:
    m, k, n = shape
    left, right = array(m, k, transposed=transposed), array(k, n, transposed=not transposed)
    np.testing.assert_allclose(product(left, right), left @ right, rtol=1e-12, atol=1e-12)
    single = product(left.astype(np.float32), right.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, left @ right, atol=1e-5 * max(k, 1))


@pytest.mark.parametrize("shape", [*SHAPES, (4096, 4096, 400), (2, 10**5, 2)])
def test_pieces_cover_the_result_once_and_stay_below_what_blas_splits(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rows, columns = _piece(m, k, n)
    covered = np.zeros((m, n), int)
    for i in _cuts(m, rows):
        for j in _cuts(n, columns):
            covered[i, j] += 1
            size = (i.stop - i.start) * (j.stop - j.start)
            # OpenBLAS takes a thread for each full LARGEST multiplications; a single number cannot be split.
            assert size * k < 2 * LARGEST or size == 1
    assert (covered == 1).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.uint8])
def test_a_product_in_pieces_has_the_type_of_the_whole(kind: type) -> None:
    rng = np.random.default_rng(0)
    left, right = (200 * rng.random((300, 40))).astype(kind), rng.random((40, 300))
    result, whole = product(left, right), left @ right
    assert result.dtype == whole.dtype
    np.testing.assert_allclose(result, whole, rtol=1e-12)
