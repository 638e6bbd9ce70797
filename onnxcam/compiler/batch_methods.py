"""The methods without a loop over masks: their builders by name."""

from collections.abc import Callable, Mapping

from onnxcam.compiler.ablation import ablation_cam
from onnxcam.compiler.feature_cams import eigen_cam, recipro_cam
from onnxcam.compiler.gradient_cams import (
    by_activation,
    by_alpha,
    by_cell,
    by_gain,
    by_mean_gradient,
    by_positive_cell,
    gradient_cam,
)
from onnxcam.compiler.integrated_gradients import integrated_gradients
from onnxcam.compiler.pixel_gradients import pixel_gradient
from onnxcam.compiler.prepared import Prepared
from onnxcam.surgeon.ir import Model

BATCH_METHODS: Mapping[str, Callable[[Prepared], Model]] = {
    "grad-cam": gradient_cam(by_mean_gradient),
    "grad-cam++": gradient_cam(by_alpha),
    "layer-cam": gradient_cam(by_positive_cell),
    "hires-cam": gradient_cam(by_cell),
    "xgrad-cam": gradient_cam(by_activation),
    "cam": gradient_cam(by_gain),
    "ablation-cam": ablation_cam,
    "recipro-cam": recipro_cam,
    "eigen-cam": eigen_cam,
    "gradient": pixel_gradient(guided=False),
    "integrated-gradients": integrated_gradients,
    "guided-backprop": pixel_gradient(guided=True),
}
"""Each gives the finished graph of an opened model, with the tensors of interface.py."""
