"""Saliency maps for image models exported to ONNX from any framework.

    from onnxcam import Explainer as Explainer, score_cam as score_cam

    with Explainer("model.onnx", score_cam(), providers=["cpu"]) as explain:
        saliency = explain("photo.jpg")

A picture and a model come in, a Saliency with its map in [0,1] goes out. The names below are the public ones; each is
loaded on first use. The way of the data: inputs (files to arrays), surgeon and engine (the graph, and running it),
network (one opened model), methods (masks and gradients to maps), explainer (all of it together), outputs (files),
compiler (an explanation as one ONNX file).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `as` exports a name to type checkers, which do not read _HOMES
    from onnxcam.compiler.compiled import Compiled as Compiled
    from onnxcam.compiler.compiled import compile as compile
    from onnxcam.engine.options import EngineOptions as EngineOptions
    from onnxcam.engine.options import MemoryCap as MemoryCap
    from onnxcam.errors import OnnxCamError as OnnxCamError
    from onnxcam.evaluation.dataset import DataItem as DataItem
    from onnxcam.evaluation.dataset import DataSet as DataSet
    from onnxcam.evaluation.dataset import LabelledBox as LabelledBox
    from onnxcam.evaluation.evaluate import evaluate as evaluate
    from onnxcam.evaluation.model_request import ModelRequest as ModelRequest
    from onnxcam.evaluation.readers.reading import read_data as read_data
    from onnxcam.evaluation.readers.reading import sample as sample
    from onnxcam.evaluation.sanity import sanity_check as sanity_check
    from onnxcam.evaluation.sanity_report import SanityOptions as SanityOptions
    from onnxcam.evaluation.sanity_report import SanityReport as SanityReport
    from onnxcam.explainer.device_maps import DeviceSaliency as DeviceSaliency
    from onnxcam.explainer.explainer import Explainer as Explainer
    from onnxcam.explainer.targets.box import Box as Box
    from onnxcam.explainer.targets.element import Element as Element
    from onnxcam.explainer.targets.region import Region as Region
    from onnxcam.explainer.targets.similarity import Similarity as Similarity
    from onnxcam.explainer.targets.timestep import Timestep as Timestep
    from onnxcam.inputs.images import read_picture as read_picture
    from onnxcam.inputs.presets import PRESETS as PRESETS
    from onnxcam.inputs.presets import Preset as Preset
    from onnxcam.limits import Limits as Limits
    from onnxcam.methods.blocks import Convention as Convention
    from onnxcam.methods.blocks import Method as Method
    from onnxcam.methods.feature_cams import ablation_cam as ablation_cam
    from onnxcam.methods.feature_cams import cam as cam
    from onnxcam.methods.feature_cams import eigen_cam as eigen_cam
    from onnxcam.methods.feature_cams import recipro_cam as recipro_cam
    from onnxcam.methods.fills import BLACK as BLACK
    from onnxcam.methods.fills import MEAN as MEAN
    from onnxcam.methods.fills import ZERO as ZERO
    from onnxcam.methods.fills import Fill as Fill
    from onnxcam.methods.fills import blur as blur
    from onnxcam.methods.fills import fill_named as fill_named
    from onnxcam.methods.grad_cam import grad_cam as grad_cam
    from onnxcam.methods.grad_cam import grad_cam_plus_plus as grad_cam_plus_plus
    from onnxcam.methods.grad_cam import hires_cam as hires_cam
    from onnxcam.methods.grad_cam import layer_cam as layer_cam
    from onnxcam.methods.grad_cam import xgrad_cam as xgrad_cam
    from onnxcam.methods.input_gradients import gradient as gradient
    from onnxcam.methods.input_gradients import guided_backprop as guided_backprop
    from onnxcam.methods.input_gradients import smooth_grad as smooth_grad
    from onnxcam.methods.integrated_gradients import integrated_gradients as integrated_gradients
    from onnxcam.methods.mask import mask as mask
    from onnxcam.methods.opti_cam import opti_cam as opti_cam
    from onnxcam.methods.registry import METHODS as METHODS
    from onnxcam.methods.registry import method as method
    from onnxcam.methods.rise import rise as rise
    from onnxcam.methods.score_cam import score_cam as score_cam
    from onnxcam.metrics.adcc import adcc as adcc
    from onnxcam.metrics.average import average_drop as average_drop
    from onnxcam.metrics.average import average_gain as average_gain
    from onnxcam.metrics.average import average_increase as average_increase
    from onnxcam.metrics.baselines import BASELINES as BASELINES
    from onnxcam.metrics.baselines import centred_gaussian as centred_gaussian
    from onnxcam.metrics.complexity import sparseness as sparseness
    from onnxcam.metrics.curves import deletion as deletion
    from onnxcam.metrics.curves import insertion as insertion
    from onnxcam.metrics.faithfulness import faithfulness_correlation as faithfulness_correlation
    from onnxcam.metrics.localisation import energy_pointing_game as energy_pointing_game
    from onnxcam.metrics.localisation import pointing_game as pointing_game
    from onnxcam.metrics.measurement import Measurement as Measurement
    from onnxcam.metrics.metric import Metric as Metric
    from onnxcam.metrics.registry import METRICS as METRICS
    from onnxcam.metrics.road import road as road
    from onnxcam.metrics.scorer import Scorer as Scorer
    from onnxcam.outputs.annotations import to_coco as to_coco
    from onnxcam.outputs.annotations import to_detections as to_detections
    from onnxcam.outputs.annotations import to_label_studio as to_label_studio
    from onnxcam.outputs.explanations import Explanations as Explanations
    from onnxcam.outputs.overlay import overlay as overlay
    from onnxcam.outputs.regions import SalientRegion as SalientRegion
    from onnxcam.outputs.saliency import Channels as Channels
    from onnxcam.outputs.saliency import FusedLayer as FusedLayer
    from onnxcam.outputs.saliency import Provenance as Provenance
    from onnxcam.outputs.saliency import Saliency as Saliency
    from onnxcam.outputs.saliency import ScoredTarget as ScoredTarget
    from onnxcam.types import Note as Note
    from onnxcam.types import NoteCode as NoteCode
    from onnxcam.types import Origin as Origin
    from onnxcam.types import Placement as Placement
    from onnxcam.types import Source as Source

# Names are looked up on first use, so that `onnxcam --help` does not wait for onnx and onnxruntime.
_HOMES = {
    "onnxcam.compiler.compiled": ("Compiled", "compile"),
    "onnxcam.engine.options": ("EngineOptions", "MemoryCap"),
    "onnxcam.errors": ("OnnxCamError",),
    "onnxcam.evaluation.dataset": ("DataItem", "DataSet", "LabelledBox"),
    "onnxcam.evaluation.readers.reading": ("read_data", "sample"),
    "onnxcam.evaluation.evaluate": ("evaluate",),
    "onnxcam.evaluation.model_request": ("ModelRequest",),
    "onnxcam.evaluation.sanity": ("sanity_check",),
    "onnxcam.evaluation.sanity_report": ("SanityOptions", "SanityReport"),
    "onnxcam.explainer.device_maps": ("DeviceSaliency",),
    "onnxcam.explainer.explainer": ("Explainer",),
    "onnxcam.explainer.targets.box": ("Box",),
    "onnxcam.explainer.targets.element": ("Element",),
    "onnxcam.explainer.targets.region": ("Region",),
    "onnxcam.explainer.targets.similarity": ("Similarity",),
    "onnxcam.explainer.targets.timestep": ("Timestep",),
    "onnxcam.inputs.images": ("read_picture",),
    "onnxcam.inputs.presets": ("PRESETS", "Preset"),
    "onnxcam.limits": ("Limits",),
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
    "onnxcam.metrics.adcc": ("adcc",),
    "onnxcam.metrics.average": ("average_drop", "average_gain", "average_increase"),
    "onnxcam.metrics.baselines": ("BASELINES", "centred_gaussian"),
    "onnxcam.metrics.complexity": ("sparseness",),
    "onnxcam.metrics.curves": ("deletion", "insertion"),
    "onnxcam.metrics.faithfulness": ("faithfulness_correlation",),
    "onnxcam.metrics.localisation": ("energy_pointing_game", "pointing_game"),
    "onnxcam.metrics.measurement": ("Measurement",),
    "onnxcam.metrics.metric": ("Metric",),
    "onnxcam.metrics.registry": ("METRICS",),
    "onnxcam.metrics.road": ("road",),
    "onnxcam.metrics.scorer": ("Scorer",),
    "onnxcam.outputs.annotations": ("to_coco", "to_detections", "to_label_studio"),
    "onnxcam.outputs.explanations": ("Explanations",),
    "onnxcam.outputs.overlay": ("overlay",),
    "onnxcam.outputs.regions": ("SalientRegion",),
    "onnxcam.outputs.saliency": ("Channels", "FusedLayer", "Provenance", "Saliency", "ScoredTarget"),
    "onnxcam.types": ("Note", "NoteCode", "Origin", "Placement", "Source"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onnxcam")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'onnxcam' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
