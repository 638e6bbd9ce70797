"""Saliency maps for image models exported to ONNX from any framework.

    from onnxcam import Explainer, score_cam

    with Explainer("model.onnx", score_cam(), providers=["cpu"]) as explain:
        saliency = explain("photo.jpg")

A picture and a model come in, a Saliency with its map in [0,1] goes out. The names below are the public ones; each is
loaded on first use. The way of the data: inputs (files to arrays), surgeon and engine (the graph, and running it),
network (one opened model), methods (masks and gradients to maps), explainer (all of it together), outputs (files).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxcam.engine.options import EngineOptions, MemoryCap
    from onnxcam.errors import OnnxCamError
    from onnxcam.explainer.device_maps import DeviceSaliency
    from onnxcam.explainer.explainer import Explainer
    from onnxcam.explainer.targets.box import Box
    from onnxcam.explainer.targets.element import Element
    from onnxcam.explainer.targets.region import Region
    from onnxcam.explainer.targets.similarity import Similarity
    from onnxcam.inputs.images import read_picture
    from onnxcam.inputs.presets import PRESETS, Preset
    from onnxcam.methods.blocks import Convention, Method
    from onnxcam.methods.feature_cams import ablation_cam, cam, eigen_cam, recipro_cam
    from onnxcam.methods.fills import BLACK, MEAN, ZERO, Fill, blur, fill_named
    from onnxcam.methods.grad_cam import grad_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
    from onnxcam.methods.input_gradients import gradient, guided_backprop, smooth_grad
    from onnxcam.methods.integrated_gradients import integrated_gradients
    from onnxcam.methods.mask import mask
    from onnxcam.methods.opti_cam import opti_cam
    from onnxcam.methods.registry import METHODS, method
    from onnxcam.methods.rise import rise
    from onnxcam.methods.score_cam import score_cam
    from onnxcam.outputs.overlay import overlay
    from onnxcam.outputs.saliency import Channels, Provenance, Saliency, ScoredTarget
    from onnxcam.types import Note, NoteCode, Origin, Placement, Source

__all__ = [
    "BLACK",
    "MEAN",
    "METHODS",
    "PRESETS",
    "ZERO",
    "Box",
    "Channels",
    "Convention",
    "DeviceSaliency",
    "Element",
    "EngineOptions",
    "Explainer",
    "Fill",
    "MemoryCap",
    "Method",
    "Note",
    "NoteCode",
    "OnnxCamError",
    "Origin",
    "Placement",
    "Preset",
    "Provenance",
    "Region",
    "Saliency",
    "ScoredTarget",
    "Similarity",
    "Source",
    "ablation_cam",
    "blur",
    "cam",
    "eigen_cam",
    "fill_named",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "hires_cam",
    "integrated_gradients",
    "layer_cam",
    "mask",
    "method",
    "opti_cam",
    "overlay",
    "read_picture",
    "recipro_cam",
    "rise",
    "score_cam",
    "smooth_grad",
    "xgrad_cam",
]

# Names are looked up on first use, so that `onnxcam --help` does not wait for onnx and onnxruntime.
_HOMES = {
    "onnxcam.engine.options": ("EngineOptions", "MemoryCap"),
    "onnxcam.errors": ("OnnxCamError",),
    "onnxcam.explainer.device_maps": ("DeviceSaliency",),
    "onnxcam.explainer.explainer": ("Explainer",),
    "onnxcam.explainer.targets.box": ("Box",),
    "onnxcam.explainer.targets.element": ("Element",),
    "onnxcam.explainer.targets.region": ("Region",),
    "onnxcam.explainer.targets.similarity": ("Similarity",),
    "onnxcam.inputs.images": ("read_picture",),
    "onnxcam.inputs.presets": ("PRESETS", "Preset"),
    "onnxcam.methods.blocks": ("Convention", "Method"),
    "onnxcam.methods.feature_cams": ("ablation_cam", "cam", "eigen_cam", "recipro_cam"),
    "onnxcam.methods.fills": ("BLACK", "MEAN", "ZERO", "Fill", "blur", "fill_named"),
    "onnxcam.methods.grad_cam": ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "xgrad_cam"),
    "onnxcam.methods.input_gradients": ("gradient", "guided_backprop", "smooth_grad"),
    "onnxcam.methods.integrated_gradients": ("integrated_gradients",),
    "onnxcam.methods.mask": ("mask",),
    "onnxcam.methods.opti_cam": ("opti_cam",),
    "onnxcam.methods.registry": ("METHODS", "method"),
    "onnxcam.methods.rise": ("rise",),
    "onnxcam.methods.score_cam": ("score_cam",),
    "onnxcam.outputs.overlay": ("overlay",),
    "onnxcam.outputs.saliency": ("Channels", "Provenance", "Saliency", "ScoredTarget"),
    "onnxcam.types": ("Note", "NoteCode", "Origin", "Placement", "Source"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onnxcam")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
