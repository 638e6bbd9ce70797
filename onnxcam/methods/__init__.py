"""The methods, each one short file made of the four blocks or of a gradient."""

from collections.abc import Callable, Mapping

from onnxcam.methods.blocks import Method
from onnxcam.methods.grad_cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
from onnxcam.methods.mask import mask
from onnxcam.methods.opti_cam import opti_cam
from onnxcam.methods.pixels import gradient, guided_backprop, integrated_gradients, smooth_grad
from onnxcam.methods.rise import rise
from onnxcam.methods.score_cam import score_cam
from onnxcam.methods.tail_cams import ablation_cam, cam, eigen_cam, recipro_cam

METHODS: Mapping[str, Callable[..., Method]] = {
    "score-cam": score_cam,
    "opti-cam": opti_cam,
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "layer-cam": layer_cam,
    "hires-cam": hires_cam,
    "xgrad-cam": xgrad_cam,
    "cam": cam,
    "ablation-cam": ablation_cam,
    "recipro-cam": recipro_cam,
    "eigen-cam": eigen_cam,
    "gradient": gradient,
    "guided-backprop": guided_backprop,
    "smooth-grad": smooth_grad,
    "integrated-gradients": integrated_gradients,
    "rise": rise,
    "mask": mask,
}
"""What `--method` takes."""
