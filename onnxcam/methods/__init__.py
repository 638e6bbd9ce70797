"""The methods, each one short file made of the four blocks or of a gradient."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from onnxcam.methods.blocks import Method, Need
from onnxcam.methods.feature_cams import ablation_cam, cam, eigen_cam, recipro_cam
from onnxcam.methods.grad_cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
from onnxcam.methods.input_gradients import gradient, guided_backprop, integrated_gradients, smooth_grad
from onnxcam.methods.mask import mask
from onnxcam.methods.opti_cam import opti_cam
from onnxcam.methods.rise import rise
from onnxcam.methods.score_cam import score_cam

__all__ = [
    "METHODS",
    "Method",
    "ablation_cam",
    "cam",
    "changed_options",
    "defaults",
    "eigen_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_free",
    "guided_backprop",
    "hires_cam",
    "integrated_gradients",
    "layer_cam",
    "mask",
    "opti_cam",
    "recipro_cam",
    "rise",
    "score_cam",
    "smooth_grad",
    "xgrad_cam",
]

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


def defaults(name: str) -> Mapping[str, Any]:
    """A method's options with their defaults, by name; raises KeyError for an unknown method."""
    return {p.name: p.default for p in signature(METHODS[name]).parameters.values()}


def changed_options(method: Method) -> tuple[str, ...]:
    """The names of the options, the fill among them, that differ from the defaults; of an unknown method, all."""
    if method.name not in METHODS:
        return tuple(method.options)
    usual = METHODS[method.name]()
    names = [name for name, value in method.options.items() if usual.options.get(name) != value]
    return (*names, *(["fill"] if usual.perturb.name != method.perturb.name and "fill" not in names else []))


def gradient_free() -> tuple[str, ...]:
    """The methods that work where gradients cannot be built; CAM, which takes one kind of head only, left out."""
    return tuple(name for name, make in METHODS.items() if Need.GRADIENT not in make().needs and name != "cam")
