"""The images that stand where pixels are missing, against loops over pixels."""

import numpy as np
import pytest
from naive_curves import rise_blur
from naive_curves import rise_kernel as naive_kernel

from onnxcam.metrics.replacements import REPLACEMENTS, blurred_as_rise, rise_kernel

RNG = np.random.default_rng(0)


def test_rises_kernel_is_a_mirrored_gaussian() -> None:
    np.testing.assert_allclose(np.outer(rise_kernel(), rise_kernel()), naive_kernel(), atol=1e-15)
    assert rise_kernel().sum() == pytest.approx(1, abs=1e-12)
    # Nearly flat, as the Gaussian of sigma 5 on 11 pixels is not: there the ends have 0.61 of the middle.
    assert rise_kernel()[0] / rise_kernel()[5] == pytest.approx(0.936, abs=1e-3)


@pytest.mark.parametrize("shape", [(3, 20, 31), (1, 5, 4), (3, 224, 224)])
def test_rises_blur_fades_at_the_border(shape: tuple[int, int, int]) -> None:
    image = RNG.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(blurred_as_rise(image), rise_blur(image), atol=2e-6)


def test_a_volume_is_blurred_frame_by_frame_and_a_signal_along_its_side() -> None:
    volume = RNG.normal(size=(2, 3, 14, 15)).astype(np.float32)
    frames = np.stack([rise_blur(volume[:, i]) for i in range(3)], axis=1)
    np.testing.assert_allclose(blurred_as_rise(volume), frames, atol=2e-6)
    signal = RNG.normal(size=(2, 40)).astype(np.float32)
    along = np.stack([np.convolve(row, rise_kernel(), mode="same") for row in signal])
    np.testing.assert_allclose(blurred_as_rise(signal), along, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in REPLACEMENTS if name != "zero"])
@pytest.mark.parametrize("shape", [(2, 40), (3, 16, 12), (2, 3, 14, 15)])
def test_a_replacement_has_the_images_shape_and_range(name: str, shape: tuple[int, ...]) -> None:
    image = RNG.random(shape).astype(np.float32)
    replacement = REPLACEMENTS[name](image)
    assert replacement is not None
    assert (replacement.shape, replacement.dtype) == (shape, np.float32)
    assert replacement.min() >= 0
    assert replacement.max() < 1
    assert REPLACEMENTS["zero"](image) is None
