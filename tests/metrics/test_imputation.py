"""Linear imputation against a dense exact solution of the paper's equations, written down pixel by pixel."""

import itertools

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.metrics.imputation import imputed


def exact(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Each removed pixel is the weighted mean of its neighbours on the image; one dense system."""
    size, axes = kept.shape, kept.ndim
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=axes) if any(o)]
    removed = {tuple(place): number for number, place in enumerate(np.argwhere(~kept))}
    matrix, right = np.zeros((len(removed), len(removed))), np.zeros((len(removed), len(image)))
    for place, number in removed.items():
        for offset in offsets:
            other = tuple(np.add(place, offset))
            if not all(0 <= i < side for i, side in zip(other, size, strict=True)):
                continue
            weight = 2.0 ** sum(o == 0 for o in offset)
            matrix[number, number] += weight
            if kept[other]:
                right[number] += weight * image[(slice(None), *other)]
            else:
                matrix[number, removed[other]] -= weight
    filled = image.astype(np.float64)
    filled[:, ~kept] = np.linalg.solve(matrix, right).T
    return filled


def blob(size: tuple[int, ...]) -> np.ndarray:
    """Distance from a point off the middle: its level sets are large holes."""
    grids = np.meshgrid(*(np.linspace(0, 1, side) for side in size), indexing="ij")
    return np.sqrt(sum((grid - 0.4) ** 2 for grid in grids))


@pytest.mark.parametrize("size", [(28, 32), (37, 22), (5, 60), (1, 30), (2, 2), (90,), (7, 9, 10)])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
def test_the_solver_is_exact_to_1e_5_for_holes_speckles_and_odd_sides(size: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *size)).astype(np.float32)
    for order in (blob(size), -blob(size), rng.random(size)):
        kept = order <= np.quantile(order, share)
        assert np.abs(imputed(image, kept) - exact(image, kept)).max() <= 1e-5


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_any_number_of_channels(channels: int) -> None:
    # A published imputation fails where the image has another number of channels than it expects.
    rng = np.random.default_rng(1)
    image, kept = rng.normal(size=(channels, 12, 17)).astype(np.float32), rng.random((12, 17)) < 0.3
    assert np.abs(imputed(image, kept) - exact(image, kept)).max() <= 1e-5


def test_a_gap_of_a_signal_is_a_straight_line_and_an_end_is_level() -> None:
    signal, kept = np.array([[5.0, 5, 0, 0, 0, 1, 0, 0]], np.float32), np.ones(8, bool)
    kept[[0, 2, 3, 4, 6, 7]] = False
    assert imputed(signal, kept)[0] == pytest.approx([5, 5, 4, 3, 2, 1, 1, 1], abs=1e-5)


def test_one_pixel_takes_a_sixth_of_those_beside_and_a_twelfth_of_the_diagonal_ones() -> None:
    image, kept = np.zeros((1, 3, 3), np.float32), np.ones((3, 3), bool)
    kept[1, 1] = False
    image[0] = [[1, 10, 2], [20, 99, 30], [3, 40, 4]]
    assert imputed(image, kept)[0, 1, 1] == pytest.approx((1 + 2 + 3 + 4) / 12 + (10 + 20 + 30 + 40) / 6, abs=1e-5)


def test_at_a_corner_the_weights_on_the_image_share_the_whole() -> None:
    image, kept = np.zeros((1, 3, 3), np.float32), np.ones((3, 3), bool)
    kept[0, 0] = False
    image[0, 0, 1], image[0, 1, 0], image[0, 1, 1] = 1, 2, 6
    assert imputed(image, kept)[0, 0, 0] == pytest.approx((2 * 1 + 2 * 2 + 1 * 6) / 5, abs=1e-5)


def test_one_kept_pixel_gives_its_colour_to_all() -> None:
    image, kept = np.random.default_rng(2).normal(size=(3, 64, 48)).astype(np.float32), np.zeros((64, 48), bool)
    kept[50, 7] = True
    assert np.abs(imputed(image, kept) - image[:, 50, 7, None, None]).max() <= 1e-5


def test_kept_pixels_stay_as_they_are_and_without_removed_ones_the_image_does() -> None:
    rng = np.random.default_rng(3)
    image, kept = rng.normal(size=(3, 20, 20)).astype(np.float32), rng.random((20, 20)) < 0.5
    assert np.array_equal(imputed(image, kept)[:, kept], image[:, kept])
    assert np.array_equal(imputed(image, np.ones((20, 20), bool)), image)


@pytest.mark.parametrize(("scale", "level"), [(255, 128), (1e-4, 0), (1, 1000), (0, 3), (1e-36, 0), (1e37, 0)])
def test_the_accuracy_is_relative_to_the_images_spread(scale: float, level: float) -> None:
    rng = np.random.default_rng(4)
    image = (scale * rng.normal(size=(3, 30, 30)) + level).astype(np.float32)
    kept = blob((30, 30)) > 0.5
    error = np.abs(imputed(image, kept) - exact(image, kept)).max()
    assert error <= 1e-5 * scale + 1e-6 * level


def test_a_constant_channel_among_others_stays_constant() -> None:
    image = np.random.default_rng(5).normal(size=(3, 20, 20)).astype(np.float32)
    image[1] = 0.25
    assert np.abs(imputed(image, blob((20, 20)) > 0.4)[1] - 0.25).max() <= 1e-6


@pytest.mark.parametrize(
    ("image", "kept", "message"),
    [
        (np.zeros((1, 3, 3)), np.zeros((3, 3), bool), "no pixel is kept"),
        (np.zeros((1, 3, 3)), np.ones((3, 4), bool), "the image's sides"),
        (np.full((1, 3, 3), np.nan), np.ones((3, 3), bool), "NaN or infinity"),
    ],
)
def test_what_cannot_be_imputed_is_refused(image: np.ndarray, kept: np.ndarray, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        imputed(image.astype(np.float32), kept)


def test_a_large_hole_of_a_large_image_meets_the_equations() -> None:
    # Too large for the dense solution: every removed pixel is compared with the mean of its neighbours.
    rng = np.random.default_rng(6)
    image, kept = rng.normal(size=(3, 224, 200)).astype(np.float32), blob((224, 200)) > 0.55
    filled = imputed(image, kept).astype(np.float64)
    padded, inside = np.pad(filled, ((0, 0), (1, 1), (1, 1))), np.pad(np.ones((224, 200)), 1)
    total, weights = np.zeros_like(filled), np.zeros((224, 200))
    for dy, dx in itertools.product((0, 1, 2), repeat=2):
        weight = 0 if dy == dx == 1 else 1 / 6 if 1 in (dy, dx) else 1 / 12
        total += weight * padded[:, dy : dy + 224, dx : dx + 200]
        weights += weight * inside[dy : dy + 224, dx : dx + 200]
    assert np.abs(total / weights - filled)[:, ~kept].max() <= 2e-6
