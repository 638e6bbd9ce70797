"""Two small networks, as ONNX and in plain numpy in float64, and what the methods' definitions share.

Net and what follows it share no code with onnxcam; probe() and explained() open the ONNX file for a method under test.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from small_models import CLASSIFIER, filled

from onnxcam import Explainer
from onnxcam.inputs.presets import preset_named
from onnxcam.methods import METHODS, defaults
from onnxcam.methods.adam import Adam
from onnxcam.methods.blocks import Method
from onnxcam.network.gradients import GradientRunner
from onnxcam.network.opening import OpenOptions, open_model
from onnxcam.network.probe import ImageProbe
from onnxcam.outputs.saliency import Saliency
from onnxcam.surgeon.graphs.masked_score import TARGETS
from onnxcam.surgeon.loading import read_model
from onnxcam.types import Score

Array = np.ndarray
SIZE, GRID, CLASSES, TARGET = (16, 12), (4, 3), 5, 4

DENSE = """
<ir_version: 8, opset_import: ["" : 17]>
dense (float[N,3,16,12] x) => (float[N,5] logits)
<float[6,3,3,3] w1, float[8,6,3,3] w2, float[10,96] w3, float[5,10] w4>
{
  c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
  r1 = Relu (c1)
  c2 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (r1, w2)
  features = Relu (c2)
  flat = Flatten (features)
  hidden = Gemm <transB=1> (flat, w3)
  bent = Tanh (hidden)
  logits = Gemm <transB=1> (bent, w4)
}
"""
"""As CLASSIFIER, with a head that is bent and tells the cells apart."""

IMAGE = np.random.default_rng(5).standard_normal((3, *SIZE)).astype(np.float32)


def model(text: str = DENSE) -> onnx.ModelProto:
    return filled(text)


OPTIONS = {
    "opti-cam": {"max_iter": 15},
    "smooth-grad": {"samples": 20},
    "rise": {"masks": 100, "cells": 3},
    "mask": {"max_iter": 15, "jitter": 0, "cell": 4},
    "integrated-gradients": {"steps": 300},
}
"""Few rows, and where steps are drawn at random none; else a method's defaults."""
LINEAR_HEAD = ("cam",)


CHANGED: dict[str, Any] = {
    "variant": "paper", "score": "probability", "max_iter": 7, "lr": 0.03, "nb_premises_at_startup": 3,
    "bounds": (-1, 2), "tolerance": 1e-3, "epsilon": 1e-5, "seed": 11, "samples": 9, "noise": 0.25, "steps": 17,
    "masks": 33, "cells": 4, "probability": 0.25, "cell": 5, "area": 0.5, "budget": 9, "variation": 0.75, "beta": 2.5, "jitter": 2,
}  # fmt: skip
"""Values that are no default."""
EVERY_OPTION = [(method, option) for method in METHODS for option in defaults(method) if option != "fill"]
"""Every option of every method but the fill."""


def changed_value(option: str, name: str) -> Any:
    """A value for the method's option that is not its default."""
    if option == "convention":
        return "destructive" if defaults(name)["convention"] == "constructive" else "constructive"
    return CHANGED[option]


def small_method(name: str, **options: object) -> Method:
    return METHODS[name](**{**OPTIONS.get(name, {}), **options})


def network(name: str) -> onnx.ModelProto:
    return model(CLASSIFIER if name in LINEAR_HEAD else DENSE)


class Net:
    """CLASSIFIER's and DENSE's arithmetic, written down again."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        weights = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
        self.w1, self.w2, self.w3 = weights["w1"], weights["w2"], weights["w3"]
        self.w4, self.b3 = weights.get("w4"), weights.get("b3")
        self.matrices = convolution_matrix(self.w1, (3, *SIZE)), convolution_matrix(self.w2, (6, 8, 6))

    def features(self, images: Array) -> Array:
        return relu(conv(relu(conv(images, self.w1)), self.w2))

    def tail(self, features: Array) -> Array:
        """(N,8,4,3) to (N,5)."""
        if self.w4 is None:
            return features.mean(axis=(2, 3)) @ self.w3.T + self.b3
        return np.tanh(features.reshape(len(features), -1) @ self.w3.T) @ self.w4.T

    def logits(self, images: Array) -> Array:
        return self.tail(self.features(np.asarray(images, np.float64)))

    def probabilities(self, images: Array) -> Array:
        return softmax(self.logits(images))

    def feature_slope(self, image: Array, target: int) -> Array:
        """(8,4,3) d logit / d features by finite differences."""
        return finite(lambda f: self.tail(f)[:, target], self.features(image[None].astype(np.float64))[0])

    def image_slopes(self, images: Array, target: int, *, guided: bool = False) -> Array:
        """(N,3,16,12) of the bent head, by transposed matrices. guided: negative slopes do not pass back a ReLU."""
        hold = relu if guided else np.asarray
        images = np.asarray(images, np.float64)
        first, second = self.matrices
        before = images.reshape(len(images), -1) @ first.T
        between = relu(before) @ second.T
        bent = np.tanh(relu(between) @ self.w3.T)
        slope = (self.w4[target] * (1 - bent**2)) @ self.w3
        slope = (hold(slope) * (between > 0)) @ second
        return ((hold(slope) * (before > 0)) @ first).reshape(images.shape)


def conv(x: Array, w: Array) -> Array:
    """3x3, stride 2, padding 1; tap after tap."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = x.shape[2], x.shape[3]
    taps = [(i, j) for i in range(3) for j in range(3)]
    return sum(
        np.einsum("nchw,kc->nkhw", padded[:, :, i : i + rows : 2, j : j + columns : 2], w[:, :, i, j]) for i, j in taps
    )


def convolution_matrix(w: Array, shape: tuple[int, ...]) -> Array:
    """conv() as a matrix: what it makes of each unit vector."""
    size = int(np.prod(shape))
    return conv(np.eye(size).reshape(size, *shape), w).reshape(size, -1).T


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def finite(f: Callable[[Array], Array], x: Array, nudge: float = 1e-6) -> Array:
    """df/dx by central differences. f: (N,*x.shape) to (N,)."""
    steps = nudge * np.eye(x.size).reshape(x.size, *x.shape)
    return ((f(x + steps) - f(x - steps)) / (2 * nudge)).reshape(x.shape)


def enlarge(grid: Array, size: tuple[int, ...] = SIZE) -> Array:
    """(...,h,w) to (...,H,W), linear between the cells' centres, flat beyond the outer ones."""
    grid = np.asarray(grid, np.float64)
    for axis, pixels in zip(range(-len(size), 0), size, strict=True):
        cells = grid.shape[axis]
        at = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
        grid = np.apply_along_axis(lambda line, at=at, cells=cells: np.interp(at, np.arange(cells), line), axis, grid)
    return grid


def stretch(a: Array) -> Array:
    """Each (H,W) to [0,1]."""
    low, high = a.min(axis=(-2, -1), keepdims=True), a.max(axis=(-2, -1), keepdims=True)
    return (a - low) / (high - low)


def adam(slope: Callable[[Array], Array], start: Array, rate: float, keep: Callable[[Array], Array]) -> Iterator[Array]:
    """Kingma & Ba's Algorithm 1 line by line: start and every later place. slope: of what is minimised."""
    place, m, v, t = start, np.zeros_like(start), np.zeros_like(start), 0
    while True:
        yield place
        t += 1
        g = slope(place)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        place = keep(place - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))


def watched_adam(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Array, Array]]:
    """(values, the slope passed to Adam) of every step from now on."""
    adam_steps: list[tuple[Array, Array]] = []
    step = Adam.step

    def watched(self: Adam, values: Array, gradient: Array, rows: Array) -> Array:
        adam_steps.append((values.copy(), gradient.copy()))
        return step(self, values, gradient, rows)

    monkeypatch.setattr(Adam, "step", watched)
    return adam_steps


def probe(proto: onnx.ModelProto, method: Method, image: Array = IMAGE, targets: tuple[int, ...] = (TARGET,)) -> ImageProbe:  # fmt: skip
    """What the explainer shows to a method."""
    filled_in = method.perturb.make
    options = OpenOptions(providers=("cpu",), with_fill=filled_in is not None, form=method.form)
    opened = open_model(read_model(proto), options)
    fill = filled_in(image, preset_named("imagenet")) if filled_in is not None else np.zeros_like(image)
    feeds = {**opened.network.feeds(image, fill, opened.inputs), TARGETS: np.asarray(targets)}
    features, values = opened.network.forward(feeds)
    scores = {Score.LOGIT: values, Score.PROBABILITY: softmax(values)}
    originals = {score: numbers[list(targets)].astype(np.float32) for score, numbers in scores.items()}
    return ImageProbe(GradientRunner(opened), image, fill, feeds, features, originals)


class Watched:
    """A probe that remembers the masks and the images that it ran."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.masks: list[Array] = []
        self.images: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def score(self, masks: Array, score: Score) -> Array:
        self.masks.append(masks)
        return self.inner.score(masks, score)

    def score_gradient(self, maps: Array, targets: Array, score: Score, shift: Any = None) -> tuple[Array, Array]:
        self.masks.append(maps)
        return self.inner.score_gradient(maps, targets, score, shift)

    def image_gradient(self, images: Array, targets: Array, *, guided: bool = False) -> tuple[Array, Array]:
        self.images.append(images)
        return self.inner.image_gradient(images, targets, guided=guided)


def explained(proto: onnx.ModelProto, method: Method, targets: tuple[int, ...] = (TARGET,), image: Array = IMAGE) -> list[Saliency]:  # fmt: skip
    """Through the front door."""
    with Explainer(proto, method, providers=["cpu"]) as explainer:
        return explainer.explain(image, targets)
