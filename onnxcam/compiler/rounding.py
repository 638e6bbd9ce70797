"""Rounds numbers another way: the image, or the weights of a compiled file.

A map whose raw numbers hardly differ, as of a class whose probability is next to nothing, shows the rounding of
float32, which no two programs do alike. How far a map moves under these changes says how much of a difference that is.
Changed weights stand for the rounding inside of the network: a sum of rounded products is the exact sum for weights
that differ in the last place (its backward error; Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
"""

import numpy as np
import onnx

from onnxcam.compiler.compact_constants import ADDED
from onnxcam.types import Floats


def rounded(numbers: Floats, rng: np.random.Generator) -> Floats:
    """Each number as one of its two neighbours in float32; 0 stays."""
    away = np.where(rng.random(numbers.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
    return np.where(numbers == 0, numbers, np.nextafter(numbers, away))


def with_rounded_weights(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with the model's own weights in float32 rounded another way."""
    model = onnx.load_from_string(data)
    _round_weights(model.graph, rng)
    return bytes(model.SerializeToString())


def _round_weights(graph: onnx.GraphProto, rng: np.random.Generator) -> None:
    for weight in graph.initializer:
        if not weight.name.startswith(ADDED):
            _round_tensor(weight, rng)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _round_weights(attribute.g, rng)
            elif node.op_type in ("ConstantOfShape", "Constant") and attribute.type == onnx.AttributeProto.TENSOR:
                _round_tensor(attribute.t, rng)


def _round_tensor(tensor: onnx.TensorProto, rng: np.random.Generator) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT:
        numbers = rounded(onnx.numpy_helper.to_array(tensor), rng)
        tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
