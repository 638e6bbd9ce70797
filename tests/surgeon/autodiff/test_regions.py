"""The gradient of RoiAlign against a naive loop over sampling points, and where regions are few, none or computed."""

from itertools import product
from math import ceil

import numpy as np
import pytest
from cases_pooling import AWKWARD, regions
from differentiated import Case, computed_gradients, runtime_slope_error

SIDES = np.array([float(n) for n in AWKWARD.split(",")]).reshape(-1, 4)
SAMPLES = [0, 1, 1, 0, 1, 0]
OUT = (2, 3)


def axis_taps(start: float, end: float, size: int, out: int, ratio: int, *, old: bool) -> list[list[tuple[int, float]]]:
    """For each output of one axis: (cell, weight) of its sampling points, as ONNX's RoiAlign describes them."""
    start, end = (start, end) if old else (start - 0.5, end - 0.5)
    extent = max(end - start, 1.0) if old else end - start
    count = ratio or ceil(extent / out)
    outputs = []
    for i in range(out):
        taps = []
        for k in range(count):
            at = start + extent / out * (i + (k + 0.5) / count)
            if -1 <= at <= size:
                at = min(max(at, 0.0), size - 1.0)
                low = min(int(at), size - 1)
                taps.append((low, (1 - at + low) / count))
                taps.append((min(low + 1, size - 1), (at - low) / count))
        outputs.append(taps)
    return outputs


def pulled_back(dy: np.ndarray, shape: tuple[int, ...], ratio: int, *, old: bool) -> np.ndarray:
    """The gradient of sum(dy * RoiAlign(x)), point by point."""
    dx = np.zeros(shape)
    for r, (left, top, right, bottom) in enumerate(SIDES):
        rows = axis_taps(top, bottom, shape[2], OUT[0], ratio, old=old)
        columns = axis_taps(left, right, shape[3], OUT[1], ratio, old=old)
        for i, j in product(range(OUT[0]), range(OUT[1])):
            for (y, a), (x, b) in product(rows[i], columns[j]):
                dx[SAMPLES[r], :, y, x] += a * b * dy[r, :, i, j]
    return dx


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("old", [False, True])
def test_the_gradient_is_that_of_a_loop_over_sampling_points(ratio: int, old: bool) -> None:
    where = "output_half_pixel" if old else "half_pixel"
    case = regions(f'sampling_ratio={ratio}, coordinate_transformation_mode="{where}"')
    rng = np.random.default_rng(2)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 7, 9), (6, 3, *OUT)))
    (dx,) = computed_gradients(case.text(18, "float"), {"x": x}, dy)
    np.testing.assert_allclose(dx, pulled_back(dy, x.shape, ratio, old=old), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [10, 11, 15])
def test_regions_of_old_opsets_are_placed_as_onnxruntime_does(opset: int) -> None:
    assert runtime_slope_error(regions("sampling_ratio=2, spatial_scale=0.7", opset=opset)) <= 1e-5


POOLED = "RoiAlign <output_height=1, output_width=1, sampling_ratio=1>"
PLACED = "float[1,4] r = {0.0, 0.0, 2.0, 2.0}, int64[1] i = {0}"
ONE = np.ones((1, 1, 1, 1), np.float32)


def test_where_a_region_lies_counts_as_a_constant_as_in_pytorch() -> None:
    nodes = f"m = ReduceMax <keepdims=0> (x) s = Mul (r, m) y = {POOLED} (x, s, i)"
    x = np.array([[[[1.0, 0.5, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.0]]]], np.float32)
    (dx,) = computed_gradients(Case(nodes, "float[1,1,3,3] x", PLACED).text(18), {"x": x}, ONE)
    expected = np.zeros((3, 3))
    expected[:2, :2] = 0.25  # the point (0.5, 0.5) between four cells
    np.testing.assert_allclose(dx[0, 0], expected)


def test_no_region_gives_no_gradient() -> None:
    nodes = f"q = Slice (r, a, a) k = Slice (i, a, a) p = {POOLED} (x, q, k) s = ReduceSum (p) t = Mul (u, t0) y = Add (s, t)"
    weights = f"{PLACED}, int64[1] a = {{1}}, float[1,1,1,1] t0 = {{2.0}}"
    case = Case(nodes, "float[1,1,3,3] x, float[1,1,1,1] u", weights)
    feeds = {"x": np.ones((1, 1, 3, 3), np.float32), "u": ONE}
    dx, du = computed_gradients(case.text(18), feeds, ONE)
    assert (dx == 0).all()
    assert du == 2
