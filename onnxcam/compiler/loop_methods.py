"""The methods that score many masks or search, in a Loop: their builders by name."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from onnxcam.compiler.mask import mask_graph
from onnxcam.compiler.opti_cam import opti_cam_graph
from onnxcam.compiler.prepared import Prepared
from onnxcam.compiler.rise import rise_graph
from onnxcam.compiler.score_cam import score_cam_graph
from onnxcam.surgeon.ir import Model


class LoopMethod(NamedTuple):
    """build: gives the finished graph of an opened model, with the tensors of interface.py, for one image a run.

    most, tolerance: as Compilable of registry.py has them.
    """

    build: Callable[[Prepared], Model]
    most: Mapping[str, int] = {}
    tolerance: float | None = None


LOOP_METHODS: Mapping[str, LoopMethod] = {
    "score-cam": LoopMethod(score_cam_graph),
    "opti-cam": LoopMethod(opti_cam_graph, most={"max_iter": 5}, tolerance=1e-2),
    "mask": LoopMethod(mask_graph, most={"max_iter": 5}, tolerance=1e-2),
    "rise": LoopMethod(rise_graph, most={"masks": 96}),
}
