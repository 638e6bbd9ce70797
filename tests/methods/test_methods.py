"""Every method's map, recomputed in numpy from its paper's equations on a network that is written out in tiny.py."""

from collections.abc import Callable

import numpy as np
import pytest
from tiny import (
    GRID,
    IMAGE,
    SIZE,
    TARGET,
    Array,
    Net,
    Watched,
    adam,
    enlarge,
    finite,
    network,
    probe,
    relu,
    small_method,
    softmax,
    stretch,
)

from onnxcam.methods import METHODS
from onnxcam.methods.blocks import run

Reference = Callable[[Net, Array, int, Watched], Array]
REFERENCES: dict[str, Reference] = {}


def reference(name: str) -> Callable[[Reference], Reference]:
    def register(function: Reference) -> Reference:
        REFERENCES[name] = function
        return function

    return register


def cam_of(raw: Array) -> Array:
    return stretch(relu(enlarge(relu(raw))))


def maps_and_slope(net: Net, x: Array, target: int) -> tuple[Array, Array]:
    return net.features(x[None])[0], net.feature_slope(x, target)


@reference("score-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    total = np.zeros(SIZE)
    for feature in net.features(x[None])[0]:
        if np.ptp(feature) > 0:
            total += net.probabilities(x[None] * stretch(enlarge(feature)))[0, target] * enlarge(feature)
    return stretch(relu(total))


@reference("opti-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    features = net.features(x[None])[0]

    def combined(u: Array) -> Array:
        return np.tensordot(softmax(u), features, 1)

    def score(u: Array) -> Array:
        return net.logits(x * stretch(enlarge(combined(u)))[:, None])[:, target]

    walk = adam(lambda u: -finite(score, u), np.zeros(8), 0.2, lambda u: u)
    places = np.stack([next(walk) for _ in range(16)])
    return stretch(enlarge(combined(places[score(places).argmax()])))


@reference("grad-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, slope = maps_and_slope(net, x, target)
    return cam_of(sum(slope[k].sum() / 12 * maps[k] for k in range(8)))


@reference("grad-cam++")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, g = maps_and_slope(net, x, target)
    total = np.zeros(GRID)
    for k in range(8):
        below = 2 * g[k] ** 2 + maps[k].sum() * g[k] ** 3
        alpha = np.divide(g[k] ** 2, below, out=np.zeros(GRID), where=below != 0)
        total += (alpha * relu(g[k])).sum() * maps[k]
    return cam_of(total)


@reference("layer-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, slope = maps_and_slope(net, x, target)
    return cam_of(sum(relu(slope[k]) * maps[k] for k in range(8)))


@reference("hires-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, slope = maps_and_slope(net, x, target)
    return cam_of(sum(slope[k] * maps[k] for k in range(8)))


@reference("xgrad-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, slope = maps_and_slope(net, x, target)
    return cam_of(sum((slope[k] * maps[k] / maps[k].sum()).sum() * maps[k] for k in range(8) if maps[k].any()))


@reference("cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    return cam_of(np.tensordot(net.w3[target], net.features(x[None])[0], 1))


@reference("ablation-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps = net.features(x[None])
    whole, total = net.tail(maps)[0, target], np.zeros(GRID)
    for k in range(8):
        without = maps.copy()
        without[0, k] = 0
        total += (whole - net.tail(without)[0, target]) / abs(whole) * maps[0, k]
    return cam_of(total)


@reference("recipro-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    maps, raw = net.features(x[None]), np.zeros(GRID)
    for i, j in np.ndindex(GRID):
        alone = np.zeros_like(maps)
        alone[:, :, i, j] = maps[:, :, i, j]
        raw[i, j] = softmax(net.tail(alone))[0, target]
    return stretch(enlarge(raw))


@reference("eigen-cam")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    """The direction of the most variance among the cells, by powers of the covariance."""
    table = net.features(x[None])[0].reshape(8, -1)
    centred = table - table.mean(axis=1, keepdims=True)
    direction = np.ones(8)
    for _ in range(2000):
        direction = centred @ (centred.T @ direction)
        direction /= np.linalg.norm(direction)
    component = direction @ centred
    component *= np.sign(np.corrcoef(component, table.mean(axis=0))[0, 1])
    return cam_of(component.reshape(GRID))


def pixels(slope: Array) -> Array:
    """The largest colour of (3,H,W), cut off at the 99th percentile."""
    return strongest(slope[np.abs(slope).argmax(axis=0), *np.indices(SIZE)])


def strongest(raw: Array) -> Array:
    size = np.abs(raw)
    return stretch(np.minimum(size, np.percentile(size, 99)))


@reference("gradient")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    return pixels(finite(lambda images: net.logits(images)[:, target], x))


@reference("guided-backprop")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    return pixels(net.image_slopes(x[None], target, guided=True)[0])


@reference("smooth-grad")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    copies = np.concatenate(seen.images)
    assert len(copies) == 20
    noise = copies - x
    spread = 0.15 * np.ptp(x)
    assert noise.std() == pytest.approx(spread, rel=5 / np.sqrt(2 * noise.size))  # five standard errors
    assert abs(noise.mean()) < 5 * spread / np.sqrt(noise.size)
    return pixels(net.image_slopes(copies, target).mean(axis=0))


@reference("integrated-gradients")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    """1000 even steps from zero."""
    ways = (np.arange(1000) + 0.5) / 1000
    return strongest((net.image_slopes(ways[:, None, None, None] * x, target).mean(axis=0) * x).sum(axis=0))


@reference("rise")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    masks = np.concatenate(seen.masks)[:, 0].astype(np.float64)
    assert masks.shape == (100, *SIZE)
    return stretch(sum(net.probabilities((x * m)[None])[0, target] * m for m in masks))


@reference("mask")
def _(net: Net, x: Array, target: int, seen: Watched) -> Array:
    """The deletion game's objective as it is written, its slope by finite differences."""

    def objective(m: Array) -> Array:
        large = enlarge(m)[:, None]
        score = net.probabilities(x * large + seen.fill * (1 - large))[:, target]
        down, right = (np.mean(np.abs(np.diff(m, axis=a)) ** 3, axis=(1, 2)) for a in (1, 2))
        return score + 0.01 * (1 - m).mean(axis=(1, 2)) + 0.2 * (down + right)

    walk = adam(lambda m: finite(objective, m), np.ones(GRID), 0.1, lambda m: np.clip(m, 0, 1))
    *_, last = (next(walk) for _ in range(16))
    return stretch(enlarge(1 - last))


INTEGRAL = 1e-3
"""What 300 and 1000 steps of one integral may differ by; all else loses single precision's rounding alone."""


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_the_map_of_its_equations(name: str) -> None:
    proto, method = network(name), small_method(name)
    seen = Watched(probe(proto, method))
    (outcome,) = run(method, seen)
    assert name in REFERENCES, f"write the equations of {name} in numpy, under @reference({name!r}), in this file"
    expected = REFERENCES[name](Net(proto), IMAGE.astype(np.float64), TARGET, seen)
    assert outcome.map.dtype == np.float32
    np.testing.assert_allclose(outcome.map, expected, atol=INTEGRAL if name == "integrated-gradients" else 1e-5)
