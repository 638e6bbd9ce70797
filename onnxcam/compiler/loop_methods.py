"""The methods that score many masks or search, in a Loop: their builders by name."""

from collections.abc import Callable, Mapping

from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.rise import rise_graph
from onnxcam.compiler.score_cam import score_cam_graph
from onnxcam.surgeon.ir import Model

LOOP_METHODS: Mapping[str, Callable[[Prepared], Model]] = {
    "score-cam": score_cam_graph,
    "rise": rise_graph,
}
"""Each gives the finished graph of an opened model, with the tensors of interface.py, for one image a run."""
