"""The maps that explain nothing."""

import math

import numpy as np
import pytest

from onnxcam.metrics.baselines import BASELINES, centred_gaussian, ones
from onnxcam.metrics.localisation import pointing_game


@pytest.mark.parametrize("size", [(8,), (5, 9), (6, 4), (224, 224), (3, 4, 6)])
def test_the_gaussian_is_centred_with_a_quarter_of_each_side(size: tuple[int, ...]) -> None:
    numbers = centred_gaussian(size)
    assert numbers.shape == size
    assert numbers.dtype == np.float32
    assert numbers.max() == 1
    assert np.allclose(numbers, np.flip(numbers))
    corner = sum(((side - 1) / 2 / (side / 4)) ** 2 for side in size)
    middle = sum(((side // 2 - (side - 1) / 2) / (side / 4)) ** 2 for side in size)
    assert numbers.flat[0] == pytest.approx(math.exp((middle - corner) / 2), rel=1e-5)


def test_the_gaussian_points_at_the_middle_only() -> None:
    numbers = centred_gaussian((100, 160))
    assert pointing_game(numbers, (70, 40, 90, 60), protocol="exact").value == 1
    assert pointing_game(numbers, (0, 0, 60, 50), protocol="exact").value == 0


def test_every_baseline_is_in_0_to_1_for_any_number_of_sides() -> None:
    assert set(BASELINES) == {"ones", "gaussian"}
    for make in BASELINES.values():
        for size in ((7,), (5, 6), (2, 3, 4), (1, 1)):
            numbers = make(size)
            assert numbers.shape == size
            assert (numbers.min() >= 0, numbers.max()) == (True, 1)
    assert (ones((3, 4)) == 1).all()
