"""Quantised models: ranges that follow from each image, or stand in the file; and what their maps may differ by."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from compiled_files import with_moved_map
from onnx import numpy_helper
from small_models import CLASSIFIER, filled

import onnxcam
import onnxcam.compiler.building as compiler
from onnxcam.errors import CompileError

IMAGES = np.random.default_rng(3).standard_normal((2, 3, 16, 12)).astype(np.float32)
CONV = "{0} = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> ({1}, {2})"
DYNAMIC = """q_{1}, s_{1}, z_{1} = DynamicQuantizeLinear ({1})
  whole_{0} = ConvInteger <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (q_{1}, {2}, z_{1})
  real_{0} = Cast <to=1> (whole_{0})
  step_{0} = Mul (s_{1}, step_of_{2})
  {0} = Mul (real_{0}, step_{0})"""
"""As onnxruntime's quantize_dynamic writes a Conv."""
STATIC = """q_{1} = QuantizeLinear ({1}, s, z)
  d_{1} = DequantizeLinear (q_{1}, s, z)
  d_{2} = DequantizeLinear ({2}, step_of_{2}, z_of_{2})
  {0} = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (d_{1}, d_{2})"""
"""Around each Conv the rounding of its input and of its weights, as static quantisation writes it (QDQ)."""


def quantised(conv: str) -> onnx.ModelProto:
    """The classifier with the weights of its convolutions in int8."""
    text = CLASSIFIER
    for names in (("c1", "x", "w1"), ("c2", "r1", "w2")):
        assert CONV.format(*names) in text
        text = text.replace(CONV.format(*names), conv.format(*names))
    model = onnx.parser.parse_model(text)
    computed = {name for node in model.graph.node for name in node.output}
    for info in [v for v in model.graph.value_info if v.name not in computed]:
        model.graph.value_info.remove(info)
    numbers = {"s": np.float32(0.03), "z": np.uint8(128)}
    for weight in filled(CLASSIFIER).graph.initializer:
        array = numpy_helper.to_array(weight)
        if weight.name in ("w1", "w2"):
            step = np.float32(np.abs(array).max() / 127)
            numbers |= {f"step_of_{weight.name}": step, f"z_of_{weight.name}": np.int8(0)}
            array = np.rint(array / step).astype(np.int8)
        numbers[weight.name] = array
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(numbers[n]), n) for n in sorted(read & set(numbers))
    )
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("conv", [DYNAMIC, STATIC], ids=["dynamic", "static"])
@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam", "gradient", "score-cam"])
def test_the_maps_of_a_quantised_model_are_those_of_an_explainer(method: str, conv: str) -> None:
    model = quantised(conv)
    compiled = onnxcam.compile(model, method)
    session = onnxruntime.InferenceSession(compiled.bytes, providers=["CPUExecutionProvider"])
    with onnxcam.Explainer(model, method, providers=["cpu"]) as explain:
        for image in IMAGES:
            for target in (None, 2):
                fed = {"x": image[None], "target": np.asarray([-1 if target is None else target])}
                (saliency,) = session.run(["saliency_map"], fed)
                np.testing.assert_allclose(saliency[0], explain(image, target).map, atol=1e-3)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how much the map of every file is moved before it is compared."""
    amount, check = [0.0], compiler.check_compiled

    def check_moved(data: bytes, *arguments: Any, **options: Any) -> Any:
        return check(with_moved_map(data, amount[0]), *arguments, **options)

    monkeypatch.setattr(compiler, "check_compiled", check_moved)
    return amount


@pytest.mark.parametrize("conv", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_a_quantised_map_may_be_off_by_a_thousandth(conv: str, moved: list[float]) -> None:
    moved[0] = 8e-4
    assert onnxcam.compile(quantised(conv)).difference.map == pytest.approx(8e-4, abs=1e-4)
    moved[0] = 2e-2
    with pytest.raises(CompileError, match=r"at most 0\.001 is allowed|rounded another way"):
        onnxcam.compile(quantised(conv))


def test_a_map_in_float32_may_not(moved: list[float]) -> None:
    moved[0] = 8e-4
    with pytest.raises(CompileError, match=r"differ by 0\.0008 .*at most 1e-05 is allowed"):
        onnxcam.compile(filled(CLASSIFIER))
