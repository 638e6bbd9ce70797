import cv2
import numpy as np
import pytest

from onnxcam import resampling
from onnxcam.resampling import bilinear_matrix, upsample


@pytest.mark.parametrize(
    ("source", "target"), [((7, 7), (224, 224)), ((4, 3), (17, 30)), ((1, 5), (9, 5)), ((6, 6), (6, 6))]
)
def test_upsampling_equals_opencvs_bilinear(source: tuple[int, int], target: tuple[int, int]) -> None:
    grid = np.random.default_rng(0).standard_normal(source).astype(np.float32)
    expected = cv2.resize(grid, target[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(upsample(grid, target), expected, atol=1e-5)


def test_by_hand_two_cells_become_four() -> None:
    np.testing.assert_allclose(bilinear_matrix(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_every_row_of_weights_sums_to_one() -> None:
    np.testing.assert_allclose(bilinear_matrix(7, 224).sum(axis=1), 1, atol=1e-6)


def test_long_signals_are_resized_without_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    expected = upsample(grid, (7, 4))
    monkeypatch.setattr(resampling, "LARGEST_MATRIX", 0)
    np.testing.assert_allclose(upsample(grid, (7, 4)), expected, atol=1e-6)
