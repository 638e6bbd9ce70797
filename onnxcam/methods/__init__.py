"""Methods: each takes a Probe (one image before one opened network) and returns one Outcome (a map) for each target.

Read blocks.py first: Method, Probe and the four blocks (explore, perturb, attribute, aggregate). fills.py is what
replaces removed pixels, maps.py how a map is made of feature maps and weights, adam.py the optimiser. Then one file for
a paper or a family of papers: score_cam.py (with estimate/, which predicts scores instead of measuring them),
opti_cam.py, grad_cam.py, feature_cams.py, input_gradients.py, rise.py, mask.py. registry.py is the table of them all.
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
]
