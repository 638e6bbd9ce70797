"""Small models written as ONNX text, so that a reader sees the graph that a claim is about."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

os.environ["ONNXCAM_CACHE"] = "off"  # what one test found out must not help the next one; commands inherit it

Make = Callable[..., onnx.ModelProto]

CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N,3,16,12] x) => (float[N,5] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[5,8] w3, float[5] b3>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
  pooled = GlobalAveragePool (features)
  flat = Flatten (pooled)
  logits = Gemm <transB=1> (flat, w3, b3)
}
"""
"""Two convolutions, 4x3 features of 8 channels, pooling and a linear head; input 16 high and 12 wide."""


def filled(text: str, seed: int = 0, *, check: bool = True) -> onnx.ModelProto:
    """The parsed model; every tensor that is declared but not computed becomes a weight of about unit gain."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(seed)
    computed = {name for node in model.graph.node for name in node.output}
    for info in [v for v in model.graph.value_info if v.name not in computed]:
        shape = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = 2 * rng.standard_normal(shape) / np.sqrt(fan_in)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
        model.graph.value_info.remove(info)
    if check:
        onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def make() -> Make:
    return filled


@pytest.fixture(scope="session")
def classifier() -> onnx.ModelProto:
    return filled(CLASSIFIER)


@pytest.fixture
def classifier_file(classifier: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(classifier, path)
    return path


@pytest.fixture(scope="session")
def zoo() -> Path:
    folder = os.environ.get("ONNXCAM_ZOO")
    if not folder:
        pytest.skip("ONNXCAM_ZOO names no folder of exported models")
    return Path(folder)
