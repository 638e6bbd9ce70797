"""Compiled files that were damaged on purpose, and the Explainer that they are compared with."""

import numpy as np
import numpy.typing as npt
import onnx

import onnxcam
from onnxcam.surgeon.loading import ModelFile


def with_moved_map(data: bytes, by: float) -> bytes:
    """The compiled file, whose map is too large by so much everywhere."""
    return with_changed(data, "saliency_map", "Add", np.float32(by))


def with_scaled_map(data: bytes, by: float) -> bytes:
    """The compiled file, whose map is multiplied."""
    return with_changed(data, "saliency_map", "Mul", np.float32(by))


def with_changed(data: bytes, output: str, operator: str, by: npt.ArrayLike) -> bytes:
    """The compiled file, with the output of an operator in place of its output; the operator also gets `by`."""
    proto = onnx.load_from_string(data)
    (node,) = (n for n in proto.graph.node if output in n.output)
    node.output[list(node.output).index(output)] = "unchanged"
    for other in proto.graph.node:
        other.input[:] = ["unchanged" if name == output else name for name in other.input]
    proto.graph.node.append(onnx.helper.make_node(operator, ["unchanged", "by"], [output]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(by), "by"))
    return bytes(proto.SerializeToString())


def reopened(file: ModelFile) -> onnxcam.Explainer:
    """For Grad-CAM, on the processor."""
    return onnxcam.Explainer(file, "grad-cam", providers=["cpu"], cache=False)
