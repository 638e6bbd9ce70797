"""What stands where pixels of an image are missing, for curves: zero, the mean colour, and two blurs."""

from collections.abc import Callable, Mapping

import numpy as np

from onnxcam.inputs.opencv import opencv
from onnxcam.methods.fills import gaussian_blur, mean_colour, planes
from onnxcam.types import Doubles, Image

SIGMA = 5.0
"""Pixels: what RISE's code names. Its kernel is not a Gaussian of that sigma, see rise_kernel()."""
RISE_SIDE, RISE_CUT = 11, 4
"""RISE's kernel in pixels; and how many sigmas the Gaussian reaches that it is made of."""


def blurred_as_rise(image: Image) -> Image:
    """The image (C,*size) blurred as RISE's evaluation blurs it.

    A convolution with rise_kernel() along both sides that takes zeros beyond the image, so borders fade. Frames of a
    volume are blurred one by one, a signal along its only side.
    """
    cv2 = opencv()
    kernel = rise_kernel()
    down = kernel if image.ndim > 2 else np.ones(1)
    rows = [
        cv2.sepFilter2D(p, cv2.CV_32F, kernel, down, borderType=cv2.BORDER_CONSTANT)  # a constant of 0
        for p in planes(image)
    ]
    return np.asarray(np.stack(rows), np.float32).reshape(image.shape)


def rise_kernel() -> Doubles:
    """(11,) one side of RISE's kernel, which is its product with itself; the numbers add up to 1.

    RISE smooths an impulse in the middle of 11 pixels by scipy's Gaussian of sigma 5. That Gaussian reaches 20 pixels,
    and scipy mirrors what leaves the 11 back into them, so the kernel is nearly flat.
    """
    reach = int(RISE_CUT * SIGMA)
    offsets = np.arange(-reach, reach + 1)
    gaussian = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    # Mirrored at its outer edges, the line repeats after 22 pixels, and each of them is one of the 11.
    around = (RISE_SIDE // 2 + offsets) % (2 * RISE_SIDE)
    inside = np.where(around < RISE_SIDE, around, 2 * RISE_SIDE - 1 - around)
    return np.asarray(np.bincount(inside, gaussian / gaussian.sum(), RISE_SIDE), np.float64)


REPLACEMENTS: Mapping[str, Callable[[Image], Image | None]] = {
    "zero": lambda image: None,
    "mean": mean_colour,
    "blur-rise": blurred_as_rise,
    "blur-gaussian": lambda image: gaussian_blur(image, SIGMA),
}
"""The image that stands where pixels of an image are missing, by its protocol; None is zero."""
