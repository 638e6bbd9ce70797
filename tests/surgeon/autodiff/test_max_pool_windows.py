"""MaxPool's gradient by comparison is the one by indices, also where a window holds its maximum several times."""

import numpy as np
import onnx
import pytest
from cases_pooling import POOLS
from differentiated import computed_gradients, run

from onnxcam.surgeon.autodiff.rules.max_pool_windows import max_pool_by_windows

CASES = {name: case for name, case in POOLS.items() if name.startswith("MaxPool")}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("levels", [2, 10**6])
def test_it_is_the_gradient_by_indices(name: str, levels: int) -> None:
    """levels: of the numbers; with two, nearly every window has several maxima."""
    text, rng = CASES[name].text(18, "float"), np.random.default_rng(3)
    shape = tuple(d.dim_value or 4 for d in onnx.parser.parse_model(text).graph.input[0].type.tensor_type.shape.dim)
    x = rng.integers(-levels, 0, shape).astype(np.float32) / levels  # padding is below them, and no zero
    (result,) = run(onnx.parser.parse_model(text), ["y"], {"x": x})
    dy = rng.standard_normal(result.shape).astype(np.float32)
    (expected,) = computed_gradients(text, {"x": x}, dy)
    (dx,) = computed_gradients(text, {"x": x}, dy, {"MaxPool": max_pool_by_windows})
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(expected).max() > 0.1
