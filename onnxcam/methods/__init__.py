"""Methods: each takes a Probe (one image before one opened network) and returns one Outcome (a map) for each target.

Read blocks.py first: Method, Probe and the four blocks (explore, perturb, attribute, aggregate). Then one file for a
paper or a family of papers: score_cam.py, opti_cam.py, grad_cam.py, feature_cams.py, input_gradients.py,
integrated_gradients.py, rise.py, mask.py (meaningful perturbation). registry.py is the table of them all.

What several methods share: fills.py replaces removed pixels, maps.py makes a map of feature maps and weights,
weighting.py has Score-CAM's conventions and variants, pixel_maps.py shows attributions at pixels, adam.py is the
optimiser, options.py checks options, equality.py compares methods. estimate/ predicts scores instead of measuring them.
"""

from onnxcam.methods.registry import (
    METHODS,
    Available,
    available,
    changed_options,
    default_method,
    defaults,
    gradient_free,
    method,
    method_names,
    reducible,
)

__all__ = [
    "METHODS",
    "Available",
    "available",
    "changed_options",
    "default_method",
    "defaults",
    "gradient_free",
    "method",
    "method_names",
    "reducible",
]
