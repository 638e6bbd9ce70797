"""How alike maps are: HOG against a loop over pixels, cells and blocks, and the entropy by hand."""

import math

import numpy as np
import pytest

from onnxcam.evaluation.similarity import complexity, complexity_rise, hog, map_hog, map_spearman


def hog_by_loops(values: np.ndarray, side: int) -> np.ndarray:
    """Dalal and Triggs, pixel by pixel."""
    height, width = values.shape
    rows, columns = height // side, width // side
    cells = np.zeros((rows, columns, 9))
    for i in range(rows * side):
        for j in range(columns * side):
            down = values[i + 1, j] - values[i - 1, j] if 0 < i < height - 1 else 0.0
            across = values[i, j + 1] - values[i, j - 1] if 0 < j < width - 1 else 0.0
            angle = math.degrees(math.atan2(down, across)) % 180
            cells[i // side, j // side, min(int(angle // 20), 8)] += math.hypot(down, across) / side**2
    blocks = []
    for i in range(rows - 2):
        for j in range(columns - 2):
            block = cells[i : i + 3, j : j + 3]
            order = np.array([block[a, b, k] for k in range(9) for a in range(3) for b in range(3)])
            order = order / math.sqrt(sum(x * x for x in order) + 1e-10)
            order = np.array([min(x, 0.2) for x in order])
            blocks.append(order / math.sqrt(sum(x * x for x in order) + 1e-10))
    return np.concatenate(blocks)


@pytest.mark.parametrize(("shape", "side"), [((96, 64), 16), ((50, 71), 16), ((20, 30), 6), ((6, 6), 2)])
def test_hog_is_that_of_a_loop_over_pixels(shape: tuple[int, int], side: int) -> None:
    saliency_map = np.random.default_rng(0).random(shape, np.float32)
    computed = hog(saliency_map)
    assert computed is not None
    np.testing.assert_allclose(computed, hog_by_loops(saliency_map.astype(np.float64), side), rtol=0, atol=1e-9)


def test_hog_tells_the_direction_of_stripes_and_not_their_sign() -> None:
    stripes = np.sin(np.arange(96) / 5)[None].repeat(96, 0).astype(np.float32)
    assert map_hog(stripes, stripes) == pytest.approx(1)
    assert map_hog(stripes, -stripes) == pytest.approx(1)
    assert (map_hog(stripes, stripes.T) or 0) < 0.2


def test_maps_without_an_order_or_of_other_ranks_have_no_similarity() -> None:
    one = np.random.default_rng(0).random((32, 32), np.float32)
    assert map_spearman(one, np.zeros_like(one)) is None
    assert map_hog(one, np.zeros_like(one)) is None
    assert hog(one[0]) is None
    assert hog(one[None]) is None
    assert hog(one[:5]) is None
    assert map_spearman(one, -one) == pytest.approx(-1)


def test_complexity_is_the_entropy_of_the_values() -> None:
    assert complexity(np.zeros((4, 4), np.float32)) == 0
    assert complexity(np.array([0, 0, 1, 1], np.float32)) == pytest.approx(math.log(2))
    assert complexity((np.arange(1000, dtype=np.float32) + 0.5) / 1000) == pytest.approx(math.log(100), abs=1e-3)
    assert complexity_rise(np.array([0, 0, 1, 1]), np.array([0, 0.3, 0.6, 1])) == pytest.approx(1)
    assert complexity_rise(np.zeros(4), np.arange(4) / 4) is None
