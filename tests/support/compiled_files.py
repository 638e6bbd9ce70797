"""Compiled files that were damaged on purpose, and the Explainer that they are compared with."""

import numpy as np
import onnx

import onnxcam
from onnxcam.surgeon.loading import ModelFile


def with_moved_map(data: bytes, by: float) -> bytes:
    """The compiled file, whose map is too large by so much everywhere."""
    return _with_map(data, "Add", by)


def with_scaled_map(data: bytes, by: float) -> bytes:
    """The compiled file, whose map is multiplied."""
    return _with_map(data, "Mul", by)


def _with_map(data: bytes, operator: str, by: float) -> bytes:
    proto = onnx.load_from_string(data)
    (node,) = (n for n in proto.graph.node if "saliency_map" in n.output)
    node.output[0] = "right"
    for other in proto.graph.node:
        other.input[:] = ["right" if name == "saliency_map" else name for name in other.input]
    proto.graph.node.append(onnx.helper.make_node(operator, ["right", "by"], ["saliency_map"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(by), "by"))
    return bytes(proto.SerializeToString())


def reopened(file: ModelFile) -> onnxcam.Explainer:
    """For Grad-CAM, on the processor."""
    return onnxcam.Explainer(file, "grad-cam", providers=["cpu"], cache=False)
