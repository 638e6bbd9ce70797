"""Methods that read the gradient at the pixels: exact cases, completeness, outliers, and what has no answer."""

import re
from typing import Any

import numpy as np
import onnx
import pytest
from tiny import IMAGE, SIZE, TARGET, Array, Net, Watched, convolution_matrix, explained, model, probe, relu, stretch

from onnxcam.errors import UndefinedSaliency
from onnxcam.methods.blocks import run
from onnxcam.methods.fills import MEAN, ZERO, Fill
from onnxcam.methods.input_gradients import gradient, guided_backprop, smooth_grad
from onnxcam.methods.integrated_gradients import integrated_gradients
from onnxcam.methods.maps import Outcome

HEAD = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N,3,16,12] x) => (float[N,5] logits)
<float[8,3,3,3] w, float[5,8] v>
{
  c = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w)
  f = ACTIVATION
  g = GlobalAveragePool (f)
  p = Flatten (g)
  logits = Gemm <transB=1> (p, v)
}"""
LINEAR = HEAD.replace("ACTIVATION", "Identity (c)")
BENT = HEAD.replace("ACTIVATION", "Tanh (c)")
CEILING = HEAD.replace("{", "{ low = Constant <value_float=0.0> () high = Constant <value_float=1.0> ()").replace("ACTIVATION", "Clip (c, low, high)")  # fmt: skip
DEAD = HEAD.replace("ACTIVATION", "Relu (n)").replace("  f =", "  a = Abs (c)\n  n = Neg (a)\n  f =")
OVERFLOWS = HEAD.replace("ACTIVATION", "Relu (s)").replace("  f =", "  r = Relu (c)\n  z = Sub (r, r)\n  q = Sqrt (z)\n  s = Add (r, q)\n  f =")  # fmt: skip
"""The square root's slope at zero is infinite."""


def weights(proto: onnx.ModelProto) -> tuple[Array, Array]:
    tensors = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    return convolution_matrix(tensors["w"], IMAGE.shape), tensors["v"]


def linear_slope(proto: onnx.ModelProto) -> Array:
    """(3,16,12) d logit / d pixel of LINEAR, the same for every picture."""
    matrix, head = weights(proto)
    return (np.repeat(head[TARGET] / 48, 48) @ matrix).reshape(IMAGE.shape)


def largest(slope: Array) -> Array:
    return slope[np.abs(slope).argmax(axis=0), *np.indices(SIZE)]


def test_the_gradient_of_a_linear_model_is_its_weights() -> None:
    proto = model(LINEAR)
    (outcome,) = run(gradient(), probe(proto, gradient()))
    np.testing.assert_allclose(outcome.raw, largest(linear_slope(proto)), rtol=1e-4, atol=1e-7)
    assert (outcome.raw < 0).any()  # the raw map keeps the sign


def test_noise_does_not_change_the_gradient_of_a_linear_model() -> None:
    proto, method = model(LINEAR), smooth_grad(samples=40, noise=3.0)
    (outcome,) = run(method, probe(proto, method))
    np.testing.assert_allclose(outcome.raw, largest(linear_slope(proto)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fill", [ZERO, MEAN])
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_integrated_gradients_of_a_linear_model_are_weight_times_change_at_any_number_of_steps(
    steps: int, fill: Fill
) -> None:
    proto, method = model(LINEAR), integrated_gradients(steps=steps, fill=fill)
    (outcome,) = run(method, probe(proto, method))
    baseline = 0 if fill is ZERO else IMAGE.mean(axis=(1, 2), keepdims=True)
    expected = (linear_slope(proto) * (IMAGE - baseline)).sum(axis=0)
    np.testing.assert_allclose(outcome.raw, expected, atol=1e-5 * np.abs(expected).max())
    assert outcome.notes[0].text.startswith("complete")


def stated(outcome: Outcome) -> tuple[float, float]:
    """The note's attributions' sum and the logit's change."""
    total, change = re.findall(r"(?:sum to|changes by) (-?[\d.e-]+)", outcome.notes[0].text)
    return float(total), float(change)


@pytest.mark.parametrize("fill", [ZERO, MEAN])
def test_the_attributions_sum_to_the_change_of_the_logit_and_the_note_says_how_well(fill: Fill) -> None:
    image, net, gaps = IMAGE + np.float32(0.5), Net(model()), []
    baseline = np.zeros_like(image) if fill is ZERO else np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape)
    change = np.subtract(*net.logits(np.stack([image, baseline]))[:, TARGET])
    for steps in (2, 20, 200):
        method = integrated_gradients(steps=steps, fill=fill)
        (outcome,) = run(method, probe(model(), method, image))
        assert stated(outcome) == (pytest.approx(outcome.raw.sum(dtype=float), rel=1e-3), pytest.approx(change, rel=1e-3))  # fmt: skip
        gaps.append(abs(outcome.raw.sum(dtype=float) - change))
        assert outcome.notes[0].text.startswith("complete" if gaps[-1] <= 0.01 * abs(change) else "not complete")
    assert gaps[2] < 0.01 * abs(change) < gaps[0]


def test_the_way_starts_at_the_baseline_ends_at_the_picture_and_takes_every_step_once() -> None:
    method = integrated_gradients(steps=45, fill=MEAN)
    seen = Watched(probe(model(), method))
    run(method, seen)
    assert max(len(i) for i in seen.images) <= 16
    images = np.concatenate(seen.images)
    change = IMAGE - seen.fill
    places = ((images - seen.fill) * change).sum((1, 2, 3)) / (change**2).sum()
    assert len(images) == 45 == len(np.unique(places.round(6)))
    assert (places.min(), places.max()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))
    np.testing.assert_allclose(images, seen.fill + places[:, None, None, None] * change, atol=1e-5)


class Slope:
    """A probe whose logit is a function of the picture's mean, and its gradient a given function of it."""

    size, fill, targets = SIZE, np.zeros((3, *SIZE), np.float32), 1
    image = np.ones((3, *SIZE), np.float32)

    def __init__(self, logit: Any, slope: Any) -> None:
        self.logit, self.slope, self.places = logit, slope, []

    def expect(self, passes: int) -> None:
        pass

    def image_gradient(self, images: Array, targets: Array, *, guided: bool = False) -> tuple[Array, Array]:
        at = images.mean(axis=(1, 2, 3), dtype=np.float64)
        self.places += at.tolist()
        spread = np.broadcast_to(self.slope(at).reshape(-1, 1, 1, 1) / images[0].size, images.shape)
        return self.logit(at).astype(np.float32), spread.astype(np.float32)


def test_steps_are_added_where_the_logit_changes_the_fastest() -> None:
    """A step of the logit at a tenth of the way, of which even steps miss a tenth."""

    def logit(at: Array) -> Array:
        return np.tanh((at - 0.1) * 400)

    slope_probe = Slope(logit, lambda at: 400 * (1 - logit(at) ** 2))
    with pytest.raises(UndefinedSaliency, match="constant"):  # every pixel has the same share
        run(integrated_gradients(steps=200), slope_probe)
    even = np.linspace(0, 1, 200)
    missed = abs(np.trapezoid(400 * (1 - logit(even) ** 2), even) - 2)
    places = np.sort(slope_probe.places)
    gap = abs(np.trapezoid(400 * (1 - logit(places) ** 2), places) - 2)
    assert gap < 1e-3 < 0.2 < missed
    assert (np.abs(places - 0.1) < 0.05).sum() > 100


class Constant(Slope):
    """A probe with this gradient at the first colour, at any image."""

    def __init__(self, map_: Array) -> None:
        self.size = map_.shape
        self.gradient = np.zeros((3, *map_.shape), np.float32)
        self.gradient[0] = map_

    def image_gradient(self, images: Array, targets: Array, *, guided: bool = False) -> tuple[Array, Array]:
        return np.zeros(len(images), np.float32), np.repeat(self.gradient[None], len(images), 0)


def test_outliers_are_cut_at_the_99th_percentile() -> None:
    slope = np.arange(192, dtype=np.float32).reshape(SIZE)
    slope[0, 0] = -1e6
    (outcome,) = run(gradient(), Constant(slope))
    # Sorted sizes are 1 to 191 and 1e6; the percentile lies at place 0.99 * 191 = 189.09, between 190 and 191.
    cap = 190.09
    np.testing.assert_allclose(outcome.map, (np.minimum(np.abs(slope), cap) - 1) / (cap - 1), atol=1e-6)
    assert outcome.raw[0, 0] == -1e6


def test_where_less_than_one_pixel_in_a_hundred_has_a_gradient_the_largest_counts() -> None:
    slope = np.zeros((20, 20), np.float32)
    slope[3, 4], slope[5, 6], slope[7, 8] = -2, 0.5, 1
    (outcome,) = run(gradient(), Constant(slope))
    np.testing.assert_array_equal(outcome.map, np.abs(slope) / 2)


def test_guided_backpropagation_goes_through_a_relu_with_a_ceiling() -> None:
    proto = model(CEILING)
    matrix, head = weights(proto)
    before = matrix @ IMAGE.reshape(-1)
    slope = relu(np.repeat(head[TARGET] / 48, 48)) * ((before > 0) & (before < 1))
    expected = largest((slope @ matrix).reshape(IMAGE.shape))
    (outcome,) = run(guided_backprop(), probe(proto, guided_backprop()))
    np.testing.assert_allclose(outcome.raw, expected, atol=1e-6)
    np.testing.assert_allclose(outcome.map, stretch(np.minimum(np.abs(expected), np.percentile(np.abs(expected), 99))), atol=1e-5)  # fmt: skip


def test_guided_backpropagation_needs_a_relu() -> None:
    with pytest.raises(UndefinedSaliency, match="none on the way; use gradient or smooth-grad"):
        explained(model(BENT), guided_backprop())


@pytest.mark.parametrize(
    "method", [gradient(), guided_backprop(), smooth_grad(samples=3), integrated_gradients(steps=5)]
)
def test_gradients_of_zero_and_of_no_number_are_errors(method: Any) -> None:
    with pytest.raises(UndefinedSaliency, match="zero at every pixel; use a method without gradients"):
        explained(model(DEAD), method, image=IMAGE)
    with pytest.raises(UndefinedSaliency, match="NaN or infinite"):
        explained(model(OVERFLOWS), method)


def test_noisy_copies_are_made_a_few_at_a_time() -> None:
    method = smooth_grad(samples=50)
    seen = Watched(probe(model(), method))
    run(method, seen)
    assert [len(i) for i in seen.images] == [16, 16, 16, 2]
