"""Names of the inputs and outputs of the graphs that are built here.

They stand apart from the code that builds the graphs, so that a program which runs a stored graph does not load onnx.
"""

from enum import StrEnum

from onnxcam.surgeon.analysis.anatomy import Anatomy

IMAGE, MAPS, FILL, FEATURES = "onnxcam/image", "onnxcam/maps", "onnxcam/fill", "onnxcam/features"
"""Of the scoring graph (masked_score.py), which has the next two lines too."""
TARGETS, REGIONS, REFERENCES = "onnxcam/targets", "onnxcam/regions", "onnxcam/references"
LOGITS, LOGIT, PROBABILITY = "onnxcam/logits", "onnxcam/logit", "onnxcam/probability"
SCORE, GRADIENT, CHOSEN = "onnxcam/score", "onnxcam/gradient", "onnxcam/chosen"
"""Of the step graph (score_gradient.py)."""
PREDICTION = -1
"""The target that score_gradient.with_prediction() makes the predicted class."""
TAIL_FEATURES = "onnxcam/given_features"
"""Of the tail (tail.py)."""
RANK, FROM, TO = "onnxcam/rank", "onnxcam/from", "onnxcam/to"
"""Of the graph that replaces pixels by their rank (ranked_score.py)."""
RAW, MAP = "onnxcam/raw", "onnxcam/map"
"""Of the graph that finishes a map (finish_map.py)."""
PLACES, SCORES, BOXES, LABELS = "onnxcam/places", "onnxcam/scores", "onnxcam/boxes", "onnxcam/labels"
"""Of the graph of a detector's choice (candidates.py)."""
CELLS = "onnxcam/cells"
"""(N,queries): the cell of each query, where queries are followed by it."""
ADDED = "onnxcam/selection"
"""Begins the names of the nodes that are added to a detector."""


class Wrt(StrEnum):
    """The tensor that the score is differentiated with respect to."""

    MAPS = "maps"
    FEATURES = "features"
    IMAGE = "image"


def wrt_tensor(wrt: Wrt, anatomy: Anatomy) -> str:
    """The name of that tensor in the scoring graph."""
    return {Wrt.MAPS: MAPS, Wrt.IMAGE: IMAGE, Wrt.FEATURES: anatomy.features.tensor}[wrt]
