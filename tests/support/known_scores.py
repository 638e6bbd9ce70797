"""Models whose score of any image is a sum that a reader can do, for metrics with known answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import onnx.parser

from onnxcam import Element, Explainer, Scorer

SIDES = (4, 6)


def weighted_sum(weights: np.ndarray) -> onnx.ModelProto:
    """One number: the sum of the pixels times the weights (*sides); for one, two or three sides."""
    sides, kernel = ",".join(map(str, weights.shape)), ",".join("1" * weights.ndim)
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    share (float[N,1,{sides}] x) => (float[N,1] share)
    <float[1,1,{kernel}] one, float[{weights.size},1] weights>
    {{
      features = Conv <kernel_shape=[{kernel}]> (x, one)
      flat = Flatten (features)
      share = MatMul (flat, weights)
    }}""")
    values = {"one": np.ones((1, 1, *(1,) * weights.ndim)), "weights": weights.reshape(-1, 1)}
    for name, array in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


@contextmanager
def sum_scorer(weights: np.ndarray, image: np.ndarray) -> Iterator[Scorer]:
    """Scores the sum of image (*sides) times weights."""
    with Explainer(weighted_sum(weights), "grad-cam", kind="elements", providers=["cpu"]) as explainer:
        yield explainer.scorer(image[None].astype(np.float32), Element((0,)))


def object_at(pixels: list[int], sides: tuple[int, ...] = SIDES) -> np.ndarray:
    """Weights of a model that gives the share of these pixels, by their place in raster order, and 0 elsewhere."""
    weights = np.zeros(int(np.prod(sides)))
    weights[pixels] = 1 / len(pixels)
    return weights.reshape(sides)
