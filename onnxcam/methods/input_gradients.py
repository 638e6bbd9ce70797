"""Gradient, guided backpropagation and SmoothGrad: the gradient of the logit at the pixels."""

from dataclasses import dataclass

import numpy as np

from onnxcam.methods.blocks import Method, Probe
from onnxcam.methods.options import non_negative_integer, positive_integer, positive_number
from onnxcam.methods.pixel_maps import AT_ONCE, largest_channel, pixel_method
from onnxcam.types import Doubles, Note, PictureGradient


def gradient() -> Method:
    """Vanilla gradient (Simonyan et al. 2014, arXiv:1312.6034, 3): |d logit / d pixel|, the largest colour."""
    paper = "Simonyan et al. 2014, arXiv:1312.6034"
    return _at_the_image("gradient", paper, PictureGradient.IMAGE)


def guided_backprop() -> Method:
    """Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806): only what is positive passes back a ReLU.

    For networks with ReLU or ReLU6; it is known to depend little on the class (Adebayo et al. 2018, arXiv:1810.03292).
    """
    paper = "Springenberg et al. 2015, arXiv:1412.6806"
    return _at_the_image("guided-backprop", paper, PictureGradient.GUIDED)


def _at_the_image(name: str, paper: str, gradient: PictureGradient) -> Method:
    attribute = _AtTheImage(guided=gradient is PictureGradient.GUIDED)
    return pixel_method(name, paper, "1 step (forward and gradient)", attribute, begins_with=gradient)


@dataclass(frozen=True)
class _AtTheImage:
    guided: bool

    def __call__(self, probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
        probe.expect(probe.targets)
        _, gradients = probe.image_gradient(probe.image[None], np.asarray([target]), guided=self.guided)
        return largest_channel(gradients[0].astype(np.float64)), ()


def smooth_grad(*, samples: int = 50, noise: float = 0.15, seed: int = 0) -> Method:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): the mean gradient of noisy copies.

    samples: copies. noise: standard deviation, as a share of the image's range. seed: of the noise.
    """
    attribute = _OverNoise(
        positive_integer(samples, "samples"), positive_number(noise, "noise"), non_negative_integer(seed, "seed")
    )
    return pixel_method(
        "smooth-grad",
        "Smilkov et al. 2017, arXiv:1706.03825",
        f"{attribute.samples} steps (forward and gradient)",
        attribute,
        {"samples": attribute.samples, "noise": attribute.noise, "seed": attribute.seed},
    )


@dataclass(frozen=True)
class _OverNoise:
    samples: int
    noise: float
    seed: int

    def __call__(self, probe: Probe, target: int) -> tuple[Doubles, tuple[Note, ...]]:
        probe.expect(self.samples * probe.targets)
        rng = np.random.default_rng(self.seed)
        deviation = self.noise * float(np.ptp(probe.image))
        total = np.zeros(probe.image.shape)
        for start in range(0, self.samples, AT_ONCE):
            count = min(AT_ONCE, self.samples - start)
            noise = rng.standard_normal((count, *probe.image.shape), np.float32)
            copies = (probe.image + deviation * noise).astype(np.float32)
            _, gradients = probe.image_gradient(copies, np.full(count, target))
            total += gradients.astype(np.float64).sum(axis=0)
        return largest_channel(total / self.samples), ()
