"""Compiled files that were damaged on purpose."""

import numpy as np
import onnx


def with_moved_map(data: bytes, by: float) -> bytes:
    """The compiled file, whose map is too large by so much everywhere."""
    proto = onnx.load_from_string(data)
    (node,) = (n for n in proto.graph.node if "saliency_map" in n.output)
    node.output[0] = "right"
    proto.graph.node.append(onnx.helper.make_node("Add", ["right", "by"], ["saliency_map"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(by), "by"))
    return bytes(proto.SerializeToString())
