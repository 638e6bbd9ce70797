"""The Gini index: the paper's sum as a loop, and maps whose index is known."""

import numpy as np
import pytest

from onnxcam.errors import OptionError
from onnxcam.metrics.complexity import sparseness


def naive_gini(values: np.ndarray) -> float:
    """1 - 2 sum_k v_(k) / |v|_1 (d - k + 0.5) / d with v sorted upwards."""
    v = sorted(abs(float(x)) for x in values.ravel())
    return 1 - 2 * sum(x / sum(v) * (len(v) - k + 0.5) / len(v) for k, x in enumerate(v, start=1))


@pytest.mark.parametrize("shape", [(50,), (7, 9), (3, 4, 5)])
def test_sparseness_is_the_papers_sum(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    assert sparseness(values).value == pytest.approx(naive_gini(values), abs=1e-12)
    assert sparseness(1e-200 * values).value == pytest.approx(naive_gini(values), abs=1e-12)


def test_a_constant_map_is_not_sparse_and_one_pixel_is() -> None:
    assert sparseness(np.full((4, 5), 0.3)).value == pytest.approx(0, abs=1e-12)
    one = np.zeros((4, 5))
    one[2, 3] = 7
    assert sparseness(one).value == pytest.approx(1 - 1 / 20, abs=1e-12)
    half = np.repeat([0.0, 1.0], 10)
    assert sparseness(half).value == pytest.approx(0.5, abs=1e-12)


def test_a_map_of_zeros_is_undefined() -> None:
    result = sparseness(np.zeros((3, 3)))
    assert (result.value, result.reason) == (None, "the map is zero everywhere")


def test_the_signs_scale_and_order_do_not_matter() -> None:
    values = np.random.default_rng(1).normal(size=(6, 7))
    for other in (-values, 1000 * values, values.T, np.abs(values)[::-1]):
        assert sparseness(other).value == pytest.approx(sparseness(values).value, abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_with_nan_or_infinity_is_refused(bad: float) -> None:
    with pytest.raises(OptionError, match="NaN or infinity"):
        sparseness(np.array([[1.0, bad]]))


class Tensor:
    """As PyTorch's, where it requires a gradient."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        raise RuntimeError("use tensor.detach().numpy()")


@pytest.mark.parametrize("values", [Tensor(), [[1, 2], [3]]])
def test_what_is_no_array_is_refused_with_its_own_words(values: object) -> None:
    with pytest.raises(OptionError, match=r"the map cannot be read as an array: .*(detach|inhomogeneous)"):
        sparseness(values)
