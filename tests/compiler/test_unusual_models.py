"""compile() of models with branches, with outputs of text, and with names like its own."""

import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import CLASSIFIER, filled

from onnxcam.compiler.compiled import compile
from onnxcam.errors import CompileError

IMAGES = np.random.default_rng(3).standard_normal((2, 3, 16, 12)).astype(np.float32)
BRANCHES = """  logits = If <then_branch = plain () => (float[N,5] same) {{ same = Identity (scores) }},
    else_branch = other () => (float[N,5] turned) {{ turned = Neg (scores) }}> (condition)
}}"""


def run(data: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def branched(condition: str) -> onnx.ModelProto:
    """The classifier, whose logits are turned around where the condition does not hold."""
    head = CLASSIFIER.replace("logits = Gemm", "scores = Gemm").rstrip().removesuffix("}")
    return filled(head + condition + BRANCHES.replace("{{", "{").replace("}}", "}"))


def test_a_branch_that_the_picture_chooses_is_refused() -> None:
    bright = """  mean = ReduceMean <keepdims=0> (x)
  half = Constant <value_float=0.5> ()
  condition = Less (mean, half)
"""
    with pytest.raises(CompileError, match="the condition 'condition' was true"):
        compile(branched(bright))


def test_a_branch_that_the_size_chooses_stays() -> None:
    high = """  sides = Shape <start=2, end=3> (x)
  limit = Constant <value_ints=[20]> ()
  less = Less (sides, limit)
  condition = Squeeze (less)
"""
    model = branched(high)
    results = run(compile(model).bytes, {"x": IMAGES, "target": np.asarray([-1, 2])})
    expected = run(model.SerializeToString(), {"x": IMAGES})["logits"]
    np.testing.assert_allclose(results["logits"], expected, rtol=1e-5, atol=1e-6)
